import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { test, type TestContext } from 'node:test';
import { send } from '../support/http.ts';
import { newMaterial, startMachine, untilHealthy } from './support/machines.ts';
import { RawUpstream, unreachable, Upstream } from './support/upstream.ts';
import type { TestWorker } from './support/worker.ts';

const METHODS = ['GET', 'HEAD', 'OPTIONS', 'PUT', 'POST', 'PATCH', 'DELETE'];
const IDEMPOTENT = ['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE'];

interface Seen {
  method: string;
  headers: IncomingMessage['headers'];
  rawHeaders: string[];
  body: string;
}

/** An application that notes what it gets. */
async function application(t: TestContext): Promise<{ upstream: Upstream; seen: Seen[] }> {
  const seen: Seen[] = [];
  const upstream = await Upstream.start(t, (request, response) => {
    void request.toArray().then((chunks) => {
      const { method = '', headers, rawHeaders } = request;
      seen.push({ method, headers, rawHeaders, body: Buffer.concat(chunks as Buffer[]).toString() });
      response.end('from the peer');
    });
  });
  return { upstream, seen };
}

/** Two machines of which only the second has an application. */
async function pair(t: TestContext, flags: string[] = []) {
  const material = newMaterial();
  const { upstream, seen } = await application(t);
  const other = await startMachine(t, { material, route: { active: upstream.target } });
  const here = await startMachine(t, { material, peers: [other], flags });
  await untilHealthy(here);
  return { here, other, upstream, seen, material };
}

async function ask(machine: TestWorker, method = 'GET', headers: Record<string, string> = {}) {
  const body = ['PUT', 'POST', 'PATCH'].includes(method) ? 'the body' : undefined;
  return send(`127.0.0.1:${machine.plainPort}`, '/path?query', { method, headers, ...(body && { body }) });
}

test('without a container, requests of every method are answered by a peer, bodies included', async (t) => {
  const { here, seen } = await pair(t);
  for (const method of METHODS) {
    const answer = await ask(here, method);
    assert.equal(answer.status, 200, method);
    if (method !== 'HEAD') assert.equal(answer.text, 'from the peer');
  }
  assert.deepEqual(
    seen.map(({ method, body }) => [method, body]),
    METHODS.map((method) => [method, ['PUT', 'POST', 'PATCH'].includes(method) ? 'the body' : '']),
  );
});

test('the application on the peer sees the client as if there were one proxy; the marker reaches nobody', async (t) => {
  const { here, other, seen } = await pair(t);
  const answer = await ask(here, 'GET', { 'x-forwarded-for': '1.2.3.4', 'x-request-id': 'mine', host: 'shop.example' });
  const [request] = seen;
  assert.ok(request);
  assert.equal(request.headers['x-forwarded-for'], '127.0.0.1');
  assert.equal(request.headers['x-real-ip'], '127.0.0.1');
  assert.equal(request.headers['x-forwarded-proto'], 'http');
  assert.equal(request.headers['x-forwarded-host'], 'shop.example');
  assert.equal(request.headers.host, 'shop.example');
  assert.match(request.headers['x-request-id'] as string, /^[0-9a-f]{32}$/);
  assert.equal(request.rawHeaders.filter((name) => name.toLowerCase() === 'x-request-start').length, 1);
  assert.equal(request.headers['wunderproxy-fallback'], undefined);
  assert.equal(answer.headers['wunderproxy-fallback'], undefined);
  const [mine, others] = await Promise.all([
    here.statsWhen(({ fallbacks }) => Object.keys(fallbacks).length > 0),
    other.statsWhen(({ markers }) => Object.keys(markers).length > 0),
  ]);
  const url = `http://127.0.0.1:${other.plainPort}`;
  assert.deepEqual(mine.fallbacks, {
    [JSON.stringify({ peer: url, reason: 'no_active_container', outcome: 'ok' })]: 1,
  });
  assert.deepEqual(others.markers, { trusted: 1 });
});

test('a container that nobody can connect to: every method falls back', async (t) => {
  const { here } = await pair(t);
  const gone = await Upstream.start(t, () => {});
  await gone.stop();
  await here.switchTo(gone.target);
  for (const method of METHODS) assert.equal((await ask(here, method)).status, 200, method);
});

test('a container that breaks before its headers: only what may be sent twice falls back', async (t) => {
  const { here, seen } = await pair(t);
  const broken = await RawUpstream.start(t, (socket) => void socket.resetAndDestroy());
  await here.switchTo(broken.target);
  for (const method of METHODS) {
    const answer = await ask(here, method);
    assert.equal(answer.status, IDEMPOTENT.includes(method) ? 200 : 502, method);
  }
  assert.deepEqual(
    seen.map(({ method }) => method),
    IDEMPOTENT,
  );
});

test('an answer that is not valid HTTP counts like none', async (t) => {
  const { here, seen } = await pair(t);
  const garbage = await RawUpstream.answering(t, 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab');
  await here.switchTo(garbage.target);
  assert.equal((await ask(here)).status, 200);
  assert.equal((await ask(here, 'POST')).status, 502);
  assert.equal(seen.length, 1);
});

test('--fallback-on 502: only what may be sent twice falls back, and without a peer the answer is passed on', async (t) => {
  const { here, other } = await pair(t, ['--fallback-on=502']);
  const failing = await Upstream.start(t, (_request, response) => {
    response.statusCode = 502;
    response.end("the application's own");
  });
  await here.switchTo(failing.target);
  for (const method of METHODS) {
    assert.equal((await ask(here, method)).status, IDEMPOTENT.includes(method) ? 200 : 502, method);
  }
  await other.switchTo(null);
  await here.statsWhen(({ peers }) => peers.every(({ state }) => state === 'unhealthy'));
  const answer = await ask(here);
  assert.equal(answer.status, 502);
  assert.equal(answer.text, "the application's own");
});

test('502, 503 and 504 of the application are answers unless an option says otherwise', async (t) => {
  const { here, seen } = await pair(t);
  for (const status of [502, 503, 504]) {
    const failing = await Upstream.start(t, (_request, response) => {
      response.statusCode = status;
      response.end();
    });
    await here.switchTo(failing.target);
    assert.equal((await ask(here)).status, status);
  }
  assert.equal(seen.length, 0);
});

test('--debug-headers tells which answers come from another machine', async (t) => {
  const { here, upstream } = await pair(t, ['--debug-headers']);
  assert.equal((await ask(here)).headers['wunderproxy-fallback'], '1');
  await here.switchTo(upstream.target);
  assert.equal((await ask(here)).headers['wunderproxy-fallback'], undefined);
});

test('a container that does not accept a connection in time: every method falls back', async (t) => {
  const { here } = await pair(t, ['--connect-timeout=200ms']);
  await here.switchTo(await unreachable(t));
  for (const method of ['GET', 'POST']) assert.equal((await ask(here, method)).status, 200, method);
  const { fallbacks } = await here.statsWhen((stats) => Object.values(stats.fallbacks)[0] === 2);
  assert.match(Object.keys(fallbacks).join(), /"reason":"upstream_connect_timeout","outcome":"ok"/);
});

test('a container that is slow, or that a drain ends, is no reason to fall back', async (t) => {
  const { here, seen } = await pair(t, ['--response-timeout=200ms']);
  const slow = await Upstream.start(t, () => {});
  await here.switchTo(slow.target);
  const answer = await ask(here);
  assert.deepEqual([answer.status, answer.headers['wunderproxy-error']], [504, 'upstream_timeout']);
  const { here: other, seen: seenByOther } = await pair(t);
  await other.switchTo(slow.target);
  const asked = ask(other);
  await other.statsWhen((stats) => other.runningOn(slow.target, stats).inFlight === 1);
  await other.switchTo(null);
  other.send({ type: 'cut', id: slow.target.id });
  const cut = await asked;
  assert.deepEqual([cut.status, cut.headers['wunderproxy-error']], [504, 'drain_timeout']);
  assert.deepEqual([seen, seenByOther], [[], []]);
});

test('answers that have begun stay where they are: the client sees that they are not whole', async (t) => {
  const { here, seen } = await pair(t);
  const breaks = await Upstream.start(t, (_request, response) => {
    response.writeHead(200, { 'content-length': 100 });
    response.write('some', () => response.socket?.resetAndDestroy());
  });
  await here.switchTo(breaks.target);
  await assert.rejects(ask(here), /aborted|ECONNRESET|hang up/);
  assert.equal(seen.length, 0);
});

test('a head to which the marker would be too much does not fall back: the client gets the error of this machine', async (t) => {
  const { here, seen } = await pair(t);
  const many = Object.fromEntries(Array.from({ length: 96 }, (_, i) => [`x-${i}`, 'v']));
  const long = { 'x-long': 'v'.repeat(15_800) };
  for (const headers of [many, long]) {
    const answer = await ask(here, 'GET', headers);
    assert.deepEqual([answer.status, answer.headers['wunderproxy-error']], [503, 'no_active_container']);
  }
  const few = Object.fromEntries(Array.from({ length: 88 }, (_, i) => [`x-${i}`, 'v']));
  for (const headers of [few, { 'x-long': 'v'.repeat(15_000) }]) {
    assert.equal((await ask(here, 'GET', headers)).status, 200);
  }
  assert.equal(seen.length, 2);
});
