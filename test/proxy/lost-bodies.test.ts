import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readlinkSync, rmSync, truncateSync } from 'node:fs';
import type * as http from 'node:http';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { testData } from './support/data.ts';
import { Upstream } from './support/upstream.ts';
import { RawClient, TestWorker } from './support/worker.ts';

/*
 * What is on disk may be lost there. The file that a worker holds open is emptied behind its back.
 */

const DATA = testData(20 * 2 ** 20);

/** A worker that keeps bodies on disk, and what empties the files in which they are. */
async function start(
  t: TestContext,
  handler: http.RequestListener,
): Promise<{ worker: TestWorker; upstream: Upstream; lose: () => void }> {
  const directory = mkdtempSync(join(tmpdir(), 'lost-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const upstream = await Upstream.start(t, handler);
  const flags = ['--buffer-memory=64KiB', `--spool-dir=${directory}`];
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, flags });
  return {
    worker,
    upstream,
    lose() {
      const folder = `/proc/${worker.process.pid}/fd`;
      const files = readdirSync(folder).filter((fd) => readlinkSync(join(folder, fd)).startsWith(directory));
      assert.ok(files.length > 0);
      for (const fd of files) truncateSync(join(folder, fd));
    },
  };
}

for (const coding of ['identity', 'gzip']) {
  test(`a response (${coding}) that is lost on disk is broken off, and named as our failure`, async (t) => {
    const { worker, upstream, lose } = await start(t, (_, response) => {
      response.writeHead(200, { 'content-type': 'text/plain' });
      // Random data hardly shrinks; the end is still to come.
      response.write(DATA);
    });
    const client = await RawClient.connect(t, worker.port);
    client.socket.pause();
    const connected = once(upstream.server, 'connection');
    client.send(`GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: ${coding}\r\n\r\n`);
    const [socket] = (await connected) as [Socket];
    const left = once(socket, 'close');
    // Until all that came waits for the client, and nothing moves.
    let before = 0;
    await worker.statsWhen(({ buffers: { spoolBytes } }) => {
      const rests = spoolBytes > 0 && spoolBytes === before;
      before = spoolBytes;
      return rests;
    });
    lose();
    client.socket.resume();
    assert.doesNotMatch(await client.all(), /\r\n0\r\n\r\n$/);
    await left;
    const { errors } = await worker.statsWhen(({ requests }) => requests === 1);
    assert.deepEqual(errors, { internal_error: 1 });
    assert.match(worker.output, /a spool file is shorter than what was written to it/);
    await worker.quiet();
  });
}

test('a request body that is lost on disk is answered with 500', async (t) => {
  const { worker, upstream, lose } = await start(t, (request) => void request.socket.pause());
  const client = await RawClient.connect(t, worker.port);
  const asked = once(upstream.server, 'request');
  client.send(`POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ${DATA.length}\r\n\r\n`);
  client.send(DATA);
  const [request] = (await asked) as [http.IncomingMessage];
  lose();
  request.socket.resume();
  await client.until(/^HTTP\/1\.1 500 [^]*internal_error/);
  const { errors } = await worker.statsWhen(({ requests }) => requests === 1);
  assert.deepEqual(errors, { internal_error: 1 });
  await worker.quiet();
});
