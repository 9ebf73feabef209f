import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { RawClient, TestWorker } from './support/worker.ts';
import { RawUpstream, Upstream } from './support/upstream.ts';

let worker: TestWorker;
before(async () => {
  worker = await TestWorker.start(null);
});
after(() => worker.stop());

test('a request reaches the container as it was sent, with the forwarding fields of wunderproxy', async (t) => {
  const upstream = await RawUpstream.answering(t, 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
  await worker.switchTo(upstream.target);
  const client = await RawClient.connect(t, worker.port);
  client.send(
    'POST /a/../b?x=%2f&y HTTP/1.1\r\nHost: shop.example:8080\r\nX-B: 2\r\nx-a: 1\r\nX-B: 3\r\nContent-Length: 5\r\n' +
      'X-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX_Forwarded_Proto: https\r\nX-Request-Id: mine\r\n' +
      'Proxy: evil\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\nKeep-Alive: 5\r\n\r\nhello',
  );
  await client.until(/ok$/);
  const [head = '', body] = upstream.received.split('\r\n\r\n');
  assert.equal(body, 'hello');
  const lines = head.split('\r\n');
  assert.equal(lines[0], 'POST /a/../b?x=%2f&y HTTP/1.1');
  const rest = lines.slice(1).filter((line) => !/^(host|content-length):/i.test(line));
  assert.match(lines.join('\n'), /^Host: shop\.example:8080$/m);
  assert.deepEqual(rest.slice(0, 3), ['X-B: 2', 'x-a: 1', 'X-B: 3']);
  assert.deepEqual(rest.slice(3, 7), [
    'X-Forwarded-For: 127.0.0.1',
    'X-Forwarded-Proto: http',
    'X-Forwarded-Host: shop.example:8080',
    'X-Real-IP: 127.0.0.1',
  ]);
  assert.match(rest[7] ?? '', /^X-Request-Id: [0-9a-f]{32}$/);
  assert.match(rest[8] ?? '', /^X-Request-Start: t=\d{13}$/);
  assert.equal(rest.length, 9);
});

test('a response reaches the client as the container gave it, duplicates in order', async (t) => {
  const upstream = await RawUpstream.answering(
    t,
    'HTTP/1.1 299 Odd Thing\r\nSet-Cookie: a=1\r\nX-Thing: é\r\nSet-Cookie: b=2\r\nX-Hop: 1\r\n' +
      'Connection: X-Hop\r\nKeep-Alive: timeout=5\r\nContent-Length: 3\r\n\r\nabc',
  );
  await worker.switchTo(upstream.target);
  const client = await RawClient.connect(t, worker.port);
  client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  const text = await client.until(/abc$/);
  const lines = text.split('\r\n');
  assert.deepEqual(lines.slice(0, 4), ['HTTP/1.1 299 Odd Thing', 'Set-Cookie: a=1', 'X-Thing: é', 'Set-Cookie: b=2']);
  assert.match(lines[4] ?? '', /^Date: /);
  assert.deepEqual(lines.slice(5), ['Content-Length: 3', '', 'abc']);
});

test('one connection carries many requests, pipelined ones too, answered in order', async (t) => {
  const upstream = await Upstream.start(t, (request, response) => {
    setTimeout(() => response.end(request.url), request.url === '/1' ? 20 : 0);
  });
  await worker.switchTo(upstream.target);
  const client = await RawClient.connect(t, worker.port);
  client.send([1, 2, 3].map((n) => `GET /${n} HTTP/1.1\r\nHost: a\r\n\r\n`).join(''));
  const text = await client.until(/\/3/);
  assert.deepEqual(text.match(/\/\d$|\/\d(?=HTTP)|(?<=\r\n)\/\d/gm), ['/1', '/2', '/3']);
  assert.equal(text.match(/HTTP\/1\.1 200 OK/g)?.length, 3);
});
