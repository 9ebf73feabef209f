import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { testData } from './support/data.ts';
import { RawUpstream, Upstream } from './support/upstream.ts';
import { openSocket, RawClient, TestWorker } from './support/worker.ts';

const GET = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n';

/** Does something every `ms` until it says that it is enough; that must come within a minute. */
async function steadily(ms: number, step: () => boolean): Promise<void> {
  for (let i = 0; i < 60_000 / ms; i++) {
    await sleep(ms);
    if (step()) return;
  }
  throw new Error('there was no end to it');
}

/** Codes of the failures that the worker has logged. */
function loggedCodes(worker: TestWorker): string[] {
  return worker.output
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => (JSON.parse(line) as { code?: string }).code)
    .filter((code) => code !== undefined);
}

test('a head that is not complete in time gets 408, however steadily it drips', async (t) => {
  const worker = await TestWorker.start(t, { flags: ['--header-timeout=400ms'] });
  const client = await RawClient.connect(t, worker.port);
  client.send('GET / HTTP/1.1\r\nHost: a\r\n');
  await steadily(50, () => {
    if (client.text === '') client.send('X-Drip: 1\r\n');
    return client.text !== '';
  });
  assert.match(await client.all(), /^HTTP\/1\.1 408 [^]*header_timeout/);
  await worker.statsWhen(({ errors }) => errors.header_timeout === 1);
  assert.deepEqual(loggedCodes(worker), ['header_timeout']);
});

test('a connection that never says anything is closed without a word', async (t) => {
  const worker = await TestWorker.start(t, { flags: ['--header-timeout=200ms'] });
  const client = await RawClient.connect(t, worker.port);
  assert.equal(await client.all(), '');
});

test('an idle connection is closed without a word', async (t) => {
  const upstream = await Upstream.start(t, (_, response) => response.end('ok'));
  const flags = ['--keep-alive-timeout=300ms'];
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, flags });
  const client = await RawClient.connect(t, worker.port);
  client.send(GET);
  assert.match(await client.all(), /^HTTP\/1\.1 200 [^]*\r\nok$/);
  assert.equal(client.error, null);
});

test('a body that stops coming gets 408', async (t) => {
  const worker = await TestWorker.start(t, { flags: ['--body-timeout=300ms'] });
  const client = await RawClient.connect(t, worker.port);
  client.send('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf');
  assert.match(await client.all(), /^HTTP\/1\.1 408 [^]*body_timeout/);
  await worker.quiet();
  assert.deepEqual(loggedCodes(worker), ['body_timeout']);
});

test('a body that keeps coming has all the time it needs', async (t) => {
  const upstream = await Upstream.start(t, (request, response) => void request.pipe(response));
  const flags = ['--body-timeout=300ms'];
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, flags });
  const client = await RawClient.connect(t, worker.port);
  client.send('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n');
  let sent = 0;
  await steadily(100, () => {
    client.send('x');
    return ++sent === 10;
  });
  await client.until(/x{10}/);
});

test('a body below the minimum rate gets 408 after the first ten seconds, not before', async (t) => {
  const worker = await TestWorker.start(t, { flags: ['--body-rate=100B'] });
  const client = await RawClient.connect(t, worker.port);
  const begin = Date.now();
  client.send('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n');
  await steadily(200, () => {
    if (client.text === '') client.send('x');
    return client.text !== '';
  });
  assert.match(await client.all(), /^HTTP\/1\.1 408 [^]*body_too_slow/);
  assert.ok(Date.now() - begin >= 10_000);
});

test('a client that reads nothing is given up, and the log says why', async (t) => {
  const data = testData(20 * 2 ** 20);
  const upstream = await Upstream.start(t, (_, response) => response.end(data));
  const flags = ['--write-timeout=300ms'];
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, flags });
  const client = await RawClient.connect(t, worker.port);
  client.socket.pause();
  client.send(GET);
  await worker.statsWhen(({ requests }) => requests === 1);
  assert.deepEqual(loggedCodes(worker), ['write_timeout']);
  client.socket.resume();
  await client.closed;
  assert.ok(client.received.length < data.length);
  await worker.quiet();
});

test('a client that reads nothing is given up, however steadily it sends', async (t) => {
  const data = testData(20 * 2 ** 20);
  const upstream = await Upstream.start(t, (_, response) => response.end(data));
  const flags = ['--write-timeout=400ms'];
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, flags });
  const client = await RawClient.connect(t, worker.port);
  client.socket.pause();
  client.send(GET);
  await steadily(50, () => {
    client.send('G');
    return loggedCodes(worker).length > 0;
  });
  assert.deepEqual(loggedCodes(worker), ['write_timeout']);
  await worker.quiet();
});

test('a client that reads slowly but steadily gets everything', async (t) => {
  const data = testData(8 * 2 ** 20);
  const upstream = await Upstream.start(t, (_, response) => response.end(data));
  const flags = ['--write-timeout=1500ms'];
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, flags });
  const socket = await openSocket(t, worker.port);
  socket.write(GET.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'));
  socket.once('readable', () => {});
  let length = 0;
  // Five seconds at the least for the whole, but never still for as long as the limit, also on a busy machine.
  await steadily(20, () => {
    length += (socket.read(Math.min(32 * 1024, socket.readableLength)) as Buffer | null)?.length ?? 0;
    if (length > data.length) return true;
    assert.ok(!socket.destroyed, `closed after ${length} bytes: ${worker.output}`);
    return false;
  });
});

test('a response that stalls is named in the log', async (t) => {
  const upstream = await RawUpstream.answering(t, 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf');
  const flags = ['--response-idle-timeout=300ms'];
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, flags });
  const client = await RawClient.connect(t, worker.port);
  client.send(GET);
  await client.all();
  await worker.quiet();
  assert.deepEqual(loggedCodes(worker), ['upstream_stalled']);
});

test('a tunnel without traffic is closed, one with traffic in either direction is not', async (t) => {
  const upstream = await RawUpstream.start(t, (socket, text) => {
    if (!text.endsWith('\r\n\r\n')) return false;
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n');
    return true;
  });
  const flags = ['--tunnel-timeout=400ms'];
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, flags });
  const client = await RawClient.connect(t, worker.port);
  client.send('GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n');
  await client.until(/101/);
  let sent = 0;
  await steadily(100, () => {
    assert.ok(!client.socket.destroyed);
    if (sent % 2 === 0) client.send('ping');
    else upstream.sockets.forEach((socket) => socket.write('pong'));
    return ++sent === 12;
  });
  await client.closed;
  await worker.quiet();
  assert.deepEqual(loggedCodes(worker), ['tunnel_timeout']);
});

test('more connections than allowed, from one address or at all, are closed at once', async (t) => {
  const upstream = await Upstream.start(t, (_, response) => response.end('ok'));
  for (const flag of ['--max-connections-per-ip=2', '--max-connections=2']) {
    const worker = await TestWorker.start(t, { route: { active: upstream.target }, flags: [flag] });
    const clients = [await RawClient.connect(t, worker.port), await RawClient.connect(t, worker.port)] as const;
    await worker.statsWhen(({ states }) => states.new === 2);
    // Over TLS it does not get as far as a connection.
    const third = await RawClient.connect(t, worker.port).catch(() => null);
    assert.equal((await third?.all()) ?? '', '');
    await worker.statsWhen(({ turnedAway }) => turnedAway[flag.replace(/=.*/, '')] === 1);
    clients[0].send(GET);
    await clients[0].until(/ok$/);
    clients[0].socket.destroy();
    await worker.statsWhen(({ connectionsClosed }) => connectionsClosed === 2);
    const fourth = await RawClient.connect(t, worker.port);
    fourth.send(GET);
    await fourth.until(/ok$/);
  }
});

test('with a list of hosts others get 421, whatever the port and the case', async (t) => {
  const upstream = await Upstream.start(t, (_, response) => response.end('ok'));
  const flags = ['--host=shop.example,[::1]'];
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, flags });
  for (const [host, status] of [
    ['shop.example', 200],
    ['SHOP.example:8080', 200],
    ['[::1]:80', 200],
    ['shop.example.evil.example', 421],
    ['127.0.0.1', 421],
  ] as const) {
    const client = await RawClient.connect(t, worker.port);
    client.send(`GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
    assert.match(await client.all(), new RegExp(`^HTTP/1\\.1 ${status} `), host);
  }
});
