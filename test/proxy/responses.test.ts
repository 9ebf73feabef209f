import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, test, type TestContext } from 'node:test';
import { setImmediate as turnOfTheLoop, setTimeout as sleep } from 'node:timers/promises';
import { readAnswers } from './support/answers.ts';
import { testData } from './support/data.ts';
import { RawClient, TestWorker } from './support/worker.ts';
import { RawUpstream, Upstream } from './support/upstream.ts';

let worker: TestWorker;
before(async () => {
  worker = await TestWorker.start(null);
});
after(() => worker.stop());

/** What a client reads in answer to one request, when the container answers with these bytes. */
async function exchange(t: TestContext, request: string, answer: string, end = false): Promise<string> {
  const upstream = await RawUpstream.start(t, (socket, text) => {
    if (!text.includes('\r\n\r\n')) return false;
    socket.write(answer, 'latin1');
    if (end) socket.end();
    return true;
  });
  await worker.switchTo(upstream.target);
  const client = await RawClient.connect(t, worker.port);
  client.send(request);
  return client.all();
}

const GET = 'GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n';
const HEAD = GET.replace('GET', 'HEAD');
const GET_10 = 'GET / HTTP/1.0\r\nHost: a\r\n\r\n';

const cases: [name: string, request: string, answer: string, expected: RegExp][] = [
  ['HEAD keeps the length without a body', HEAD, 'HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n', /Length: 7\r\n.*\r\n\r\n$/s],
  ['HEAD of a chunked resource has no body', HEAD, 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n', /\r\n\r\n$/],
  ['204 has neither body nor length', GET, 'HTTP/1.1 204 No Content\r\nX: 1\r\n\r\n', /^(?!.*content-length).*\r\n\r\n$/is],
  ['304 has no body and keeps its length', GET, 'HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n', /Length: 9\r\n.*\r\n\r\n$/s],
  ['an empty body has a length of 0', GET, 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n', /Content-Length: 0\r\n.*\r\n\r\n$/s],
  ['a date is added', GET, 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n', /\r\nDate: \w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT\r\n/],
  ['a date is kept', GET, 'HTTP/1.1 200 OK\r\ndate: x\r\nContent-Length: 0\r\n\r\n', /^(?!.*Date).*\r\ndate: x\r\n/s],
  ['103 comes first', GET, 'HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx',
    /^HTTP\/1\.1 103 Early Hints\r\nLink: <\/a\.css>; rel=preload\r\n\r\nHTTP\/1\.1 200 OK\r\n.*x$/s],
  ['any other 1xx is passed on too', GET, 'HTTP/1.1 199 Wait\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx', /^HTTP\/1\.1 199 Wait\r\nA: b\r\n\r\nHTTP\/1\.1 200/],
  ['an HTTP/1.0 client gets no 1xx', GET_10, 'HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx', /^HTTP\/1\.1 200/],
  ['an HTTP/1.0 client gets no chunks', GET_10, 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n', /^(?!.*Transfer-Encoding).*\r\n\r\nabcdef$/s],
  ['trailers follow a chunked body', GET, 'HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 9\r\nSet-Cookie: a=b\r\n\r\n',
    /\r\nTrailer: X-Sum\r\n.*\r\n\r\n1\r\na\r\n0\r\nX-Sum: 9\r\n\r\n$/s],
]; // prettier-ignore

for (const [name, request, answer, expected] of cases) {
  test(name, async (t) => assert.match(await exchange(t, request, answer), expected));
}

test('a response that only the end of the connection ends is passed on whole', async (t) => {
  const text = await exchange(t, GET, 'HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end', true);
  assert.match(text, /\r\n\r\nuntil the end$|\r\nuntil the end\r\n0\r\n\r\n$/);
});

test('an HTTP/1.0 client that asks keeps its connection', async (t) => {
  const upstream = await Upstream.start(t, (_, response) => {
    response.setHeader('content-length', 1);
    response.end('x');
  });
  await worker.switchTo(upstream.target);
  const client = await RawClient.connect(t, worker.port);
  for (let i = 0; i < 2; i++) {
    client.received = Buffer.alloc(0);
    client.send('GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n');
    assert.match(await client.until(/x$/), /\r\nConnection: keep-alive\r\n/i);
  }
});

test('a body larger than any buffer arrives whole, chunked or with a length', async (t) => {
  const data = Buffer.alloc(30 * 2 ** 20);
  for (let i = 0; i < data.length; i += 4) data.writeUInt32LE((i * 2_654_435_761) % 2 ** 32, i);
  const upstream = await Upstream.start(t, (request, response) => {
    if (request.url === '/length') response.setHeader('content-length', data.length);
    response.end(data);
  });
  await worker.switchTo(upstream.target);
  for (const path of ['/length', '/chunked']) {
    const response = await fetch(`http://127.0.0.1:${worker.plainPort}${path}`);
    const hash = createHash('sha256');
    for await (const chunk of response.body ?? []) hash.update(chunk as Uint8Array);
    assert.equal(hash.digest('hex'), createHash('sha256').update(data).digest('hex'));
  }
});

test('a request body arrives whole, with its length when it came chunked', async (t) => {
  const upstream = await Upstream.start(t, (request, response) => {
    const hash = createHash('sha256');
    request.on('data', (chunk: Buffer) => hash.update(chunk));
    request.on('end', () => {
      const { 'content-length': length, 'transfer-encoding': coding } = request.headers;
      response.end(JSON.stringify({ length, coding, digest: hash.digest('hex') }));
    });
  });
  await worker.switchTo(upstream.target);
  for (const size of [0, 1, 16_383, 16_384, 16_385, 3_000_000]) {
    const data = Buffer.alloc(size, 'pattern ');
    const client = await RawClient.connect(t, worker.port);
    client.send('POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n');
    for (let at = 0; at < size; at += 70_000) {
      const piece = data.subarray(at, at + 70_000);
      client.send(`${piece.length.toString(16)};ext="a;b"\r\n`);
      client.send(piece);
      client.send('\r\n');
    }
    client.send('0\r\nX-Trailer: dropped\r\n\r\n');
    const text = await client.all();
    const expected = { length: String(size), digest: createHash('sha256').update(data).digest('hex') };
    assert.deepEqual(JSON.parse(text.slice(text.indexOf('\r\n\r\n') + 4)), expected);
  }
});

test('a client that expects 100-continue gets it from wunderproxy', async (t) => {
  const upstream = await Upstream.start(t, (request, response) => {
    assert.equal(request.headers.expect, undefined);
    request.pipe(response);
  });
  await worker.switchTo(upstream.target);
  const client = await RawClient.connect(t, worker.port);
  client.send('PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n');
  assert.equal(await client.until(/\r\n\r\n/), 'HTTP/1.1 100 Continue\r\n\r\n');
  client.send('body');
  await client.until(/200 OK[^]*body/);
});

test('a client that expects anything else gets 417', async (t) => {
  const client = await RawClient.connect(t, worker.port);
  client.send('PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: miracles\r\n\r\n');
  assert.match(await client.all(), /^HTTP\/1\.1 417 /);
});

for (const method of ['TRACE', 'CONNECT', 'trace', 'Connect', 'TRACK']) {
  test(`${method} gets 405 with the methods that are allowed`, async (t) => {
    const client = await RawClient.connect(t, worker.port);
    // With another case it is no CONNECT to RFC 9110, only to some applications: what stands there must be a path.
    const target = method === 'CONNECT' ? 'example.com:443' : '/';
    client.send(`${method} ${target} HTTP/1.1\r\nHost: example.com:443\r\nConnection: close\r\n\r\n`);
    assert.match(await client.all(), /^HTTP\/1\.1 405 [^]*\r\nAllow: GET, /);
  });
}

test('OPTIONS for the server as a whole is answered by wunderproxy, in both forms', async (t) => {
  for (const target of ['*', 'http://a']) {
    const client = await RawClient.connect(t, worker.port);
    client.send(`OPTIONS ${target} HTTP/1.1\r\nHost: a\r\n\r\nOPTIONS * HTTP/1.0\r\n\r\n`);
    assert.match(await client.all(), /^(?:HTTP\/1\.1 204 No Content\r\nAllow: GET, [^]*?\r\n\r\n){2}$/);
  }
});

test('an announced body that is too large gets 413 before it is sent, and the client can read it', async (t) => {
  const small = await TestWorker.start(t, { flags: ['--max-body=1000B'] });
  const client = await RawClient.connect(t, small.port);
  client.send('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n');
  assert.match(await client.until(/body_too_large/), /^HTTP\/1\.1 413 [^]*\r\nConnection: close\r\n/);
  // The client goes on sending, as clients do: it must not lose the answer to a reset.
  client.send(Buffer.alloc(1_001));
  client.socket.end();
  await client.closed;
  assert.equal(client.error, null);
});

test('a client that reads its 413 only after its whole body has it still, however long that takes', async (t) => {
  const small = await TestWorker.start(t, { flags: ['--max-body=1000B'] });
  const client = await RawClient.connect(t, small.port);
  client.socket.pause();
  const pieces = 13;
  client.send(`POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ${pieces * 10_000}\r\n\r\n`);
  for (let i = 0; i < pieces && !client.socket.destroyed; i++) {
    client.send(Buffer.alloc(10_000));
    await sleep(500);
  }
  client.socket.end();
  client.socket.resume();
  assert.match(await client.all(), /^HTTP\/1\.1 413 [^]*body_too_large/);
  assert.equal(client.error, null);
});

test('a chunked body gets 413 as soon as it is too large', async (t) => {
  const small = await TestWorker.start(t, { flags: ['--max-body=1000B'] });
  const client = await RawClient.connect(t, small.port);
  client.send(`POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n${'x'.repeat(1_001)}`);
  assert.match(await client.until(/body_too_large/), /^HTTP\/1\.1 413 /);
});

test('large responses side by side never carry bytes of one another, however fast each client reads', async (t) => {
  const BODY = 4 * 1024 * 1024;
  const data = testData(2 * BODY);
  // Each begins somewhere else: with or without a length, and a piece of the largest size in between.
  const upstream = await Upstream.start(t, (request, response) => {
    const offset = Number(request.url?.slice(1));
    if (offset % 2 === 0) response.setHeader('content-length', BODY);
    response.write(data.subarray(offset, offset + 100));
    response.end(data.subarray(offset + 100, offset + BODY));
  });
  await worker.switchTo(upstream.target);
  const read = async (number: number) => {
    const offset = number * 4_099;
    const client = await RawClient.connect(t, worker.port);
    client.send(`GET /${offset} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
    // Every third client is slower than what comes.
    for (let turn = 0; number % 3 === 0 && turn < 60; turn++) {
      client.socket.pause();
      await sleep(2);
      client.socket.resume();
      await turnOfTheLoop();
    }
    await client.closed;
    const [answer] = readAnswers(client.received);
    assert.ok(answer?.status === 200 && answer.whole, `${number}: ${answer?.status}, ${answer?.body.length} bytes`);
    const own = data.subarray(offset, offset + BODY);
    const wrong = answer.body.equals(own) ? -1 : answer.body.findIndex((byte, at) => byte !== own[at]);
    assert.equal(wrong, -1, `the body of client ${number} is not its own from byte ${wrong} on`);
    assert.equal(answer.body.length, BODY);
  };
  await Promise.all(Array.from({ length: 30 }, (_, number) => read(number)));
});
