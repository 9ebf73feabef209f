import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, request, type IncomingMessage, Agent } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { Tap, type Upstream } from './tap.ts';

/** Echoes bodies; `/stream` sends a byte whenever `tick` is called; upgrades echo raw bytes. */
async function upstreamForTest(t: TestContext, path?: string) {
  const ticks: (() => void)[] = [];
  const server = createServer((incoming, outgoing) => {
    outgoing.setHeader('X-Seen', incoming.headers.host ?? '');
    if (incoming.url === '/stream') {
      outgoing.flushHeaders();
      ticks.push(() => outgoing.write('.'));
    } else incoming.pipe(outgoing);
  });
  server.on('upgrade', (_incoming, socket, head) => {
    socket.on('error', () => {});
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n');
    socket.write(head);
    socket.pipe(socket);
  });
  server.listen(path === undefined ? { host: '127.0.0.1', port: 0 } : { path });
  await once(server, 'listening');
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const upstream: Upstream =
    path === undefined ? { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` } : { socketPath: path };
  return { upstream, ticks };
}

async function send(url: string, body = '', agent?: Agent): Promise<{ status: number; body: string; seen: unknown }> {
  const asked = request(url, { method: 'POST', agent, headers: { Host: 'the-host' } });
  asked.end(body);
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  const chunks = await response.toArray();
  return {
    status: response.statusCode ?? 0,
    body: Buffer.concat(chunks as Buffer[]).toString(),
    seen: response.headers['x-seen'],
  };
}

test('a tap forwards bodies both ways and keeps the host that was asked for', async (t) => {
  const { upstream } = await upstreamForTest(t);
  const tap = await Tap.start(t, upstream);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => {
    agent.destroy();
  });
  const body = 'x'.repeat(1_000_000);
  assert.deepEqual(await send(`${tap.url}/a?b=c`, body, agent), { status: 200, body, seen: 'the-host' });
  assert.deepEqual(await send(`${tap.url}/d`, 'again', agent), { status: 200, body: 'again', seen: 'the-host' });
  assert.deepEqual(
    tap.seen.map(({ method, path }) => `${method} ${path}`),
    ['POST /a?b=c', 'POST /d'],
  );
});

test('a tap reaches a unix socket from a unix socket', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'tap-'));
  t.after(() => {
    rmSync(dir, { recursive: true });
  });
  const { upstream } = await upstreamForTest(t, join(dir, 'up.sock'));
  await Tap.start(t, upstream, join(dir, 'tap.sock'));
  const asked = request({ socketPath: join(dir, 'tap.sock'), path: '/', method: 'POST' });
  asked.end('over sockets');
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  assert.equal(Buffer.concat((await response.toArray()) as Buffer[]).toString(), 'over sockets');
});

test('the hooks run before a request is forwarded and before its answer is', async (t) => {
  const { upstream } = await upstreamForTest(t);
  const tap = await Tap.start(t, upstream);
  const order: string[] = [];
  tap.before = ({ path }) => void order.push(`before ${path}`);
  tap.after = ({ path }) => void order.push(`after ${path}`);
  await send(`${tap.url}/one`);
  order.push('answered');
  assert.deepEqual(order, ['before /one', 'after /one', 'answered']);
});

test('a request whose hook cuts the tap is not forwarded, and the client is reset and then refused', async (t) => {
  const { upstream } = await upstreamForTest(t);
  const front = await Tap.start(t, upstream);
  const tap = await Tap.start(t, { url: front.url });
  tap.before = () => {
    tap.cut();
  };
  await assert.rejects(send(`${tap.url}/x`), { code: 'ECONNRESET' });
  await assert.rejects(send(`${tap.url}/x`), { code: 'ECONNREFUSED' });
  assert.equal(front.seen.length, 0);
  tap.before = () => {};
  await tap.restore();
  assert.equal((await send(`${tap.url}/x`, 'back')).body, 'back');
});

test('an answer can be lost after the request was carried out', async (t) => {
  const { upstream } = await upstreamForTest(t);
  const front = await Tap.start(t, upstream);
  const tap = await Tap.start(t, { url: front.url });
  tap.after = () => {
    tap.cut();
  };
  await assert.rejects(send(`${tap.url}/x`), { code: 'ECONNRESET' });
  assert.equal(front.seen.length, 1);
});

test('a tap that hangs accepts and stays silent until it is restored', async (t) => {
  const { upstream } = await upstreamForTest(t);
  const tap = await Tap.start(t, upstream);
  tap.hang();
  let answered = false;
  const reached = Promise.withResolvers<void>();
  const poll = setInterval(() => {
    if (tap.seen.length > 0) reached.resolve();
  }, 5);
  const sent = send(`${tap.url}/x`, 'late').finally(() => (answered = true));
  await reached.promise;
  clearInterval(poll);
  assert.equal(answered, false);
  await tap.restore();
  assert.equal((await sent).body, 'late');
});

test('a stream passes as it comes, and stands still while the tap hangs', async (t) => {
  const { upstream, ticks } = await upstreamForTest(t);
  const tap = await Tap.start(t, upstream);
  const asked = request(`${tap.url}/stream`).end();
  asked.on('error', () => {});
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  response.on('error', () => {});
  ticks[0]?.();
  assert.equal(String((await once(response, 'data'))[0]), '.');
  tap.hang();
  ticks[0]?.();
  const next = once(response, 'data');
  assert.equal(await Promise.race([next, settled('nothing')]), 'nothing');
  await tap.restore();
  assert.equal(String((await next)[0]), '.');
});

test('an answer of its own does not reach the upstream', async (t) => {
  const { upstream } = await upstreamForTest(t);
  const front = await Tap.start(t, upstream);
  const tap = await Tap.start(t, { url: front.url });
  tap.answer(503);
  assert.equal((await send(`${tap.url}/x`, 'body')).status, 503);
  assert.equal(front.seen.length, 0);
});

test('an upgraded connection is tunnelled until the tap is cut', async (t) => {
  const { upstream } = await upstreamForTest(t);
  const tap = await Tap.start(t, upstream);
  const asked = request(`${tap.url}/attach`, { headers: { Connection: 'Upgrade', Upgrade: 'tcp' } }).end();
  const [response, socket] = (await once(asked, 'upgrade')) as [IncomingMessage, Socket];
  assert.equal(response.statusCode, 101);
  socket.write('ping');
  assert.equal(String((await once(socket, 'data'))[0]), 'ping');
  const failed = once(socket, 'error');
  tap.cut();
  assert.equal((await failed)[0].code, 'ECONNRESET');
});

/** Resolves after everything that is ready now has had its turn on the loopback. */
async function settled<T>(value: T): Promise<T> {
  for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
  return value;
}
