import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import { RawUpstream } from '../proxy/support/upstream.ts';
import { RawClient, TestWorker } from '../proxy/support/worker.ts';

const GET = 'GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n';

/** Writes with backpressure, until the reader is gone. */
async function pour(socket: Socket, block: Buffer, times: number): Promise<void> {
  for (let left = times; left > 0 && !socket.destroyed; left--) {
    if (socket.write(block)) continue;
    const given = new AbortController();
    await Promise.race([
      once(socket, 'drain', { signal: given.signal }),
      once(socket, 'close', { signal: given.signal }),
    ]).finally(() => given.abort());
  }
}

test('a response that comes byte by byte does not wait byte by byte for a client that does not read', async (t) => {
  // More than the kernel keeps for a client that does not read, so that all that comes after it has to wait here.
  const ahead = Buffer.alloc(16 * 2 ** 20, 'x');
  const bytes = 1_000_000;
  const done = Promise.withResolvers<void>();
  const upstream = await RawUpstream.start(t, (socket, text) => {
    if (!text.includes('\r\n\r\n')) return false;
    socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n');
    const block = Buffer.from('1\r\nx\r\n'.repeat(10_000));
    socket.write(`${ahead.length.toString(16)}\r\n`);
    void pour(socket, ahead, 1)
      .then(() => socket.write('\r\n'))
      .then(() => pour(socket, block, bytes / 10_000))
      .then(() => socket.write('0\r\n\r\n', () => done.resolve()));
    return true;
  });
  const worker = await TestWorker.start(t, { route: { active: upstream.target } });
  const client = await RawClient.connect(t, worker.port);
  client.socket.pause();
  client.send(GET);
  await done.promise;
  await worker.statsWhen(
    ({ buffers, targets }) => buffers.spoolBytes > 0 && targets.every(({ inFlight }) => inFlight === 0),
  );
  client.socket.resume();
  const body = (await client.all()).split('\r\n\r\n').slice(1).join('\r\n\r\n');
  const chunks = body.match(/^[0-9a-f]+\r$/gm) ?? [];
  assert.equal(
    chunks.reduce((sum, size) => sum + Number.parseInt(size, 16), 0),
    ahead.length + bytes,
  );
  assert.ok(chunks.length < bytes / 50, `${chunks.length} chunks`);
});

test('interim responses without end do not pile up for a client that does not read', async (t) => {
  const interim = Buffer.from(`HTTP/1.1 103 Early Hints\r\nLink: ${'x'.repeat(8_000)}\r\n\r\n`);
  const sent = 8_000;
  const done = Promise.withResolvers<void>();
  const upstream = await RawUpstream.start(t, (socket, text) => {
    if (!text.includes('\r\n\r\n')) return false;
    void pour(socket, interim, sent).then(() => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood', () => done.resolve());
    });
    return true;
  });
  const worker = await TestWorker.start(t, { route: { active: upstream.target } });
  const client = await RawClient.connect(t, worker.port);
  client.socket.pause();
  client.send(GET);
  await done.promise;
  await worker.statsWhen(({ targets }) => targets.every(({ inFlight }) => inFlight === 0));
  client.socket.resume();
  const text = await client.all();
  assert.match(text.slice(-2_000), /HTTP\/1\.1 200 OK\r\n[^]*\r\n\r\ngood$/);
  const received = text.match(/HTTP\/1\.1 103 /g)?.length ?? 0;
  // What the kernel keeps for a client that does not read is a few MB of these 64.
  assert.ok(received > 0 && received < sent / 2, `${received} of ${sent}`);
});

test('interim responses without end do not keep a client waiting longer than --response-timeout', async (t) => {
  const upstream = await RawUpstream.start(t, (socket, text) => {
    if (!text.includes('\r\n\r\n')) return false;
    const drip = setInterval(() => socket.write('HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n'), 50);
    socket.once('close', () => clearInterval(drip));
    return true;
  });
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, flags: ['--response-timeout=400ms'] });
  const client = await RawClient.connect(t, worker.port);
  client.send(GET);
  assert.match(await client.all(), /^(?:HTTP\/1\.1 103 [^]*?\r\n\r\n)+HTTP\/1\.1 504 [^]*upstream_timeout/);
  await upstream.abandoned();
});

for (const [what, version] of [
  ['a response without any length', 'HTTP/1.1'],
  ['a response of an HTTP/1.0 application', 'HTTP/1.0'],
] as const) {
  test(`${what} that ends with a reset is not passed on as whole`, async (t) => {
    const upstream = await RawUpstream.start(t, (socket, text) => {
      if (!text.includes('\r\n\r\n')) return false;
      socket.write(`${version} 200 OK\r\n\r\nhalf of it`);
      return true;
    });
    const worker = await TestWorker.start(t, { route: { active: upstream.target } });
    const client = await RawClient.connect(t, worker.port);
    client.send(GET);
    await client.until(/half of it/);
    for (const socket of upstream.sockets) socket.resetAndDestroy();
    assert.doesNotMatch(await client.all(), /\r\n0\r\n\r\n$/);
  });
}
