import assert from 'node:assert/strict';
import { once } from 'node:events';
import type * as http from 'node:http';
import { request } from 'node:http';
import { test } from 'node:test';
import * as zlib from 'node:zlib';
import { type Answer, send } from '../support/http.ts';
import { Upstream } from './support/upstream.ts';
import { TestWorker } from './support/worker.ts';

const decoders: Record<string, (data: Buffer) => Buffer> = {
  gzip: zlib.gunzipSync,
  br: zlib.brotliDecompressSync,
  zstd: zlib.zstdDecompressSync,
};

const TEXT = Buffer.from(Array.from({ length: 2_000 }, (_, i) => `line ${i * 7_919} of many\n`).join(''));

/** What an application answers with. */
interface Given {
  status?: number;
  headers: Record<string, string | string[] | number>;
  body?: Buffer;
  trailers?: Record<string, string>;
}

let upstream: Upstream;
let worker: TestWorker;
let given: Given = { headers: {} };
let asked: http.IncomingHttpHeaders = {};

test.before(async () => {
  upstream = await Upstream.start(null, (request, response) => {
    asked = request.headers;
    request.resume();
    const { status = 200, headers, body, trailers } = given;
    response.writeHead(status, headers);
    if (trailers !== undefined) response.addTrailers(trailers);
    response.end(body);
  });
  worker = await TestWorker.start(null, { route: { active: upstream.target } });
});

test.after(async () => {
  await worker.quiet();
  await worker.stop();
  await upstream.stop();
});

async function get(answer: Given, headers: Record<string, string> = {}, method = 'GET'): Promise<Answer> {
  given = answer;
  return send(`127.0.0.1:${worker.port}`, '/', { method, headers: { 'accept-encoding': 'gzip', ...headers } });
}

const text = (more: Given['headers'] = {}, body = TEXT): Given => ({
  headers: { 'content-type': 'text/plain', 'content-length': body.length, ...more },
  body,
});

for (const coding of ['gzip', 'br', 'zstd']) {
  for (const [what, size] of [
    ['small body', 1_024],
    ['body', 20_000],
    ['large body', 2_000_000],
  ] as const) {
    for (const framing of ['with a length', 'without a length']) {
      test(`a ${what} ${framing} arrives in ${coding}`, async () => {
        const body = Buffer.alloc(size, TEXT);
        const headers = {
          'content-type': 'text/plain',
          ...(framing === 'with a length' && { 'content-length': size }),
        };
        const answer = await get({ headers, body }, { 'accept-encoding': coding });
        assert.equal(answer.status, 200);
        assert.equal(answer.headers['content-encoding'], coding);
        assert.equal(answer.headers.vary, 'Accept-Encoding');
        assert.ok(answer.bytes.length < size / 3, `${answer.bytes.length} of ${size} bytes`);
        assert.ok(decoders[coding]?.(answer.bytes).equals(body));
      });
    }
  }
}

for (const [type, compressed] of [
  ['text/html; charset=utf-8', true],
  ['application/json', true],
  ['Application/LD+JSON', true],
  ['text/javascript', true],
  ['image/svg+xml', true],
  ['application/atom+xml', true],
  ['application/wasm', true],
  ['font/ttf', true],
  ['application/manifest+json', true],
  ['image/png', false],
  ['font/woff2', false],
  ['application/zip', false],
  ['application/octet-stream', false],
  ['', false],
] as const) {
  test(`content of type ${type || '(none)'} is ${compressed ? '' : 'not '}compressed`, async () => {
    const headers = { 'content-length': TEXT.length, ...(type !== '' && { 'content-type': type }) };
    const answer = await get({ headers, body: TEXT });
    assert.equal(answer.headers['content-encoding'], compressed ? 'gzip' : undefined);
    assert.equal(answer.headers.vary, compressed ? 'Accept-Encoding' : undefined);
    assert.ok((compressed ? zlib.gunzipSync(answer.bytes) : answer.bytes).equals(TEXT));
  });
}

/** Goes out exactly as it came. */
async function untouched(answer: Given, headers: Record<string, string> = {}, method = 'GET'): Promise<void> {
  const got = await get(answer, headers, method);
  assert.equal(got.status, answer.status ?? 200);
  for (const name of ['content-encoding', 'vary', 'etag', 'accept-ranges', 'content-length']) {
    const expected = Object.entries(answer.headers).find(([key]) => key.toLowerCase() === name)?.[1];
    assert.equal(got.headers[name], expected === undefined ? undefined : String(expected), name);
  }
  if (method !== 'HEAD') assert.ok(got.bytes.equals(answer.body ?? Buffer.alloc(0)));
}

for (const [what, answer] of Object.entries<Given>({
  'has a coding already': text({ 'content-encoding': 'br' }),
  'is shorter than 1 KiB': text({}, TEXT.subarray(0, 1_023)),
  'must not be transformed': text({ 'cache-control': 'public, No-Transform, max-age=60', etag: '"a"' }),
  'is a part (206)': { ...text({ 'content-range': 'bytes 0-9999/20000' }), status: 206 },
  'is several parts': { ...text({ 'content-type': 'multipart/byteranges; boundary=x' }), status: 206 },
  'says which part it is': text({ 'content-range': 'bytes 0-9999/20000' }),
  'has two types': text({ 'content-type': ['text/plain', 'text/html'] }),
  'has no content': { status: 204, headers: { 'content-type': 'text/plain', etag: '"a"' } },
})) {
  test(`a response that ${what} goes out as it is`, () => untouched(answer));
}

test('what could be compressed and is not says so in Vary, and keeps all else', async () => {
  const answer = text({ etag: '"a"', 'accept-ranges': 'bytes', digest: 'sha-256=abc' });
  for (const headers of [
    { 'accept-encoding': '' },
    { 'accept-encoding': 'deflate' },
    { 'accept-encoding': 'gzip;q=0' },
    { 'accept-encoding': 'identity' },
    { 'accept-encoding': 'gzip;;q=1' },
    { 'cache-control': 'no-transform' },
  ]) {
    const got = await get(answer, headers);
    assert.equal(got.headers['content-encoding'], undefined);
    assert.equal(got.headers.vary, 'Accept-Encoding');
    assert.equal(got.headers.etag, '"a"');
    assert.equal(got.headers['accept-ranges'], 'bytes');
    assert.equal(got.headers['content-length'], String(TEXT.length));
    assert.equal(got.headers['digest'], 'sha-256=abc');
    assert.ok(got.bytes.equals(TEXT));
  }
});

test('what is true of the uncompressed bytes only is not said of the compressed ones', async () => {
  const got = await get({
    ...text({
      ...{
        etag: '"a"',
        'accept-ranges': 'bytes',
        'content-md5': 'x',
        digest: 'sha-256=x',
        'repr-digest': 'sha-256=:x:',
      },
      ...{ 'content-digest': 'sha-256=:x:', 'content-encoding': 'identity', 'last-modified': 'x', 'x-other': 'kept' },
    }),
  });
  assert.equal(got.headers['content-encoding'], 'gzip');
  assert.equal(got.headers.etag, 'W/"a"');
  assert.equal(got.headers['content-length'], String(got.bytes.length));
  assert.equal(got.headers['x-other'], 'kept');
  assert.equal(got.headers['last-modified'], 'x');
  for (const name of ['accept-ranges', 'content-md5', 'digest', 'repr-digest', 'content-digest']) {
    assert.equal(got.headers[name], undefined, name);
  }
});

for (const [before, after] of [
  [undefined, 'Accept-Encoding'],
  ['Origin', 'Origin, Accept-Encoding'],
  [['Origin', 'Cookie'], 'Origin, Cookie, Accept-Encoding'],
  ['Origin, accept-encoding', 'Origin, accept-encoding'],
  ['*', '*'],
  ['', 'Accept-Encoding'],
] as const) {
  test(`Vary ${JSON.stringify(before)} becomes ${after}, compressed or not`, async () => {
    const answer = text(before === undefined ? {} : { vary: [before].flat() });
    assert.equal((await get(answer)).headers.vary, after);
    assert.equal((await get(answer, { 'accept-encoding': 'br;q=0' })).headers.vary, after);
  });
}

test('a weak ETag stays as it is', async () => {
  assert.equal((await get(text({ etag: 'W/"a"' }))).headers.etag, 'W/"a"');
});

test('HEAD gets the headers of GET', async () => {
  const got = await get(text({ etag: '"a"', 'accept-ranges': 'bytes' }), {}, 'HEAD');
  assert.equal(got.headers['content-encoding'], 'gzip');
  assert.equal(got.headers.vary, 'Accept-Encoding');
  assert.equal(got.headers.etag, 'W/"a"');
  assert.equal(got.headers['content-length'], undefined);
  assert.equal(got.headers['transfer-encoding'], undefined);
  assert.equal(got.headers['accept-ranges'], undefined);
  assert.equal(got.bytes.length, 0);
  await untouched(text({}, TEXT.subarray(0, 500)), {}, 'HEAD');
});

test('a 304 for what a client got compressed names it as the client knows it', async () => {
  const answer = { status: 304, headers: { etag: '"a"' } };
  const known = await get(answer, { 'if-none-match': '"x", W/"a"' });
  assert.equal(known.status, 304);
  assert.equal(asked['if-none-match'], '"x", W/"a"', 'the application sees what the client said');
  assert.equal(known.headers.etag, 'W/"a"');
  assert.equal(known.headers.vary, 'Accept-Encoding');
  for (const tags of ['"a"', 'W/"a", "a"', 'W/"b"', '*']) {
    const other = await get(answer, { 'if-none-match': tags });
    assert.equal(other.headers.etag, '"a"', tags);
    assert.equal(other.headers.vary, undefined, tags);
  }
});

test('errors of the application are compressed too', async () => {
  const got = await get({ ...text(), status: 500 });
  assert.equal(got.status, 500);
  assert.ok(zlib.gunzipSync(got.bytes).equals(TEXT));
});

test('the application is told what the client accepts, and may compress by itself', async () => {
  const body = zlib.gzipSync(TEXT);
  const got = await get(text({ 'content-encoding': 'gzip', vary: 'Accept-Encoding', etag: '"a"' }, body), {
    'accept-encoding': 'gzip;q=0.7, x-own',
  });
  assert.equal(asked['accept-encoding'], 'gzip;q=0.7, x-own');
  assert.equal(got.headers.etag, '"a"');
  assert.equal(got.headers.vary, 'Accept-Encoding');
  assert.ok(got.bytes.equals(body));
});

test('trailers come after a compressed body, without digests of the uncompressed one', async () => {
  for (const size of [2_000, 200_000]) {
    given = {
      headers: { 'content-type': 'text/plain', trailer: 'x-sum, digest' },
      body: Buffer.alloc(size, TEXT),
      trailers: { 'x-sum': 'abc', digest: 'sha-256=x' },
    };
    const [response] = (await once(
      request({ host: '127.0.0.1', port: worker.port, headers: { 'accept-encoding': 'gzip' } }).end(),
      'response',
    )) as [http.IncomingMessage];
    const body = Buffer.concat((await response.toArray()) as Buffer[]);
    assert.equal(response.headers['content-encoding'], 'gzip');
    assert.equal(zlib.gunzipSync(body).length, size);
    assert.deepEqual({ ...response.trailers }, { 'x-sum': 'abc' });
  }
});

/** What browsers say of a request (Fetch Metadata), and whether lengths may tell its sender something (BREACH). */
for (const [what, headers, compressed] of [
  ['a visitor with a cookie', { cookie: 'a=b', 'sec-fetch-site': 'same-origin' }, true],
  ['a sibling site', { cookie: 'a=b', 'sec-fetch-site': 'same-site' }, true],
  ['a foreign page without credentials', { 'sec-fetch-site': 'cross-site' }, true],
  ['a foreign page with a cookie', { cookie: 'a=b', 'sec-fetch-site': 'cross-site' }, false],
  ['a foreign page with a password', { authorization: 'Basic YTpi', 'sec-fetch-site': 'cross-site' }, false],
  ['a foreign page that knows a token', { authorization: 'Bearer x', 'sec-fetch-site': 'cross-site' }, true],
  ['a link that was clicked', { cookie: 'a=b', 'sec-fetch-site': 'cross-site', 'sec-fetch-user': '?1' }, true],
  ['a program with a cookie', { cookie: 'a=b' }, true],
] as [string, Record<string, string>, boolean][]) {
  test(`a response for ${what} is ${compressed ? '' : 'not '}compressed`, async () => {
    const got = await get(text(), headers);
    assert.equal(got.headers['content-encoding'], compressed ? 'gzip' : undefined);
    assert.equal(got.headers.vary, 'Accept-Encoding');
  });
}

test('with --compress none nothing is changed', async (t) => {
  const plain = await TestWorker.start(t, { route: { active: upstream.target }, flags: ['--compress=none'] });
  given = text({ etag: '"a"' });
  const got = await send(`127.0.0.1:${plain.port}`, '/', { headers: { 'accept-encoding': 'gzip' } });
  assert.equal(got.headers.vary, undefined);
  assert.equal(got.headers.etag, '"a"');
  assert.ok(got.bytes.equals(TEXT));
});

test('--compress-types and --compress say what is compressed and how', async (t) => {
  const flags = ['--compress=gzip,br', '--compress-types=image/*'];
  const own = await TestWorker.start(t, { route: { active: upstream.target }, flags });
  const headers = { 'accept-encoding': 'zstd, br, gzip' };
  given = text({ 'content-type': 'image/bmp' });
  assert.equal((await send(`127.0.0.1:${own.port}`, '/', { headers })).headers['content-encoding'], 'gzip');
  given = text();
  assert.equal((await send(`127.0.0.1:${own.port}`, '/', { headers })).headers['content-encoding'], undefined);
});
