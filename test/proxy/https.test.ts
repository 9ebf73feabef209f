import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { RawUpstream, Upstream } from './support/upstream.ts';
import { TEST_HOST, testMaterial } from './support/transport.ts';
import { RawClient, TestWorker } from './support/worker.ts';

describe('plain HTTP when there is TLS', () => {
  let upstream: Upstream;
  let worker: TestWorker;

  before(async () => {
    upstream = await Upstream.start(null, ({ url, headers }, response) => {
      response.end(`application ${url} ${headers['x-forwarded-proto']}`);
    });
    const flags = ['--plain-path=/up,/health/live', '--host=shop.example,www.shop.example', '--hsts=180d'];
    worker = await TestWorker.start(null, { route: { active: upstream.target }, tls: testMaterial(), flags });
  });
  after(async () => {
    await worker.stop();
    await upstream.stop();
  });

  for (const [what, request, location] of [
    ['a page', 'GET /a/b?c=d&e HTTP/1.1\r\nHost: shop.example', '/a/b?c=d&e'],
    ['a host with another port', 'GET / HTTP/1.1\r\nHost: shop.example:8080', '/'],
    ['a host in capitals', 'GET / HTTP/1.1\r\nHost: SHOP.example', '/'],
    ['a target in absolute form', 'GET http://shop.example/x HTTP/1.1\r\nHost: shop.example', '/x'],
    ['a target that looks like another host', 'GET //evil.example/ HTTP/1.1\r\nHost: shop.example', '//evil.example/'],
    ['the server as a whole', 'OPTIONS * HTTP/1.1\r\nHost: shop.example', ''],
    ['what only begins like a plain path', 'GET /upload HTTP/1.1\r\nHost: shop.example', '/upload'],
    ['what is below a plain path', 'GET /up/x HTTP/1.1\r\nHost: shop.example', '/up/x'],
    ['HTTP/1.0', 'GET /x HTTP/1.0\r\nHost: shop.example', '/x'],
    ['a peer that nobody trusts', 'GET /x HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-Proto: https', '/x'],
  ] as const) {
    test(`${what} is sent to https with 308`, async (t) => {
      const before = upstream.begun.length;
      const client = await RawClient.connect(t, worker.plainPort);
      client.send(`${request}\r\nConnection: close\r\n\r\n`);
      const text = await client.all();
      assert.match(text, /^HTTP\/1\.1 308 Permanent Redirect\r\n/);
      assert.ok(text.includes(`\r\nLocation: https://shop.example:${worker.tlsPort}${location}\r\n`), text);
      // RFC 6797 section 7.2
      assert.doesNotMatch(text, /strict-transport-security/i);
      assert.equal(upstream.begun.length, before);
    });
  }

  for (const path of ['/up', '/up?verbose', '/health/live', '/.well-known/acme-challenge/some-token']) {
    test(`${path} is served`, async (t) => {
      const client = await RawClient.connect(t, worker.plainPort);
      client.send(`GET ${path} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n`);
      const text = await client.all();
      assert.ok(text.endsWith(`application ${path} http`), text);
      assert.doesNotMatch(text, /strict-transport-security/i);
    });
  }

  for (const [what, request, status] of [
    ['a host that is not served', 'GET / HTTP/1.1\r\nHost: evil.example', '421'],
    ['a host that is none', 'GET / HTTP/1.1\r\nHost: shop.example/@evil.example', '400'],
    ['two hosts', 'GET / HTTP/1.1\r\nHost: shop.example\r\nHost: evil.example', '400'],
    ['TRACE', 'TRACE / HTTP/1.1\r\nHost: shop.example', '405'],
  ] as const) {
    test(`${what} gets ${status}, no redirect`, async (t) => {
      const client = await RawClient.connect(t, worker.plainPort);
      client.send(`${request}\r\nConnection: close\r\n\r\n`);
      const text = await client.all();
      assert.ok(text.startsWith(`HTTP/1.1 ${status} `), text);
      assert.doesNotMatch(text, /^location:/im);
    });
  }

  test('a body is not waited for, nor asked for', async (t) => {
    const client = await RawClient.connect(t, worker.plainPort);
    client.send('POST /form HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 5000000\r\nExpect: 100-continue\r\n\r\n');
    await client.until(/^HTTP\/1\.1 308 [^]*\r\nConnection: close\r\n[^]*Permanent Redirect\n$/);
    client.send('x'.repeat(100_000));
    client.socket.end();
    await client.closed;
    assert.equal(client.error, null);
  });

  test('over TLS the application is told https, and gets its Strict-Transport-Security replaced', async (t) => {
    const client = await RawClient.connectSecurely(t, worker.tlsPort);
    client.send('GET /x HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n');
    const text = await client.all();
    assert.match(text, /application \/x https$/);
    assert.match(text, /\r\nStrict-Transport-Security: max-age=15552000\r\n/);
  });

  test('errors of ours over TLS carry Strict-Transport-Security as well', async (t) => {
    for (const request of ['GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n', 'no HTTP\r\n\r\n']) {
      const client = await RawClient.connectSecurely(t, worker.tlsPort);
      client.send(request);
      assert.match(await client.all(), /^HTTP\/1\.1 4\d\d [^]*\r\nStrict-Transport-Security: max-age=15552000\r\n/);
    }
  });
});

test('without a list of hosts a request that names none can not be sent anywhere: 400', async (t) => {
  const worker = await TestWorker.start(t, { tls: testMaterial() });
  const client = await RawClient.connect(t, worker.plainPort);
  client.send('GET / HTTP/1.0\r\n\r\n');
  assert.match(await client.all(), /^HTTP\/1\.1 400 /);
});

test('behind a trusted proxy that has ended TLS nothing is redirected, and --hsts counts', async (t) => {
  const upstream = await Upstream.start(t, ({ headers }, response) => {
    response.setHeader('strict-transport-security', 'max-age=1');
    response.end(String(headers['x-forwarded-proto']));
  });
  const flags = ['--trusted-proxies=127.0.0.1', '--hsts=1h,includeSubDomains'];
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, tls: testMaterial(), flags });
  for (const [proto, expected] of [
    ['https', /^HTTP\/1\.1 200 [^]*\r\nStrict-Transport-Security: max-age=3600; includeSubDomains\r\n[^]*https$/],
    ['http, HTTPS', /^HTTP\/1\.1 200 /],
    ['https, http', /^HTTP\/1\.1 308 /],
    ['http', /^HTTP\/1\.1 308 /],
  ] as const) {
    const client = await RawClient.connect(t, worker.plainPort);
    client.send(`GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: ${proto}\r\nConnection: close\r\n\r\n`);
    const text = await client.all();
    assert.match(text, expected, proto);
    assert.doesNotMatch(text, /max-age=1\r\n/);
  }
});

test('without --hsts the application says it itself', async (t) => {
  const upstream = await RawUpstream.answering(
    t,
    'HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=7\r\nContent-Length: 0\r\n\r\n',
  );
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, tls: testMaterial() });
  const client = await RawClient.connectSecurely(t, worker.tlsPort);
  client.send(`GET / HTTP/1.1\r\nHost: ${TEST_HOST}\r\nConnection: close\r\n\r\n`);
  assert.match(await client.all(), /\r\nStrict-Transport-Security: max-age=7\r\n/);
});
