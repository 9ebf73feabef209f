import assert from 'node:assert/strict';
import { once } from 'node:events';
import type * as http from 'node:http';
import * as http2 from 'node:http2';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { END_HEADERS, END_STREAM, frame, H2Client, headers, request } from '../wire/support/h2-frames.ts';
import { assertStagesAddUp, type Line, STAGES, startLogged } from './support/access-lines.ts';
import { ask, closed, connectHttp2, read } from './support/http2-client.ts';
import { testMaterial } from './support/transport.ts';
import { RawUpstream, Upstream } from './support/upstream.ts';
import { RawClient, type TestWorker } from './support/worker.ts';

/** In ms. */
const PAUSE = 300;

/** Answers in two pieces, PAUSE before each. */
function slowly(request: http.IncomingMessage, response: http.ServerResponse): void {
  request.resume().on('end', () => {
    setTimeout(() => {
      response.write('x');
      setTimeout(() => response.end('y'), PAUSE);
    }, PAUSE);
  });
}

/** What the container and the client took is what the line says, to the rounding of its figures. */
async function assertCounted(worker: TestWorker, line: Line): Promise<void> {
  const { targets, seconds } = await worker.statsWhen(({ requests }) => requests === 1);
  const own = (targets[0]?.seconds ?? 0) * 1_000;
  const told = Number(line['connect']) + Number(line['firstByte']) + Number(line['upstream']);
  assert.ok(Math.abs(own - told) < 0.01, `${own} ms counted, ${told} ms told`);
  assert.ok(Math.abs(seconds * 1_000 - Number(line['total'])) < 0.01);
}

test('a request by HTTP/2 is a line with everything that one by HTTP/1 has', async (t) => {
  const upstream = await Upstream.start(t, (request, response) => {
    request.resume().on('end', () => response.end('hello'));
  });
  const { worker, lines } = await startLogged(t, { route: { active: upstream.target }, tls: testMaterial() });
  const session = await connectHttp2(t, worker);
  const fields = { 'user-agent': 'probe/2', referer: 'https://x/y?z', cookie: 'session=s3cret' };
  const target = { ':method': 'POST', ':path': '/a?b=c', ':authority': 'shop.test', authorization: 'Bearer s3cret' };
  const answer = await ask(session, { ...target, ...fields }, 'abc');
  assert.equal(answer.body.toString(), 'hello');
  const [line] = await lines(1);
  assert.ok(line);
  const { hash, revision, id } = upstream.target;
  const said = { client: '127.0.0.1', scheme: 'https', method: 'POST', host: 'shop.test', target: '/a?b=c' };
  const more = { protocol: 'HTTP/2', status: 200, referer: 'https://x/y?z', agent: 'probe/2', bodyIn: 3, bodyOut: 5 };
  const container = { hash, revision, container: id.slice(0, 8) };
  for (const [key, value] of Object.entries({ ...said, ...more, ...container })) assert.equal(line[key], value, key);
  assert.equal(typeof line['request'], 'string');
  assert.ok(Number(line['bytesIn']) > 3 && Number(line['bytesOut']) > 5);
  assert.ok(STAGES.every((stage) => typeof line[stage] === 'number' && line[stage] >= 0));
  assertStagesAddUp(line);
  await assertCounted(worker, line);
  assert.doesNotMatch(JSON.stringify(line), /s3cret/);
});

test('a request by HTTP/1 over TLS says so', async (t) => {
  const upstream = await Upstream.start(t, (_, response) => response.end('x'));
  const { worker, lines } = await startLogged(t, { route: { active: upstream.target }, tls: testMaterial() });
  const client = await RawClient.connectSecurely(t, worker.tlsPort);
  const text = 'GET /a HTTP/1.1\r\nHost: a\r\n\r\n';
  client.send(text);
  const answer = await client.until(/x$/);
  const [line] = await lines(1);
  assert.ok(line);
  const { scheme, protocol, bytesIn, bytesOut } = line;
  assert.deepEqual([scheme, protocol, bytesIn, bytesOut], ['https', 'HTTP/1.1', text.length, answer.length]);
  assertStagesAddUp(line);
});

test('by HTTP/2 the container is not blamed for a client that sends slowly, nor the client for a slow container', async (t) => {
  const upstream = await Upstream.start(t, slowly);
  const { worker, lines } = await startLogged(t, { route: { active: upstream.target }, tls: testMaterial() });
  const client = await H2Client.connect(t, worker);
  // The fields come in two pieces, and so does the body.
  const fields = headers(1, request({ ':method': 'POST' }), 0);
  client.send(fields.subarray(0, 12));
  await delay(PAUSE);
  client.send(fields.subarray(12), frame('DATA', 0, 1, 'a'));
  await delay(PAUSE);
  client.send(frame('DATA', END_STREAM, 1, 'b'));
  assert.equal(await client.end(1), 'ended');
  const [line] = await lines(1);
  assert.ok(line);
  assert.ok(Number(line['receive']) >= 1.9 * PAUSE, String(line['receive']));
  assert.ok(Number(line['firstByte']) >= 0.9 * PAUSE, String(line['firstByte']));
  assert.ok(Number(line['upstream']) >= 0.9 * PAUSE, String(line['upstream']));
  assertStagesAddUp(line);
  await assertCounted(worker, line);
});

test('fields that continue count from their first frame, those that come after them from their own', async (t) => {
  const upstream = await Upstream.start(t, (_, response) => response.end('x'));
  const { worker, lines } = await startLogged(t, { route: { active: upstream.target }, tls: testMaterial() });
  const client = await H2Client.connect(t, worker);
  const whole = headers(1, request(), END_STREAM).subarray(9);
  client.send(frame('HEADERS', END_STREAM, 1, whole.subarray(0, 5)));
  await delay(PAUSE);
  const rest = frame('CONTINUATION', END_HEADERS, 1, whole.subarray(5));
  client.send(rest, headers(3, request({ ':path': '/next' }), END_STREAM));
  await Promise.all([client.end(1), client.end(3)]);
  const all = await lines(2);
  const receive = (path: string) => Number(all.find(({ target }) => target === path)?.['receive']);
  assert.ok(receive('/') >= 0.9 * PAUSE, String(receive('/')));
  assert.ok(receive('/next') < 0.9 * PAUSE, String(receive('/next')));
});

test('by HTTP/2 a client that reads slowly takes its own time, while the container is done long before', async (t) => {
  const size = 2 ** 20;
  const upstream = await Upstream.start(t, (_, response) => response.end(Buffer.alloc(size, 'x')));
  const { worker, lines } = await startLogged(t, { route: { active: upstream.target }, tls: testMaterial() });
  const session = await connectHttp2(t, worker);
  const stream = session.request({});
  // The container has given everything, and is counted, while the client has not taken it.
  const { requests } = await worker.statsWhen(({ targets }) => targets[0]?.requests === 1);
  assert.equal(requests, 0);
  await delay(PAUSE);
  assert.equal((await read(stream)).body.length, size);
  const [line] = await lines(1);
  assert.ok(line);
  assert.ok(Number(line['send']) >= 0.9 * PAUSE, String(line['send']));
  assert.deepEqual([line['bodyOut'], line['status']], [size, 200]);
  assertStagesAddUp(line);
  await assertCounted(worker, line);
});

test('failures by HTTP/2 name their code and the option that decided', async (t) => {
  const silent = await RawUpstream.start(t, () => {});
  const flags = ['--max-body', '10B', '--response-timeout', '200ms', '--body-timeout', '200ms'];
  const options = { route: { active: silent.target }, flags, tls: testMaterial() };
  const { worker, lines } = await startLogged(t, options);
  const session = await connectHttp2(t, worker);
  const post = { ':method': 'POST' };
  assert.equal((await ask(session, { ...post, 'content-length': '11' }, 'x'.repeat(11))).status, 413);
  const unfinished = session.request(post, { endStream: false });
  unfinished.write('x');
  assert.equal((await read(unfinished)).status, 408);
  assert.equal((await ask(session, {})).status, 504);
  const leaving = session.request({});
  await once(silent.events, 'data');
  leaving.close(http2.constants.NGHTTP2_CANCEL);
  await closed(leaving);
  const raw = await H2Client.connect(t, worker);
  raw.request(1, request({ ':path': null }));
  await raw.end(1);
  const all = await lines(5);
  assert.deepEqual(
    all.map(({ status, error, limit, method, protocol }) => [status, error, limit, method, protocol]),
    [
      [413, 'body_too_large', '--max-body', 'POST', 'HTTP/2'],
      [408, 'body_timeout', '--body-timeout', 'POST', 'HTTP/2'],
      [504, 'upstream_timeout', '--response-timeout', 'GET', 'HTTP/2'],
      [499, 'client_closed', undefined, 'GET', 'HTTP/2'],
      [400, 'bad_request', undefined, undefined, 'HTTP/2'],
    ],
  );
  for (const line of all) assertStagesAddUp(line);
});

test('by HTTP/1 a client that reads slowly takes its own time, while the container is done long before', async (t) => {
  // More than any socket keeps.
  const size = 32 * 2 ** 20;
  const upstream = await Upstream.start(t, (_, response) => response.end(Buffer.alloc(size, 'x')));
  const { worker, lines } = await startLogged(t, { route: { active: upstream.target } });
  const client = await RawClient.connect(t, worker.port);
  client.socket.pause();
  client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  const { requests } = await worker.statsWhen(({ targets }) => targets[0]?.requests === 1);
  assert.equal(requests, 0);
  await delay(PAUSE);
  client.socket.resume();
  await client.length(size);
  const [line] = await lines(1);
  assert.ok(line);
  assert.ok(Number(line['send']) >= 0.9 * PAUSE, String(line['send']));
  assertStagesAddUp(line);
  await assertCounted(worker, line);
});
