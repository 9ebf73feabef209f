import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { readFileSync } from 'node:fs';
import type * as http from 'node:http';
import { test, type TestContext } from 'node:test';
import { CODINGS, decode, DecodedReader, openResponse } from './support/codings.ts';
import { digest } from './support/data.ts';
import { Random } from './support/random.ts';
import { RawUpstream, Upstream } from './support/upstream.ts';
import { RawClient, TestWorker } from './support/worker.ts';

const MIB = 2 ** 20;

/** Text of which little can be saved, so that what waits is still large when it is compressed. */
function dullText(length: number): Buffer {
  const random = new Random(length);
  const data = Buffer.alloc(length);
  for (let i = 0; i < length; i++) data[i] = 32 + random.below(64);
  return data;
}

/** An application that gives `data` as fast as it is taken. */
async function giver(
  t: TestContext,
  data: Buffer,
  headers: http.OutgoingHttpHeaders,
): Promise<{ bytes: number; upstream: Upstream }> {
  const given = { bytes: 0 };
  const upstream = await Upstream.start(t, (_, response) => {
    response.writeHead(200, headers);
    let at = 0;
    const more = () => {
      for (let ready = true; ready && at < data.length;) {
        const piece = data.subarray(at, at + 64 * 1024);
        at += piece.length;
        ready = response.write(piece);
        given.bytes = at;
      }
      if (at === data.length) response.end();
    };
    response.on('drain', more);
    more();
  });
  return Object.assign(given, { upstream });
}

const PARTS = [
  ['events', 'text/event-stream'],
  ['parts of a page', 'text/html'],
] as const;

for (const coding of CODINGS) {
  for (const [what, type] of PARTS) {
    test(`${what} arrive one by one as they are sent, in ${coding}`, async (t) => {
      const upstream = await RawUpstream.start(t, (socket) => {
        socket.write(`HTTP/1.1 200 OK\r\nContent-Type: ${type}\r\nTransfer-Encoding: chunked\r\n\r\n`);
        upstream.events.on('part', (text: string) => socket.write(`${text.length.toString(16)}\r\n${text}\r\n`));
        upstream.events.once('last', () => socket.write('0\r\n\r\n'));
        return true;
      });
      const worker = await TestWorker.start(t, { route: { active: upstream.target } });
      const response = await openResponse(t, worker.port, coding);
      assert.equal(response.headers['content-encoding'], coding);
      const reader = new DecodedReader(response, coding);
      for (let i = 0; i < 5; i++) {
        upstream.events.emit('part', `data: ${i}\n\n`);
        await reader.until(`data: ${i}\n\n`);
      }
      upstream.events.emit('last');
      await once(response, 'end');
      assert.equal(reader.text, [0, 1, 2, 3, 4].map((i) => `data: ${i}\n\n`).join(''));
      await worker.quiet();
    });
  }

  test(`a container is free when its response is here, and what waits for a slow client is in ${coding}`, async (t) => {
    const data = dullText(24 * MIB);
    const { upstream } = await giver(t, data, { 'content-type': 'text/plain', 'content-length': data.length });
    const worker = await TestWorker.start(t, { route: { active: upstream.target } });
    const response = await openResponse(t, worker.port, coding);
    response.pause();
    await worker.statsWhen(
      (now) => worker.runningOn(upstream.target, now).inFlight === 0 && now.targets[0]?.requests === 1,
    );
    // Six bits of eight are left; some of it is in the kernel's hands.
    const { buffers } = await worker.statsWhen(({ buffers: { spoolBytes, memoryBytes } }) => {
      return spoolBytes > 8 * MIB && spoolBytes < 20 * MIB && memoryBytes < 2 * MIB;
    });
    t.diagnostic(JSON.stringify(buffers));
    const body = Buffer.concat((await response.toArray()) as Buffer[]);
    assert.equal(digest(decode(coding, body)), digest(data));
    await worker.quiet();
  });

  test(`a response in ${coding} that the application breaks off never looks whole`, async (t) => {
    const upstream = await RawUpstream.start(t, (socket) => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n');
      socket.write(`${(100_000).toString(16)}\r\n${'some text '.repeat(10_000)}\r\n`);
      upstream.events.once('break', () => socket.destroy());
      return true;
    });
    const worker = await TestWorker.start(t, { route: { active: upstream.target } });
    for (const version of ['1.1', '1.0']) {
      const client = await RawClient.connect(t, worker.port);
      client.send(`GET / HTTP/${version}\r\nHost: a\r\nAccept-Encoding: ${coding}\r\n\r\n`);
      await client.until(/\r\n\r\n[^]{20}/);
      assert.match(client.text, new RegExp(`\r\nContent-Encoding: ${coding}\r\n`));
      upstream.events.emit('break');
      await client.closed;
      assert.ok(!client.text.endsWith('\r\n0\r\n\r\n'), 'no last chunk');
      if (version === '1.0') assert.equal(client.error?.code, 'ECONNRESET');
      const body = client.received.subarray(client.received.indexOf('\r\n\r\n') + 4);
      if (version === '1.0') assert.throws(() => decode(coding, body));
    }
    await worker.quiet();
  });
}

test('a response of known length that breaks off before it was begun is an error', async (t) => {
  const upstream = await RawUpstream.start(t, (socket) => {
    socket.write('HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 20000\r\n\r\nhalf', () =>
      socket.destroy(),
    );
    return true;
  });
  const worker = await TestWorker.start(t, { route: { active: upstream.target } });
  const client = await RawClient.connect(t, worker.port);
  client.send('GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n');
  assert.match(await client.until(/upstream_broken, request/), /^HTTP\/1\.1 502 /);
  await worker.quiet();
});

test('a client that leaves while a body of known length is awaited ends that at the container', async (t) => {
  const upstream = await RawUpstream.start(t, (socket) => {
    socket.write('HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 20000\r\n\r\nhalf');
    return true;
  });
  const worker = await TestWorker.start(t, { route: { active: upstream.target } });
  const client = await RawClient.connect(t, worker.port);
  client.send('GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n');
  await worker.statsWhen(({ buffers }) => buffers.memoryBytes === 20_000);
  client.socket.destroy();
  await upstream.abandoned();
  await worker.quiet();
  assert.equal(worker.stats?.statusCodes['499'], 1);
});

test('the container of an event stream is held back by a slow client, and nothing is lost', async (t) => {
  const data = dullText(60 * MIB);
  const application = await giver(t, data, { 'content-type': 'text/event-stream' });
  const worker = await TestWorker.start(t, { route: { active: application.upstream.target } });
  const response = await openResponse(t, worker.port, 'zstd');
  response.pause();
  for (let before = -1; before !== application.bytes; await worker.message('stats')) before = application.bytes;
  assert.ok(application.bytes < 40 * MIB, `${application.bytes} bytes were taken though the client reads nothing`);
  assert.equal(worker.stats?.buffers.spoolBytes, 0);
  assert.ok((worker.stats?.buffers.memoryBytes ?? 0) <= MIB, JSON.stringify(worker.stats?.buffers));
  const body = Buffer.concat((await response.toArray()) as Buffer[]);
  assert.equal(digest(decode('zstd', body)), digest(data));
  await worker.quiet();
});

test('without room on disk the container is held back, and nothing is lost', async (t) => {
  const data = dullText(40 * MIB);
  const application = await giver(t, data, { 'content-type': 'text/plain' });
  const flags = ['--spool-max=1MiB', '--buffer-memory=64KiB'];
  const worker = await TestWorker.start(t, { route: { active: application.upstream.target }, flags });
  const response = await openResponse(t, worker.port, 'gzip');
  response.pause();
  for (let before = -1; before !== application.bytes; await worker.message('stats')) before = application.bytes;
  assert.ok(application.bytes < 30 * MIB, `${application.bytes} bytes were taken though there is no room`);
  const body = Buffer.concat((await response.toArray()) as Buffer[]);
  assert.equal(digest(decode('gzip', body)), digest(data));
  await worker.quiet();
});

/** Resident memory of a process in MiB. */
function residentMemory(pid: number | undefined): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) / 1_024;
}

test('clients that leave free their encoders', async (t) => {
  const upstream = await Upstream.start(t, (_, response) => {
    response.writeHead(200, { 'content-type': 'text/plain' });
    response.write(dullText(100_000));
  });
  const worker = await TestWorker.start(t, { route: { active: upstream.target } });
  const round = async (): Promise<number> => {
    const responses = await Promise.all(
      Array.from({ length: 60 }, (_, i) => openResponse(t, worker.port, CODINGS[i % 3] ?? '')),
    );
    await worker.statsWhen(({ buffers }) => buffers.memoryBytes > 60 * MIB);
    await Promise.all(responses.map(async (response) => once(response, 'readable')));
    for (const response of responses) response.destroy();
    await worker.quiet();
    return residentMemory(worker.process.pid);
  };
  const first = await round();
  let last = first;
  for (let i = 0; i < 4; i++) last = await round();
  t.diagnostic(`${first.toFixed(0)} MiB after one round, ${last.toFixed(0)} after five`);
  // A round's encoders take some 75 MiB: four rounds of them would show.
  assert.ok(last - first < 150, `${first} → ${last} MiB`);
});

test('encoders have a part of the memory for bodies: responses beyond it go out as they are', async (t) => {
  const events = new EventEmitter().setMaxListeners(0);
  const upstream = await Upstream.start(t, (_, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream', vary: 'Cookie' });
    response.write('data: first\n\n');
    events.once('end', () => response.end('data: last\n\n'));
  });
  const flags = ['--buffer-memory-total=4MiB'];
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, flags });
  const responses = [];
  for (let i = 0; i < 8; i++) responses.push(await openResponse(t, worker.port, 'zstd'));
  assert.deepEqual(
    responses.map(({ headers }) => headers['content-encoding']),
    [...Array<string>(4).fill('zstd'), ...Array<undefined>(4).fill(undefined)],
  );
  for (const { headers } of responses) assert.equal(headers.vary, 'Cookie, Accept-Encoding');
  events.emit('end');
  for (const response of responses) {
    const body = Buffer.concat((await response.toArray()) as Buffer[]);
    assert.equal(decode(response.headers['content-encoding'], body).toString(), 'data: first\n\ndata: last\n\n');
  }
  await worker.quiet();
  assert.equal((await openResponse(t, worker.port, 'zstd')).headers['content-encoding'], 'zstd', 'there is room again');
});

test('what still runs on a container at its drain deadline is cut, compressed or not', async (t) => {
  const upstream = await Upstream.start(t, (_, response) => {
    response.writeHead(200, { 'content-type': 'text/plain' });
    response.write('beginning');
  });
  const worker = await TestWorker.start(t, { route: { active: upstream.target } });
  const response = await openResponse(t, worker.port, 'br');
  await once(response, 'readable');
  const broken = once(response, 'error');
  await worker.switchTo(null);
  worker.send({ type: 'cut', id: upstream.target.id });
  await broken;
  assert.equal(response.complete, false);
  await worker.quiet();
});
