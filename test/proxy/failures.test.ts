import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, test, type TestContext } from 'node:test';
import type { RouteTarget } from '../../src/messages.ts';
import { RawClient, TestWorker } from './support/worker.ts';
import { RawUpstream, unreachable, Upstream } from './support/upstream.ts';

/** Most failures have nothing to do with time, and a busy machine must not make them look as if they had. */
let worker: TestWorker;
let impatient: TestWorker;
before(async () => {
  const flags = ['--connect-timeout=200ms', '--response-timeout=300ms', '--response-idle-timeout=300ms'];
  [worker, impatient] = await Promise.all([TestWorker.start(null), TestWorker.start(null, { flags })]);
});
after(async () => {
  await Promise.all([worker.stop(), impatient.stop()]);
});

const METHODS = ['GET', 'HEAD', 'OPTIONS', 'PUT', 'POST', 'PATCH', 'DELETE'];

function request(method: string): string {
  const body = ['PUT', 'POST', 'PATCH'].includes(method);
  return `${method} / HTTP/1.1\r\nHost: a\r\n${body ? 'Content-Length: 4\r\n\r\nbody' : '\r\n'}`;
}

/** Sends one request with each method; every one must be answered with this error, and the connection stay usable. */
async function expectError(
  t: TestContext,
  target: RouteTarget,
  status: number,
  code: string,
  through = worker,
): Promise<void> {
  await through.switchTo(target);
  const client = await RawClient.connect(t, through.port);
  for (const method of METHODS) {
    client.received = Buffer.alloc(0);
    client.send(request(method));
    const text = await client.until(method === 'HEAD' ? /\r\n\r\n$/ : /\r\n\r\n[^]*\(\w+, request [-\w]+\)\n$/);
    assert.match(text, new RegExp(`^HTTP/1\\.1 ${status} `), `${method}: ${text}`);
    assert.match(text, new RegExp(`\r\nWunderproxy-Error: ${code}\r\n`), method);
    assert.doesNotMatch(text, /127\.0\.0\.1|ECONN|undici|\bat /, 'nothing internal is shown');
  }
}

test('nobody listens: 502 upstream_refused', async (t) => {
  const upstream = await Upstream.start(t, () => {});
  await upstream.stop();
  await expectError(t, upstream.target, 502, 'upstream_refused');
});

test('no connection in time: 504 upstream_connect_timeout', async (t) => {
  await expectError(t, await unreachable(t), 504, 'upstream_connect_timeout', impatient);
});

test('reset before headers: 502 upstream_broken', async (t) => {
  const upstream = await RawUpstream.start(t, (socket) => void socket.resetAndDestroy());
  await expectError(t, upstream.target, 502, 'upstream_broken');
  assert.equal(upstream.connections, METHODS.length, 'a new connection that breaks is no reason to send twice');
});

test('closed before headers: 502 upstream_broken', async (t) => {
  const upstream = await RawUpstream.start(t, (socket) => void socket.end());
  await expectError(t, upstream.target, 502, 'upstream_broken');
});

test('closed within the headers: 502 upstream_broken', async (t) => {
  const upstream = await RawUpstream.start(t, (socket) => void socket.end('HTTP/1.1 200 OK\r\nContent-'));
  await expectError(t, upstream.target, 502, 'upstream_broken');
});

test('no answer in time: 504 upstream_timeout', async (t) => {
  const upstream = await RawUpstream.start(t, () => {});
  await expectError(t, upstream.target, 504, 'upstream_timeout', impatient);
});

const MALFORMED: Record<string, string> = {
  'no HTTP': 'SSH-2.0-OpenSSH_9.6\r\n\r\n',
  'a status that is no number': 'HTTP/1.1 OK 200\r\n\r\n',
  'both lengths': 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n',
  'two lengths': 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab',
  'two equal lengths': 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na',
  'a length that is no number': 'HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na',
  'a coding that is not chunked': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n',
  'a field without a name': 'HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 0\r\n\r\n',
  'a name with a space': 'HTTP/1.1 200 OK\r\nA B: x\r\nContent-Length: 0\r\n\r\n',
  'a space before the colon': 'HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n',
  'a control character': 'HTTP/1.1 200 OK\r\nA: \x01\r\nContent-Length: 0\r\n\r\n',
  'a change of protocols that nobody asked for':
    'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n',
  '101 without a protocol': 'HTTP/1.1 101 Switching Protocols\r\n\r\n',
  'headers without an end': `HTTP/1.1 200 OK\r\nA: ${'x'.repeat(100_000)}`,
};

for (const [what, answer] of Object.entries(MALFORMED)) {
  test(`${what} from the container: 502 upstream_malformed, and that connection is not used again`, async (t) => {
    const upstream = await RawUpstream.answering(t, answer);
    await expectError(t, upstream.target, 502, 'upstream_malformed');
    assert.equal(upstream.connections, METHODS.length);
  });
}

test('a break after the headers breaks the connection of the client too', async (t) => {
  for (const head of ['Content-Length: 100', 'Transfer-Encoding: chunked']) {
    const upstream = await RawUpstream.start(t, (socket) => {
      const chunk = head.startsWith('T') ? '5\r\nbegun\r\n' : 'begun';
      socket.write(`HTTP/1.1 200 OK\r\n${head}\r\n\r\n${chunk}`);
      upstream.events.once('go', () => socket.resetAndDestroy());
    });
    await worker.switchTo(upstream.target);
    const client = await RawClient.connect(t, worker.port);
    client.send(request('GET'));
    await client.until(/begun/);
    upstream.events.emit('go');
    const text = await client.all();
    assert.doesNotMatch(text, /\r\n0\r\n\r\n$/, 'an unfinished body must not get an end');
  }
});

test('a break in a body of unknown length resets an HTTP/1.0 client, to which an end would look like success', async (t) => {
  const upstream = await RawUpstream.start(t, (socket) => {
    socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n');
    upstream.events.once('go', () => socket.destroy());
  });
  await worker.switchTo(upstream.target);
  const client = await RawClient.connect(t, worker.port);
  client.send('GET / HTTP/1.0\r\n\r\n');
  await client.until(/begun/);
  upstream.events.emit('go');
  await client.closed;
  assert.equal(client.error?.code, 'ECONNRESET');
});

test('a body that stalls breaks the connection of the client', async (t) => {
  const upstream = await RawUpstream.answering(t, 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun');
  await impatient.switchTo(upstream.target);
  const client = await RawClient.connect(t, impatient.port);
  client.send(request('GET'));
  assert.match(await client.all(), /begun$/);
});

/** A container that answers the first request on each connection and closes it when the second one comes. */
async function closesOnReuse(t: TestContext): Promise<RawUpstream> {
  const served = new Set<number>();
  return RawUpstream.start(t, (socket, text, connection) => {
    if (!text.includes('\r\n\r\n')) return false;
    if (served.has(connection)) socket.resetAndDestroy();
    else socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
    served.add(connection);
    return true;
  });
}

test('when a kept-alive connection breaks unanswered, idempotent requests are sent once more on a new one', async (t) => {
  for (const method of ['GET', 'OPTIONS', 'PUT', 'DELETE']) {
    const upstream = await closesOnReuse(t);
    await worker.switchTo(upstream.target);
    const client = await RawClient.connect(t, worker.port);
    for (let i = 0; i < 2; i++) {
      client.received = Buffer.alloc(0);
      client.send(request(method));
      assert.match(await client.until(/ok$/), /^HTTP\/1\.1 200 /, method);
    }
    assert.equal(upstream.received.match(new RegExp(`${method} / HTTP`, 'g'))?.length, 3, method);
  }
});

test('when a kept-alive connection breaks unanswered, POST and PATCH are not sent again', async (t) => {
  for (const method of ['POST', 'PATCH']) {
    const upstream = await closesOnReuse(t);
    await worker.switchTo(upstream.target);
    const client = await RawClient.connect(t, worker.port);
    client.send(request(method));
    await client.until(/ok$/);
    client.send(request(method));
    await client.until(/HTTP\/1\.1 502 [^]*upstream_broken/);
    assert.equal(upstream.received.match(new RegExp(`${method} / HTTP`, 'g'))?.length, 2, method);
  }
});

test('a request is never sent a third time', async (t) => {
  const upstream = await RawUpstream.start(t, (socket, text, connection) => {
    if (!text.includes('\r\n\r\n')) return false;
    if (connection === 1 && upstream.received.split('HTTP/1.1').length === 2) {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
    } else {
      socket.resetAndDestroy();
    }
    return true;
  });
  await worker.switchTo(upstream.target);
  const client = await RawClient.connect(t, worker.port);
  client.send(request('GET'));
  await client.until(/ok$/);
  client.send(request('GET'));
  await client.until(/HTTP\/1\.1 502 [^]*upstream_broken/);
  assert.equal(upstream.received.match(/GET/g)?.length, 3);
});

test('a request that meets a closing idle connection is answered, whatever its method', async (t) => {
  // Closes each connection right after its answer, without a word of it in the answer.
  const upstream = await RawUpstream.start(t, (socket, text) => {
    if (!text.includes('\r\n\r\n') || (text.startsWith('POST') && !text.endsWith('body'))) return false;
    socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
    return true;
  });
  await worker.switchTo(upstream.target);
  const client = await RawClient.connect(t, worker.port);
  for (let i = 0; i < 100; i++) {
    client.received = Buffer.alloc(0);
    client.send(request('POST'));
    assert.match(await client.until(/ok$|\)\n$/), /^HTTP\/1\.1 200 /);
  }
});

test('errors come as HTML, JSON or text, as the client accepts', async () => {
  await worker.switchTo(null);
  for (const [accept, type, body] of [
    ['text/html,application/xhtml+xml;q=0.9,*/*;q=0.8', 'text/html; charset=utf-8', /^<!doctype html>/],
    ['application/json', 'application/json', /"Code":"no_active_container"/],
    ['*/*', 'text/plain; charset=utf-8', /^503 Service Unavailable: /],
  ] as const) {
    const response = await fetch(`http://127.0.0.1:${worker.plainPort}/`, { headers: { accept } });
    assert.equal(response.status, 503);
    assert.equal(response.headers.get('content-type'), type);
    const text = await response.text();
    assert.match(text, body);
    assert.ok(text.includes(response.headers.get('x-request-id') ?? '?'));
  }
});

test('the container may answer without reading the whole request', async (t) => {
  const upstream = await RawUpstream.start(t, (socket, text) => {
    if (!text.includes('\r\n\r\n')) return false;
    socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno');
    socket.pause();
    return true;
  });
  await worker.switchTo(upstream.target);
  const client = await RawClient.connect(t, worker.port);
  client.send(`POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8000000\r\n\r\n`);
  client.send(Buffer.alloc(8_000_000));
  assert.match(await client.until(/no$/), /^HTTP\/1\.1 403 /);
});

test('while a request waits for its answer, its target counts it; afterwards nothing is left', async (t) => {
  const upstream = await RawUpstream.start(t, () => {});
  await impatient.switchTo(upstream.target);
  const client = await RawClient.connect(t, impatient.port);
  const arrived = once(upstream.events, 'data');
  client.send(request('GET'));
  await arrived;
  await client.until(/upstream_timeout/);
  const stats = await impatient.statsWhen((stats) => impatient.runningOn(upstream.target, stats).inFlight === 0);
  assert.equal(stats.targets.find(({ id }) => id === upstream.target.id)?.requests, 1);
});
