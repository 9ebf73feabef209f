import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';
import { Load } from './load.ts';

async function serverForTest(t: TestContext, listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Answers as the test application does, with what `change` makes of it. */
function echoing(change: (echo: Record<string, unknown>, number: number) => void = () => {}): RequestListener {
  let number = 0;
  return (incoming, outgoing) => {
    const digest = createHash('sha256');
    incoming.on('data', (chunk: Buffer) => digest.update(chunk));
    incoming.on('end', () => {
      const echo = { version: 'v1', url: incoming.url, sha256: digest.digest('hex') };
      change(echo, number++);
      outgoing.end(JSON.stringify(echo));
    });
  };
}

test('requests that come back as they were sent are counted by version', async (t) => {
  const address = await serverForTest(
    t,
    echoing((echo, number) => {
      if (number >= 50) echo.version = 'v2';
    }),
  );
  const load = new Load(t, address, { connections: 8, slowEvery: 0, limit: 120 });
  await load.answered(120);
  const { records, outcomes, versions } = await load.stop();
  assert.deepEqual(outcomes, { ok: 120 });
  assert.deepEqual(versions, { v1: 50, v2: 70 });
  assert.equal(new Set(records.map(({ id }) => id)).size, 120);
});

test('an answer to another request, and a body that was changed, are told', async (t) => {
  const address = await serverForTest(
    t,
    echoing((echo, number) => {
      if (number === 3) echo.url = '/load?load=another';
      if (number === 5) echo.sha256 = createHash('sha256').update('another').digest('hex');
    }),
  );
  const load = new Load(t, address, { connections: 1, slowEvery: 0, limit: 10 });
  await load.answered(10);
  assert.deepEqual((await load.stop()).outcomes, { ok: 8, 'wrong id': 1, 'wrong body': 1 });
});

test('refusals, broken connections and answers of others are told', async (t) => {
  let number = 0;
  const good = echoing();
  const address = await serverForTest(t, (incoming, outgoing) => {
    incoming.resume();
    switch (number++) {
      case 2:
        return void outgoing.writeHead(502).end();
      case 4:
        return void incoming.socket.resetAndDestroy();
      case 6:
        outgoing.writeHead(200, { 'content-length': 100 });
        return void outgoing.write('half', () => incoming.socket.destroy());
      case 8:
        return void outgoing.end('<html>');
      default:
        good(incoming, outgoing);
    }
  });
  const load = new Load(t, address, { connections: 1, slowEvery: 0, limit: 10 });
  await load.answered(10);
  const { outcomes } = await load.stop();
  assert.deepEqual(outcomes, { ok: 6, 'status 502': 1, ECONNRESET: 2, 'no echo': 1 });
});

test('a load that is stopped waits for its answers and sends no more', async (t) => {
  let seen = 0;
  const good = echoing();
  const address = await serverForTest(t, (incoming, outgoing) => {
    seen++;
    good(incoming, outgoing);
  });
  const load = new Load(t, address, { connections: 4 });
  await load.answered(20);
  const { records, outcomes } = await load.stop();
  assert.equal(records.length, seen);
  assert.deepEqual(outcomes, { ok: seen });
});
