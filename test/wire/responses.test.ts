import assert from 'node:assert/strict';
import { after, before, describe, test, type TestContext } from 'node:test';
import { RawUpstream } from '../proxy/support/upstream.ts';
import { RawClient, TestWorker } from '../proxy/support/worker.ts';

let worker: TestWorker;
let good: RawUpstream;
before(async () => {
  worker = await TestWorker.start(null, { flags: ['--response-timeout=2s', '--response-idle-timeout=500ms'] });
  good = await RawUpstream.start(null, (socket, text) => {
    if (!text.endsWith('\r\n\r\n')) return false;
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood');
    return true;
  });
});
after(async () => {
  await worker.stop();
  await good.stop();
});

const GET = 'GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n';

/**
 * What a client gets when the container answers with these bytes, in these pieces; `late` ones follow on each connection for
 * that client once it has its answer, else they could arrive together.
 */
async function ask(
  t: TestContext,
  pieces: string[],
  { request = GET, end = false, late = '' } = {},
): Promise<[string, RawUpstream]> {
  let client: RawClient | null = null;
  const upstream = await RawUpstream.start(t, (socket, text, connection) => {
    if (!text.includes('\r\n\r\n')) return false;
    void (async () => {
      for (const piece of pieces) {
        await new Promise((resolve) => setTimeout(resolve, 5));
        if (!socket.destroyed) socket.write(piece, 'latin1');
      }
      if (late !== '') {
        const answers = new RegExp(`(HTTP/1\\.1 200[^]*?\r\n\r\n(ok)?){${connection}}`);
        const answered = await client?.until(answers).then(
          () => true,
          () => false,
        );
        if (answered && !socket.destroyed) socket.write(late, 'latin1');
      }
      if (end) socket.end();
    })();
    return true;
  });
  await worker.switchTo(upstream.target);
  client = await RawClient.connect(t, worker.port);
  client.send(request);
  return [await client.all(), upstream];
}

async function stillAnswers(t: TestContext): Promise<void> {
  await worker.switchTo(good.target);
  const client = await RawClient.connect(t, worker.port);
  client.send(GET);
  assert.match(await client.all(), /^HTTP\/1\.1 200 OK\r\n[^]*\r\n\r\ngood$/);
}

/** Bytes that must not be taken for a response: the client gets 502, and the connection is not used again. */
function refused(name: string, answer: string): void {
  test(name, async (t) => {
    const [text, upstream] = await ask(t, [answer]);
    assert.match(text, /^HTTP\/1\.1 502 /, JSON.stringify(text.slice(0, 300)));
    assert.equal(text.match(/HTTP\/1\.1 \d\d\d /g)?.length, 1);
    assert.doesNotMatch(text, /smuggled/);
    await upstream.abandoned();
    await stillAnswers(t);
  });
}

/** After the head nothing can be said any more: the client's connection breaks, and what it has is not whole. */
function broken(name: string, answer: string, whole: RegExp, end = false): void {
  test(name, async (t) => {
    const [text] = await ask(t, [answer], { end });
    assert.doesNotMatch(text, whole);
    await stillAnswers(t);
  });
}

const SMUGGLED = 'HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled';

describe('heads that are not valid', () => {
  refused('bare line feeds', 'HTTP/1.1 200 OK\nContent-Length: 2\n\nok');
  refused('a bare line feed in a field', 'HTTP/1.1 200 OK\r\nX: a\nY: b\r\nContent-Length: 2\r\n\r\nok');
  refused('a bare carriage return in a field', 'HTTP/1.1 200 OK\r\nX: a\rY: b\r\nContent-Length: 2\r\n\r\nok');
  refused('obs-fold', 'HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok');
  refused('a space before the colon', 'HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok');
  refused('NUL in a value', 'HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\nok');
  refused('a field without a colon', 'HTTP/1.1 200 OK\r\nX\r\nContent-Length: 2\r\n\r\nok');
  refused('a name that is no token', 'HTTP/1.1 200 OK\r\nX(): a\r\nContent-Length: 2\r\n\r\nok');
  refused('both lengths', `HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`);
  refused('two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok');
  refused('a list of lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok');
  refused('a length with a sign', 'HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok');
  refused('a length that is too large', 'HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok');
  refused('an empty length', 'HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\nok');
  refused('another coding', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok');
  refused('a coding after chunked', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n');
  refused('a coding that only looks like chunked', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n');
  refused('a status of two digits', 'HTTP/1.1 99 X\r\nContent-Length: 0\r\n\r\n');
  refused('a status of four digits', 'HTTP/1.1 2000 X\r\nContent-Length: 0\r\n\r\n');
  refused('status 000', 'HTTP/1.1 000 X\r\nContent-Length: 0\r\n\r\n');
  refused('another protocol', 'ICY 200 OK\r\nContent-Length: 0\r\n\r\n');
  refused('HTTP/0.9', '<html>smuggled</html>\r\n\r\n');
  // RFC 9110 section 15.2: a client must be able to parse it even if it does not expect one.
  test('100 Continue that nobody asked for is passed over', async (t) => {
    const [text] = await ask(t, ['HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok']);
    assert.match(text, /^HTTP\/1\.1 200 OK\r\n[^]*\r\n\r\nok$/);
    await stillAnswers(t);
  });
  refused('101 that nobody asked for', `HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n${SMUGGLED}`);
  refused('an interim response that is not valid', `HTTP/1.1 103 X\r\nA B: c\r\n\r\n${SMUGGLED}`);
  refused('headers over 64 KiB', `HTTP/1.1 200 OK\r\nX: ${'y'.repeat(70_000)}\r\nContent-Length: 0\r\n\r\n`);
});

describe('bytes beyond the body', () => {
  refused('after a length', `HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok${SMUGGLED}`);
  refused('after a length of 0', `HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n${SMUGGLED}`);
  refused(
    'after the last chunk',
    `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n${SMUGGLED}`,
  );
  refused('after 304', `HTTP/1.1 304 Not Modified\r\n\r\n${SMUGGLED}`);
  refused('after 204', `HTTP/1.1 204 No Content\r\n\r\n${SMUGGLED}`);

  test('when they come later, the response stands and the connection is not used again', async (t) => {
    const answer = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
    const [text, upstream] = await ask(t, [answer], { late: SMUGGLED });
    assert.match(text, /^HTTP\/1\.1 200 OK\r\n[^]*\r\n\r\nok$/);
    await upstream.abandoned();
    const client = await RawClient.connect(t, worker.port);
    client.send(GET);
    assert.match(await client.all(), /^HTTP\/1\.1 200 OK\r\n[^]*\r\n\r\nok$/);
    assert.equal(upstream.connections, 2);
    await stillAnswers(t);
  });

  test('a body after the response to HEAD is never taken for the next response', async (t) => {
    const head = GET.replace('GET', 'HEAD').replace('Connection: close\r\n', '');
    const request = head + head.replace('a\r\n', 'a\r\nConnection: close\r\n');
    const [text] = await ask(t, ['HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n'], { request, late: SMUGGLED });
    assert.doesNotMatch(text, /smuggled/);
    assert.equal(text.match(/HTTP\/1\.1 200 OK/g)?.length, 2);
    await stillAnswers(t);
  });

  test('a body that comes together with the response to HEAD is passed over', async (t) => {
    const request = GET.replace('GET', 'HEAD');
    for (const answer of [
      'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n',
    ]) {
      const [text] = await ask(t, [answer], { request });
      assert.match(text, /^HTTP\/1\.1 200 OK\r\n[^]*\r\n\r\n$/);
    }
    await stillAnswers(t);
  });
});

test('a trailer field that is not allowed is left out, the others are passed on', async (t) => {
  const trailers = 'X-Sum: 1\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n';
  const [text] = await ask(t, [`HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n${trailers}\r\n`]);
  assert.match(text, /\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n$/);
  await stillAnswers(t);
});

describe('bodies that are not whole', () => {
  const chunked = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n';
  const filler = `${(20_000).toString(16)}\r\n${'x'.repeat(20_000)}\r\n`;
  broken(
    'an end before the length',
    `HTTP/1.1 200 OK\r\nContent-Length: 30000\r\n\r\n${'x'.repeat(20_000)}`,
    /x{30000}/,
    true,
  );
  broken('an end before the last chunk', `${chunked}${filler}`, /\r\n0\r\n\r\n$/, true);
  broken('an end within a chunk', `${chunked}${filler}5\r\nhe`, /\r\n0\r\n\r\n$/, true);
  broken('a chunk size that is no number', `${chunked}${filler}zz\r\nhello\r\n0\r\n\r\n`, /\r\n0\r\n\r\n$/);
  broken('a chunk longer than its size', `${chunked}${filler}2\r\nhello\r\n0\r\n\r\n`, /\r\n0\r\n\r\n$/);
  broken('a bare line feed after a size', `${chunked}${filler}5\nhello\r\n0\r\n\r\n`, /\r\n0\r\n\r\n$/);
  broken('a bare line feed after a chunk', `${chunked}${filler}5\r\nhello\n0\r\n\r\n`, /\r\n0\r\n\r\n$/);
  broken('a chunk size above 64 bits', `${chunked}${filler}10000000000000005\r\nhello\r\n0\r\n\r\n`, /\r\n0\r\n\r\n$/);
  broken('a trailer that is not valid', `${chunked}${filler}0\r\nA B: c\r\n\r\n`, /\r\n0\r\n\r\n$/);
  broken('a body that stalls', `${chunked}${filler}`, /\r\n0\r\n\r\n$/);
});

describe('what is valid, if odd', () => {
  for (const [name, answer, expected] of [
    ['no reason', 'HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok', /^HTTP\/1\.1 200 OK\r\n[^]*ok$/],
    ['an empty reason', 'HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok', /^HTTP\/1\.1 200 OK\r\n[^]*ok$/],
    ['HTTP/1.0', 'HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok', /^HTTP\/1\.1 200 OK\r\n[^]*ok$/],
    ['a status that nobody knows', 'HTTP/1.1 799 X\r\nContent-Length: 2\r\n\r\nok', /^HTTP\/1\.1 799 X\r\n[^]*ok$/],
    ['obs-text in a value', 'HTTP/1.1 200 OK\r\nX: \xe9\r\nContent-Length: 2\r\n\r\nok', /\r\nX: \xe9\r\n[^]*ok$/],
    ['an empty value', 'HTTP/1.1 200 OK\r\nX:\r\nContent-Length: 2\r\n\r\nok', /\r\nX: \r\n[^]*ok$/],
    ['chunk extensions', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\n\r\n', /ok$/],
  ] as const) {
    test(name, async (t) => {
      const [text] = await ask(t, [answer]);
      assert.match(text, expected);
      await stillAnswers(t);
    });
  }

  test('a response is the same however its bytes are cut', async (t) => {
    const answer = 'HTTP/1.1 200 OK\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n';
    const [text] = await ask(t, answer.split(''));
    const [head = '', ...body] = text.split('\r\n\r\n');
    assert.match(head, /^HTTP\/1\.1 200 OK\r\nX: y\r\n/);
    assert.equal(body[0]?.replace(/\d|\r\n/g, ''), 'helloA: b', 'whatever the size of the chunks');
    assert.ok(text.endsWith('\r\n0\r\nA: b\r\n\r\n'));
    await stillAnswers(t);
  });
});
