import assert from 'node:assert/strict';
import { once } from 'node:events';
import type * as http from 'node:http';
import * as http2 from 'node:http2';
import { after, before, describe, test, type TestContext } from 'node:test';
import { digest, digester, testData } from './support/data.ts';
import { ask, closed, connectHttp2, type Http2Answer, read } from './support/http2-client.ts';
import { testMaterial } from './support/transport.ts';
import { RawUpstream, Upstream } from './support/upstream.ts';
import { RawClient, TestWorker } from './support/worker.ts';

const { NGHTTP2_INTERNAL_ERROR } = http2.constants;
const MIB = 2 ** 20;

let worker: TestWorker;
before(async () => {
  worker = await TestWorker.start(null, { tls: testMaterial() });
});
after(() => worker.stop());

function ownWorker(t: TestContext, upstream: Pick<Upstream, 'target'>, ...flags: string[]): Promise<TestWorker> {
  return TestWorker.start(t, { route: { active: upstream.target }, tls: testMaterial(), flags });
}

/** What a client reads when the container answers with these bytes. */
async function answerTo(
  t: TestContext,
  headers: http2.OutgoingHttpHeaders,
  bytes: string,
  end = false,
): Promise<Http2Answer> {
  const upstream = await RawUpstream.start(t, (socket, text) => {
    if (!text.includes('\r\n\r\n')) return false;
    socket.write(bytes, 'latin1');
    if (end) socket.end();
    return true;
  });
  await worker.switchTo(upstream.target);
  return ask(await connectHttp2(t, worker), headers);
}

describe('requests', () => {
  test('the application gets them as HTTP/1.1, with what it must know of the client', async (t) => {
    const upstream = await Upstream.start(t, (request, response) => {
      response.end(JSON.stringify([request.method, request.url, request.httpVersion, request.headers]));
    });
    await worker.switchTo(upstream.target);
    const session = await connectHttp2(t, worker);
    const { body } = await ask(session, {
      ':path': '/a?b=c',
      ':authority': 'shop.example',
      'x-forwarded-proto': 'http',
      'x-forwarded-for': '1.2.3.4',
      cookie: ['a=b', 'c=d'],
      te: 'trailers',
      'x-a': ['1', '2'],
    });
    const [method, url, version, headers] = JSON.parse(body.toString()) as [string, string, string, http.IncomingHttpHeaders];
    assert.deepEqual([method, url, version], ['GET', '/a?b=c', '1.1']);
    assert.equal(headers.host, 'shop.example');
    assert.equal(headers['x-forwarded-proto'], 'https');
    assert.equal(headers['x-forwarded-host'], 'shop.example');
    assert.equal(headers['x-forwarded-for'], '127.0.0.1');
    assert.equal(headers.cookie, 'a=b; c=d');
    assert.equal(headers['x-a'], '1, 2');
    assert.equal(headers.te, undefined);
  }); // prettier-ignore

  test('bodies of all sizes arrive whole, side by side', async (t) => {
    const upstream = await Upstream.start(t, digester);
    await worker.switchTo(upstream.target);
    const session = await connectHttp2(t, worker);
    const sizes = [0, 1, 16_383, 16_384, 16_385, 65_536, MIB - 1, MIB, MIB + 1, 5 * MIB, 20 * MIB];
    await Promise.all(
      sizes.map(async (size) => {
        const data = testData(size);
        const { body } = await ask(session, { ':method': 'POST' }, data);
        assert.equal(body.toString(), digest(data), String(size));
      }),
    );
    await worker.quiet();
  });

  test('a slow upload holds no container, and a switch meanwhile sends it to the new one', async (t) => {
    const old = await Upstream.start(t, digester);
    const fresh = await Upstream.start(t, digester);
    await worker.switchTo(old.target);
    const session = await connectHttp2(t, worker);
    const data = testData(3 * MIB);
    const stream = session.request({ ':method': 'PUT' }, { endStream: false });
    stream.write(data.subarray(0, 2 * MIB));
    await worker.statsWhen(({ buffers }) => buffers.spoolBytes > MIB);
    await worker.switchTo(fresh.target);
    stream.end(data.subarray(2 * MIB));
    assert.equal((await read(stream)).body.toString(), digest(data));
    assert.deepEqual([old.begun.length, fresh.begun.length], [0, 1]);
  });

  test('a client that expects 100-continue gets it from wunderproxy', async (t) => {
    const upstream = await Upstream.start(t, (request, response) => {
      assert.equal(request.headers.expect, undefined);
      request.pipe(response);
    });
    await worker.switchTo(upstream.target);
    const session = await connectHttp2(t, worker);
    const stream = session.request({ ':method': 'PUT', expect: '100-continue' }, { endStream: false });
    await once(stream, 'continue');
    stream.end('body');
    assert.equal((await read(stream)).body.toString(), 'body');
  });

  test('an announced body that is too large gets 413 at once, and the connection lives on', async (t) => {
    const upstream = await Upstream.start(t, digester);
    const small = await ownWorker(t, upstream, '--max-body=1000B');
    const session = await connectHttp2(t, small);
    const stream = session.request({ ':method': 'POST', 'content-length': 1_001 }, { endStream: false });
    const answer = await read(stream);
    assert.equal(answer.status, 413);
    assert.equal(answer.headers['wunderproxy-error'], 'body_too_large');
    assert.match(answer.body.toString(), /body_too_large/);
    assert.equal((await ask(session, { ':method': 'POST' }, 'x'.repeat(1_000))).status, 200);
    assert.equal((await ask(session, { ':method': 'POST' }, Buffer.alloc(100_000))).status, 413);
    await small.quiet();
  });

  test('requests by HTTP/1 and by HTTP/2 are served on the same port', async (t) => {
    const upstream = await Upstream.start(t, (_, response) => response.end('ok'));
    await worker.switchTo(upstream.target);
    const one = await RawClient.connectSecurely(t, worker.tlsPort, { ALPNProtocols: ['http/1.1'] });
    one.send('GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
    const session = await connectHttp2(t, worker);
    assert.equal((await ask(session, {})).body.toString(), 'ok');
    assert.match(await one.all(), /^HTTP\/1\.1 200 OK\r\n[^]*ok$/);
  });
});

describe('responses', () => {
  const ok = 'HTTP/1.1 200 OK\r\n';
  test('fields keep their order and their number, names are in lower case', async (t) => {
    const { raw } = await answerTo(t, {}, `${ok}Set-Cookie: a=1\r\nX-B: \xe9\r\nDate: x\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n`);
    assert.deepEqual(raw, [':status', '200', 'set-cookie', 'a=1', 'x-b', '\xe9', 'date', 'x', 'set-cookie', 'b=2', 'content-length', '0']);
  }); // prettier-ignore

  test('hop-by-hop fields are dropped', async (t) => {
    const fields = 'Connection: x-hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\nProxy-Connection: x\r\n';
    const { raw } = await answerTo(t, {}, `${ok}${fields}Date: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n`);
    assert.deepEqual(raw, [':status', '200', 'date', 'x', 'content-length', '1']);
  }); // prettier-ignore

  test('HEAD and 304 keep the length without a body, 204 has none', async (t) => {
    const head = await answerTo(t, { ':method': 'HEAD' }, `${ok}Content-Length: 7\r\n\r\n`);
    assert.deepEqual([head.status, head.headers['content-length'], head.body.length], [200, '7', 0]);
    const unchanged = await answerTo(t, {}, 'HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n');
    assert.deepEqual([unchanged.status, unchanged.headers['content-length']], [304, '9']);
    const none = await answerTo(t, {}, 'HTTP/1.1 204 No Content\r\n\r\n');
    assert.deepEqual([none.status, none.headers['content-length']], [204, undefined]);
  });

  test('interim responses come first', async (t) => {
    const { informed, body } = await answerTo(t, {}, `HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n${ok}Content-Length: 1\r\n\r\nx`);
    assert.deepEqual(informed.map((headers) => [headers[':status'], headers['link']]), [[103, '</a.css>']]);
    assert.equal(body.toString(), 'x');
  }); // prettier-ignore

  test('trailers follow a chunked body, without those that are forbidden', async (t) => {
    const trailers = 'X-Sum: 9\r\nSet-Cookie: a=b\r\n';
    const answer = await answerTo(t, {}, `${ok}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n${trailers}\r\n`);
    assert.equal(answer.body.toString(), 'a');
    assert.deepEqual(Object.entries(answer.trailers), [['x-sum', '9']]);
  });

  test('a status that HTTP/2 can not say is a server error', async (t) => {
    assert.equal((await answerTo(t, {}, 'HTTP/1.1 999 Denied\r\nContent-Length: 2\r\n\r\nno')).status, 502);
  });

  test('a head that needs several frames arrives whole', async (t) => {
    const fields = Array.from({ length: 40 }, (_, i) => `X-${i}: ${'v'.repeat(1_000)}\r\n`).join('');
    const { headers } = await answerTo(t, {}, `${ok}${fields}Content-Length: 0\r\n\r\n`);
    assert.equal(headers['x-39'], 'v'.repeat(1_000));
  });

  test('a response that only the end of the connection ends is passed on whole', async (t) => {
    assert.equal(
      (await answerTo(t, {}, 'HTTP/1.0 200 OK\r\n\r\nuntil the end', true)).body.toString(),
      'until the end',
    );
  });

  test('large ones arrive whole, side by side, to clients fast and slow', async (t) => {
    const data = testData(6 * MIB);
    const upstream = await Upstream.start(t, (request, response) => {
      if (request.url === '/length') response.setHeader('content-length', data.length);
      response.write(data.subarray(0, MIB));
      response.end(data.subarray(MIB));
    });
    await worker.switchTo(upstream.target);
    for (const initialWindowSize of [1_000, 65_535, 4 * MIB]) {
      const session = await connectHttp2(t, worker, { settings: { initialWindowSize } });
      const answers = await Promise.all(
        ['/length', '/', '/length', '/'].map((path) => ask(session, { ':path': path })),
      );
      for (const { body } of answers) assert.equal(digest(body), digest(data));
    }
    await worker.quiet();
  });

  test('events arrive as they are sent', async (t) => {
    const held: http.ServerResponse[] = [];
    const upstream = await Upstream.start(t, (_, response) => {
      response.setHeader('content-type', 'text/event-stream');
      response.write('data: 1\n\n');
      held.push(response);
    });
    await worker.switchTo(upstream.target);
    const session = await connectHttp2(t, worker);
    const stream = session.request({});
    for (let i = 1; i < 4; i++) {
      const [chunk] = (await once(stream, 'data')) as [Buffer];
      assert.equal(chunk.toString(), `data: ${i}\n\n`);
      held[0]?.write(`data: ${i + 1}\n\n`);
    }
    stream.close(http2.constants.NGHTTP2_CANCEL);
    await worker.quiet();
  });

  test('a live response makes the application wait for its client', async (t) => {
    const given = { bytes: 0 };
    const upstream = await Upstream.start(t, (_, response) => {
      response.setHeader('x-accel-buffering', 'no');
      const piece = Buffer.alloc(64 * 1024);
      const more = () => {
        let ready = true;
        while (ready && given.bytes < 64 * MIB) {
          ready = response.write(piece);
          given.bytes += piece.length;
        }
      };
      response.on('drain', more);
      more();
    });
    await worker.switchTo(upstream.target);
    const session = await connectHttp2(t, worker, { settings: { initialWindowSize: 65_535 } });
    const stream = session.request({});
    await once(stream, 'response');
    await worker.statsWhen(() => true);
    await worker.statsWhen(() => true);
    assert.ok(given.bytes < 32 * MIB, String(given.bytes));
    assert.equal(worker.stats?.buffers.spoolBytes, 0);
    stream.close(http2.constants.NGHTTP2_CANCEL);
    await worker.quiet();
  });
});

describe('failures', () => {
  const broken = (bytes: string) => (t: TestContext) =>
    RawUpstream.start(t, (socket, text) => {
      if (!text.includes('\r\n\r\n')) return;
      socket.write(bytes, 'latin1', () => socket.resetAndDestroy());
    });

  for (const [name, bytes] of [
    ['with a length', 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf'],
    ['without a length', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n'],
  ] as const) {
    test(`a response ${name} that breaks off is reset, never ended`, async (t) => {
      const upstream = await broken(bytes)(t);
      await worker.switchTo(upstream.target);
      const session = await connectHttp2(t, worker);
      const stream = session.request({});
      let ended = false;
      stream.on('end', () => (ended = true));
      stream.resume();
      await closed(stream);
      assert.equal(stream.rstCode, NGHTTP2_INTERNAL_ERROR);
      assert.equal(ended, false);
      // Others of the connection are not concerned.
      const fine = await Upstream.start(t, (_, response) => response.end('ok'));
      await worker.switchTo(fine.target);
      assert.equal((await ask(session, {})).body.toString(), 'ok');
    });
  }

  test('errors of ours say who answers', async (t) => {
    await worker.switchTo(null);
    const session = await connectHttp2(t, worker);
    const answer = await ask(session, { accept: 'application/json' });
    assert.equal(answer.status, 503);
    assert.equal(answer.headers['wunderproxy-error'], 'no_active_container');
    assert.equal(answer.headers['retry-after'], '5');
    assert.match(answer.body.toString(), /"Code":"no_active_container"/);
    const upstream = await broken('')(t);
    await worker.switchTo(upstream.target);
    assert.equal((await ask(session, { ':method': 'POST' }, 'x')).headers['wunderproxy-error'], 'upstream_broken');
  });

  test('a stream that its client takes back ends its request at the application, and counts as 499', async (t) => {
    const upstream = await RawUpstream.start(t, () => {});
    const own = await ownWorker(t, upstream);
    const session = await connectHttp2(t, own);
    const stream = session.request({});
    await once(upstream.events, 'data');
    stream.close(http2.constants.NGHTTP2_CANCEL);
    await upstream.abandoned();
    const { statusCodes } = await own.quiet();
    assert.deepEqual(statusCodes, { 499: 1 });
    const another = session.request({}).on('error', () => {});
    await once(upstream.events, 'data');
    session.destroy();
    await upstream.abandoned();
    assert.ok(another.destroyed);
    assert.deepEqual((await own.quiet()).statusCodes, { 499: 2 });
  });

  test('what a draining container still runs is broken off at its deadline', async (t) => {
    const upstream = await Upstream.start(t, (request, response) => {
      if (request.url === '/begun') response.write('half');
    });
    const fresh = await Upstream.start(t, (_, response) => response.end('fresh'));
    await worker.switchTo(upstream.target);
    const session = await connectHttp2(t, worker);
    const begun = session.request({ ':path': '/begun' }).on('error', () => {});
    await once(begun, 'data');
    const waiting = session.request({ ':path': '/waiting' });
    await once(upstream.server, 'request');
    await worker.switchTo(fresh.target);
    const broken = closed(begun);
    worker.send({ type: 'cut', id: upstream.target.id });
    assert.equal((await read(waiting)).headers['wunderproxy-error'], 'drain_timeout');
    await broken;
    assert.equal(begun.rstCode, NGHTTP2_INTERNAL_ERROR);
    assert.equal((await ask(session, {})).body.toString(), 'fresh');
  });
});

describe('connections', () => {
  test('their states follow their streams', async (t) => {
    const held: http.ServerResponse[] = [];
    const upstream = await Upstream.start(t, (_, response) => held.push(response));
    const own = await ownWorker(t, upstream);
    const states = (expected: object) =>
      own.statsWhen(({ states }) => JSON.stringify(states) === JSON.stringify({ new: 0, active: 0, idle: 0, hijacked: 0, ...expected })); // prettier-ignore
    const raw = await RawClient.connectSecurely(t, own.tlsPort, { ALPNProtocols: ['h2'] });
    await states({ new: 1 });
    raw.socket.destroy();
    const session = await connectHttp2(t, own);
    await states({ idle: 1 });
    const answers = [ask(session, {}), ask(session, {})];
    await once(upstream.server, 'request');
    await states({ active: 1 });
    for (let i = 0; held.length < 2 && i < 10; i++) await once(upstream.server, 'request');
    for (const response of held) response.end('x');
    await Promise.all(answers);
    await states({ idle: 1 });
    session.destroy();
    const { connectionsAccepted, connectionsClosed } = await states({});
    assert.deepEqual([connectionsAccepted, connectionsClosed], [2, 2]);
  });

  for (const keepIdle of [true, false]) {
    test(`a retiring worker asks its clients to go, and finishes what runs${keepIdle ? '' : ' (nobody follows it)'}`, async (t) => {
      const held: http.ServerResponse[] = [];
      const upstream = await Upstream.start(t, (request, response) => {
        if (request.url === '/slow') held.push(response);
        else response.end('quick');
      });
      const own = await ownWorker(t, upstream);
      const idle = await connectHttp2(t, own);
      await ask(idle, {});
      const busy = await connectHttp2(t, own);
      const slow = ask(busy, { ':path': '/slow' });
      await once(upstream.server, 'request');
      const idleClosed = once(idle, 'close');
      const busyWent = once(busy, 'goaway');
      own.send({ type: 'retire', timeoutMs: 20_000, keepIdle });
      await idleClosed;
      assert.equal(((await busyWent) as [number])[0], http2.constants.NGHTTP2_NO_ERROR);
      held[0]?.end('slow');
      assert.equal((await slow).body.toString(), 'slow');
      assert.deepEqual(await own.exited, { code: 0, signal: null });
    });
  }

  test('what still runs when the retire timeout is over gets 504', async (t) => {
    const upstream = await Upstream.start(t, () => {});
    const own = await ownWorker(t, upstream);
    const session = await connectHttp2(t, own);
    const answer = ask(session, {});
    await once(upstream.server, 'request');
    own.send({ type: 'retire', timeoutMs: 500, keepIdle: false });
    assert.equal((await answer).headers['wunderproxy-error'], 'drain_timeout');
    assert.deepEqual(await own.exited, { code: 0, signal: null });
  });
});
