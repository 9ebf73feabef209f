import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import type * as http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { bodyOf, digest, digester, testData } from './support/data.ts';
import { RawUpstream, Upstream } from './support/upstream.ts';
import { RawClient, TestWorker } from './support/worker.ts';

const MIB = 2 ** 20;

/** A folder of its own, or with `size` a file system of its own that has no more room than that. */
function spoolDirectory(t: TestContext, size?: string): string {
  const directory = mkdtempSync(join(tmpdir(), 'wunderproxy-test-'));
  if (size !== undefined) execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'none', directory]);
  t.after(() => {
    if (size !== undefined) execFileSync('umount', ['-l', directory]);
    rmSync(directory, { recursive: true, force: true });
  });
  return directory;
}

function post(length: number, path = '/', extra = ''): string {
  return `POST ${path} HTTP/1.1\r\nHost: a\r\nContent-Length: ${length}\r\n${extra}\r\n`;
}

/** An application that gives its whole response as fast as it is taken, and says how much was taken. */
async function giver(t: TestContext, data: Buffer, headers: http.OutgoingHttpHeaders = {}) {
  const given = { bytes: 0, finished: false };
  const upstream = await Upstream.start(t, (_, response) => {
    response.writeHead(200, headers);
    let at = 0;
    const more = () => {
      let ready = true;
      while (at < data.length && ready) {
        const piece = data.subarray(at, at + 64 * 1024);
        at += piece.length;
        ready = response.write(piece);
        given.bytes = at;
      }
      if (at === data.length) response.end();
    };
    response.on('drain', more);
    response.on('finish', () => (given.finished = true));
    more();
  });
  return { upstream, given };
}

test('a slow upload holds no container, and a switch meanwhile sends it to the new one', async (t) => {
  const old = await Upstream.start(t, digester);
  const fresh = await Upstream.start(t, digester);
  const worker = await TestWorker.start(t, { route: { active: old.target } });
  const data = testData(3 * MIB);
  const client = await RawClient.connect(t, worker.port);
  client.send(post(data.length));
  client.send(data.subarray(0, 2 * MIB));
  await worker.statsWhen(({ buffers }) => buffers.spoolBytes > MIB);
  await worker.switchTo(fresh.target);
  assert.deepEqual(worker.runningOn(old.target), { inFlight: 0, upgraded: 0 });
  client.send(data.subarray(2 * MIB));
  assert.ok((await client.until(/[0-9a-f]{64}/)).includes(digest(data)));
  assert.equal(old.begun.length, 0);
  assert.equal(fresh.begun.length, 1);
});

test('a body goes to disk when it outgrows its memory, without a name, and nothing of it stays', async (t) => {
  const directory = spoolDirectory(t);
  const upstream = await Upstream.start(t, digester);
  const flags = ['--buffer-memory=64KiB', `--spool-dir=${directory}`];
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, flags });
  const data = testData(2 * MIB);
  const client = await RawClient.connect(t, worker.port);
  client.send(post(data.length));
  client.send(data.subarray(0, MIB));
  const { buffers } = await worker.statsWhen(({ buffers: { spoolBytes } }) => spoolBytes === MIB);
  assert.deepEqual(buffers, { memoryBytes: 0, spoolBytes: MIB, spoolFiles: 1 });
  assert.deepEqual(readdirSync(directory), []);
  client.send(data.subarray(MIB));
  assert.ok((await client.until(/[0-9a-f]{64}/)).includes(digest(data)));
  await worker.quiet();
});

/** What a larger body takes up in memory: blocks of 64 KiB. */
function inBlocks(length: number): number {
  return Math.ceil(length / 65_536) * 65_536;
}

test('memory is counted exactly, and given back', async (t) => {
  const held: http.ServerResponse[] = [];
  const upstream = await Upstream.start(t, (request, response) => {
    request.resume();
    request.on('end', () => held.push(response));
  });
  const worker = await TestWorker.start(t, { route: { active: upstream.target } });
  const client = await RawClient.connect(t, worker.port);
  client.send(post(500_000));
  client.send(Buffer.alloc(300_000));
  await worker.statsWhen(({ buffers }) => buffers.memoryBytes === inBlocks(300_000) && buffers.spoolFiles === 0);
  client.send(Buffer.alloc(200_000));
  await worker.statsWhen((stats) => worker.runningOn(upstream.target, stats).inFlight === 1);
  assert.equal(worker.stats?.buffers.memoryBytes, inBlocks(500_000), 'it may have to be sent again');
  while (held.length === 0) await worker.message('stats');
  held[0]?.end('ok');
  await client.until(/ok/);
  await worker.quiet();
});

test('bodies share one memory: what finds none free goes to disk', async (t) => {
  const upstream = await Upstream.start(t, digester);
  const flags = ['--buffer-memory=1MiB', '--buffer-memory-total=1MiB'];
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, flags });
  const data = testData(900_000);
  const clients = await Promise.all(Array.from({ length: 3 }, () => RawClient.connect(t, worker.port)));
  for (const [i, client] of clients.entries()) {
    client.send(post(data.length));
    client.send(data.subarray(0, 800_000));
    if (i === 0) await worker.statsWhen(({ buffers }) => buffers.memoryBytes === inBlocks(800_000));
  }
  const { buffers } = await worker.statsWhen(({ buffers: { spoolBytes } }) => spoolBytes === 1_600_000);
  assert.deepEqual(buffers, { memoryBytes: inBlocks(800_000), spoolBytes: 1_600_000, spoolFiles: 2 });
  for (const client of clients) client.send(data.subarray(800_000));
  for (const client of clients) assert.ok((await client.until(/[0-9a-f]{64}/)).includes(digest(data)));
  await worker.quiet();
});

test('a body on disk can be sent again', async (t) => {
  const data = testData(300_000);
  let seen = 0;
  const upstream = await RawUpstream.start(t, (socket, text, connection) => {
    if (bodyOf(Buffer.from(text, 'latin1')).length < data.length) return false;
    seen++;
    if (connection === 1 && seen === 2) socket.resetAndDestroy();
    else {
      const sum = digest(bodyOf(Buffer.from(text, 'latin1')));
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n${sum}`);
    }
    return true;
  });
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, flags: ['--buffer-memory=1KiB'] });
  const client = await RawClient.connect(t, worker.port);
  for (let i = 0; i < 2; i++) {
    client.received = Buffer.alloc(0);
    client.send(post(data.length).replace('POST', 'PUT'));
    client.send(data);
    assert.ok((await client.until(/[0-9a-f]{64}$/)).includes(digest(data)));
  }
  assert.equal(seen, 3);
  await worker.quiet();
});

test('a container is free when its response is here, however slowly the client reads', async (t) => {
  const data = testData(40 * MIB);
  const { upstream, given } = await giver(t, data, { 'content-length': data.length });
  const worker = await TestWorker.start(t, { route: { active: upstream.target } });
  const client = await RawClient.connect(t, worker.port);
  client.socket.pause();
  client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  const stats = await worker.statsWhen(
    (now) => worker.runningOn(upstream.target, now).inFlight === 0 && now.targets[0]?.requests === 1,
  );
  assert.ok(given.finished, 'the application is done');
  assert.equal(stats.states.active, 1, 'the client is not');
  assert.ok(stats.buffers.spoolBytes > 20 * MIB, JSON.stringify(stats.buffers));
  assert.ok(stats.buffers.memoryBytes <= 2 * MIB, JSON.stringify(stats.buffers));
  client.socket.resume();
  await client.length(data.length);
  assert.equal(digest(bodyOf(client.received)), digest(data));
  await worker.quiet();
});

test('writing to the client starts at once, while the response is still being made', async (t) => {
  const upstream = await RawUpstream.start(t, (socket) => {
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst');
    upstream.events.once('go', () => socket.write('-last'));
    return true;
  });
  const worker = await TestWorker.start(t, { route: { active: upstream.target } });
  const client = await RawClient.connect(t, worker.port);
  client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  await client.until(/first$/);
  upstream.events.emit('go');
  await client.until(/first-last$/);
});

for (const [name, headers] of [
  ['text/event-stream', { 'content-type': 'text/event-stream; charset=utf-8' }],
  ['X-Accel-Buffering: no', { 'x-accel-buffering': 'no' }],
] as const) {
  test(`with ${name} the container is held back by a slow client, and nothing is lost`, async (t) => {
    const data = testData(80 * MIB);
    const { upstream, given } = await giver(t, data, { ...headers, 'content-length': data.length });
    const worker = await TestWorker.start(t, { route: { active: upstream.target } });
    const client = await RawClient.connect(t, worker.port);
    client.socket.pause();
    client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    for (let before = -1; before !== given.bytes; await worker.message('stats')) before = given.bytes;
    assert.ok(given.bytes < 40 * MIB, `${given.bytes} bytes were taken though the client reads nothing`);
    assert.ok((worker.stats?.buffers.memoryBytes ?? 0) <= 256 * 1024);
    assert.equal(worker.stats?.buffers.spoolBytes, 0);
    client.socket.resume();
    await client.length(data.length);
    assert.equal(digest(bodyOf(client.received)), digest(data));
    assert.doesNotMatch(client.received.subarray(0, 500).toString('latin1'), /X-Accel-Buffering/i);
  });
}

test('events arrive one by one as they are sent', async (t) => {
  const upstream = await RawUpstream.start(t, (socket) => {
    socket.write('HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n');
    upstream.events.on('event', (text: string) => socket.write(`${text.length.toString(16)}\r\n${text}\r\n`));
    return true;
  });
  const worker = await TestWorker.start(t, { route: { active: upstream.target } });
  const client = await RawClient.connect(t, worker.port);
  client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  await client.until(/\r\n\r\n$/);
  for (let i = 0; i < 5; i++) {
    upstream.events.emit('event', `data: ${i}\n\n`);
    await client.until(new RegExp(`data: ${i}\n\n\r\n$`));
  }
});

/** Bodies that find no room: what must happen is the same for a full budget and a full disk. */
async function withoutRoom(t: TestContext, flags: string[]): Promise<void> {
  const data = testData(30 * MIB);
  const { upstream: source, given } = await giver(t, data, { 'content-length': data.length });
  const sink = await Upstream.start(t, digester);
  const worker = await TestWorker.start(t, { flags: ['--buffer-memory=64KiB', ...flags] });

  await worker.switchTo(sink.target);
  const upload = await RawClient.connect(t, worker.port);
  upload.send(post(5 * MIB));
  upload.send(data.subarray(0, 5 * MIB));
  const text = await upload.until(/buffers_full, request/);
  assert.match(text, /^HTTP\/1\.1 503 [^]*\r\nRetry-After: \d+\r\n/);
  upload.socket.destroy();

  await worker.switchTo(source.target);
  const client = await RawClient.connect(t, worker.port);
  client.socket.pause();
  client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  for (let before = -1; before !== given.bytes; await worker.message('stats')) before = given.bytes;
  assert.ok(given.bytes < 20 * MIB, `${given.bytes} bytes were taken though there is no room`);
  client.socket.resume();
  await client.length(data.length);
  assert.equal(digest(bodyOf(client.received)), digest(data), 'nothing is cut short');
  client.socket.destroy();
  await worker.quiet();

  await worker.switchTo(sink.target);
  const later = await RawClient.connect(t, worker.port);
  later.send(post(500_000));
  later.send(data.subarray(0, 500_000));
  assert.ok((await later.until(/[0-9a-f]{64}/)).includes(digest(data.subarray(0, 500_000))), 'it recovers by itself');
  await worker.quiet();
}

test('with the spool budget used up uploads get 503, responses slow their containers down, and it recovers', async (t) => {
  await withoutRoom(t, ['--spool-max=1MiB']);
});

test('with the disk full uploads get 503, responses slow their containers down, and it recovers', async (t) => {
  if (process.getuid?.() !== 0) return t.skip('only root can mount a small file system');
  await withoutRoom(t, [`--spool-dir=${spoolDirectory(t, '1m')}`]);
});

test('without a folder for the spool small bodies work, large ones get 503, and the log says why', async (t) => {
  const upstream = await Upstream.start(t, digester);
  const flags = ['--buffer-memory=64KiB', '--spool-dir=/nowhere'];
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, flags });
  assert.match(worker.output, /spool folder can not be used.*|ENOENT/);
  const client = await RawClient.connect(t, worker.port);
  client.send(`${post(5)}small`);
  await client.until(/[0-9a-f]{64}/);
  client.send(post(100_000));
  client.send(Buffer.alloc(100_000));
  await client.until(/buffers_full/);
});

test('uploads and downloads that are given up leave nothing behind', async (t) => {
  const data = testData(8 * MIB);
  const { upstream } = await giver(t, data, { 'content-length': data.length });
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, flags: ['--buffer-memory=64KiB'] });
  for (let i = 0; i < 10; i++) {
    const upload = await RawClient.connect(t, worker.port);
    upload.send(post(data.length));
    upload.send(data.subarray(0, (i + 1) * 100_000));
    const download = await RawClient.connect(t, worker.port);
    download.socket.pause();
    download.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    await worker.statsWhen(({ buffers }) => buffers.spoolBytes > 0);
    if (i % 2 === 0) {
      upload.reset();
      download.reset();
    } else {
      upload.socket.destroy();
      download.socket.destroy();
    }
  }
  await worker.quiet();
});

test('a worker that is killed leaves no file', async (t) => {
  const directory = spoolDirectory(t);
  const flags = ['--buffer-memory=1KiB', `--spool-dir=${directory}`];
  const worker = await TestWorker.start(t, { flags });
  const client = await RawClient.connect(t, worker.port);
  client.send(post(MIB));
  client.send(Buffer.alloc(MIB / 2));
  await worker.statsWhen(({ buffers }) => buffers.spoolBytes === MIB / 2);
  worker.process.kill('SIGKILL');
  await worker.exited;
  assert.deepEqual(readdirSync(directory), []);
});
