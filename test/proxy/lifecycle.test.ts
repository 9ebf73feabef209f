import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type * as http from 'node:http';
import { test } from 'node:test';
import { testData } from './support/data.ts';
import { connectHttp2 } from './support/http2-client.ts';
import { testMaterial } from './support/transport.ts';
import { RawClient, TestWorker } from './support/worker.ts';
import { RawUpstream, Upstream } from './support/upstream.ts';

const GET = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n';

test('connection states follow a connection from its first byte to its end', async (t) => {
  const held: http.ServerResponse[] = [];
  const upstream = await Upstream.start(t, (_, response) => held.push(response));
  const worker = await TestWorker.start(t, { route: { active: upstream.target } });
  const states = (state: 'new' | 'active' | 'idle' | 'hijacked') =>
    worker.statsWhen(({ states }) => {
      const open = Object.entries(states).filter(([, count]) => count > 0);
      return open.length === 1 && open[0]?.[0] === state && open[0][1] === 1;
    });
  const fresh = states('new');
  const client = await RawClient.connect(t, worker.port);
  await fresh;
  client.send('G');
  await states('active');
  const arrived = once(upstream.server, 'request');
  client.send(GET.slice(1));
  await arrived;
  await states('active');
  held[0]?.end('done');
  await client.until(/done$/);
  await states('idle');
  client.send(GET.slice(0, 20));
  await states('active');
  client.socket.destroy();
  const {
    states: last,
    connectionsAccepted,
    connectionsClosed,
  } = await worker.statsWhen(({ states: { active } }) => active === 0);
  assert.deepEqual(last, { new: 0, active: 0, idle: 0, hijacked: 0 });
  assert.deepEqual({ connectionsAccepted, connectionsClosed }, { connectionsAccepted: 1, connectionsClosed: 1 });
});

function sumOf(counts: Record<string, number>): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}

test('each finished request is counted once, by its status, whatever became of it', async (t) => {
  const upstream = await Upstream.start(t, (request, response) => {
    if (request.url === '/gone') return;
    response.statusCode = 201;
    response.end('x');
  });
  const worker = await TestWorker.start(t, { route: { active: upstream.target } });
  const client = await RawClient.connect(t, worker.port);
  client.send(GET + GET);
  await client.until(/x.*x$/s);
  const leaver = await RawClient.connect(t, worker.port);
  const arrived = once(upstream.server, 'request');
  leaver.send('GET /gone HTTP/1.1\r\nHost: a\r\n\r\n');
  await arrived;
  leaver.socket.destroy();
  const bad = await RawClient.connect(t, worker.port);
  bad.send('nonsense\r\n\r\n');
  await bad.all();
  const stats = await worker.statsWhen(({ requests }) => requests === 4);
  assert.deepEqual(stats.statusCodes, { 201: 2, 400: 1, 499: 1 });
  assert.equal(stats.sinceSwitch.requests, 4);
  assert.equal(sumOf(stats.latency), 4);
  assert.equal(sumOf(stats.upstream.latency), 3);
  assert.deepEqual(stats.errors, { client_closed: 1, bad_request: 1 });
  const targets = stats.targets.map(({ latency, seconds: _, ...counts }) => ({ ...counts, timed: sumOf(latency) }));
  const { id, revision } = upstream.target;
  const none = { inFlight: 0, upgraded: 0, requests: 0, timed: 0 };
  assert.deepEqual(targets, [
    { ...none, id, revision, requests: 3, timed: 3, statusCodes: { 201: 2, 499: 1 } },
    { ...none, id: '', revision: '', statusCodes: { 400: 1 } },
  ]);
});

test('a client that goes away ends its request at the container at once', async (t) => {
  const upstream = await RawUpstream.start(t, () => {});
  const worker = await TestWorker.start(t, { route: { active: upstream.target } });
  const client = await RawClient.connect(t, worker.port);
  client.send(GET);
  await once(upstream.events, 'data');
  const closed = once(upstream.events, 'end');
  client.socket.destroy();
  await closed;
  await worker.statsWhen((stats) => worker.runningOn(upstream.target, stats).inFlight === 0);
});

test('a retiring worker that another one follows answers idle connections once more, then exits 0', async (t) => {
  const held: http.ServerResponse[] = [];
  const upstream = await Upstream.start(t, (request, response) => {
    if (request.url === '/slow') held.push(response);
    else response.end('quick');
  });
  const old = await TestWorker.start(t, { route: { active: upstream.target } });
  const idle = await RawClient.connect(t, old.port);
  idle.send(GET);
  await idle.until(/quick$/);
  const slow = await RawClient.connect(t, old.port);
  const arrived = once(upstream.server, 'request');
  slow.send('GET /slow HTTP/1.1\r\nHost: a\r\n\r\n');
  await arrived;

  const fresh = await TestWorker.start(t, { route: { active: upstream.target }, socket: old.socket });
  const retiring = old.message('retiring');
  old.send({ type: 'retire', timeoutMs: 20_000, keepIdle: true });
  await retiring;
  const newcomer = await RawClient.connect(t, old.port);
  newcomer.send(GET);
  await newcomer.until(/quick$/);
  await fresh.statsWhen(({ requests }) => requests === 1);

  idle.received = Buffer.alloc(0);
  idle.send(GET);
  assert.match(await idle.all(), /\r\nConnection: close\r\n[^]*quick$/);
  held[0]?.end('slow');
  assert.match(await slow.all(), /\r\nConnection: close\r\n[^]*slow$/);
  assert.deepEqual(await old.exited, { code: 0, signal: null });
});

test('a retiring worker that nobody follows closes idle connections and finishes the others', async (t) => {
  const held: http.ServerResponse[] = [];
  const upstream = await Upstream.start(t, (request, response) => {
    if (request.url === '/slow') held.push(response);
    else response.end('quick');
  });
  const worker = await TestWorker.start(t, { route: { active: upstream.target } });
  const idle = await RawClient.connect(t, worker.port);
  idle.send(GET);
  await idle.until(/quick$/);
  const slow = await RawClient.connect(t, worker.port);
  const arrived = once(upstream.server, 'request');
  slow.send('GET /slow HTTP/1.1\r\nHost: a\r\n\r\n');
  await arrived;
  worker.send({ type: 'retire', timeoutMs: 20_000, keepIdle: false });
  await idle.closed;
  held[0]?.end('slow');
  await slow.until(/slow$/);
  assert.deepEqual(await worker.exited, { code: 0, signal: null });
});

test('what still runs when the retire timeout is over is broken off with 504, but no idle connection is cut', async (t) => {
  let answering = true;
  const upstream = await Upstream.start(t, (_request, response) => {
    if (answering) response.end('quick');
  });
  const worker = await TestWorker.start(t, { route: { active: upstream.target } });
  const idle = await RawClient.connect(t, worker.port);
  idle.send(GET);
  await idle.until(/quick$/);
  idle.received = Buffer.alloc(0);
  answering = false;
  const client = await RawClient.connect(t, worker.port);
  const arrived = once(upstream.server, 'request');
  client.send(GET);
  await arrived;
  worker.send({ type: 'retire', timeoutMs: 1_000, keepIdle: true });
  assert.match(await client.all(), /^HTTP\/1\.1 504 [^]*drain_timeout/);
  answering = true;
  idle.send(GET);
  assert.match(await idle.all(), /\r\nConnection: close\r\n[^]*quick$/);
  assert.deepEqual(await worker.exited, { code: 0, signal: null });
});

test('a client that is still reading when the retire timeout is over is cut off, and not said to have gone', async (t) => {
  const data = testData(20 * 2 ** 20);
  const upstream = await Upstream.start(t, (_, response) => response.end(data));
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, tls: testMaterial() });
  const client = await RawClient.connectSecurely(t, worker.tlsPort);
  client.socket.pause();
  client.send(GET);
  // Its windows are full long before.
  const stream = (await connectHttp2(t, worker)).request({});
  stream.on('error', () => {});
  await worker.statsWhen(
    ({ buffers, targets }) => buffers.spoolFiles === 2 && targets.every(({ inFlight }) => inFlight === 0),
  );
  const last = worker.statsWhen(({ requests }) => requests === 2);
  worker.send({ type: 'retire', timeoutMs: 200, keepIdle: true });
  assert.deepEqual((await last).errors, { drain_timeout: 2 });
  assert.deepEqual(await worker.exited, { code: 0, signal: null });
});

test('routes still count while a worker retires', async (t) => {
  const old = await Upstream.start(t, (_, response) => response.end('old'));
  const fresh = await Upstream.start(t, (_, response) => response.end('new'));
  const worker = await TestWorker.start(t, { route: { active: old.target } });
  const idle = await RawClient.connect(t, worker.port);
  idle.send(GET);
  await idle.until(/old$/);
  worker.send({ type: 'retire', timeoutMs: 20_000, keepIdle: true });
  await worker.switchTo(fresh.target);
  idle.send(GET);
  assert.match(await idle.all(), /new$/);
});

test('a worker whose primary is gone finishes and exits 0', async (t) => {
  const worker = await TestWorker.start(t);
  worker.process.disconnect();
  assert.deepEqual(await worker.exited, { code: 0, signal: null });
});

test('signals to the process group leave a worker alone', async (t) => {
  const upstream = await Upstream.start(t, (_, response) => response.end('alive'));
  const worker = await TestWorker.start(t, { route: { active: upstream.target } });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) worker.process.kill(signal);
  const client = await RawClient.connect(t, worker.port);
  client.send(GET);
  await client.until(/alive$/);
});

test('started as root a worker becomes the given user, without further groups', async (t) => {
  if (process.getuid?.() !== 0) return t.skip('only root can become another user');
  const worker = await TestWorker.start(t, { user: { uid: 65_534, gid: 65_534 } });
  const status = readFileSync(`/proc/${worker.process.pid}/status`, 'utf8');
  assert.match(status, /^Uid:\t65534\t65534\t65534\t65534$/m);
  assert.match(status, /^Gid:\t65534\t65534\t65534\t65534$/m);
  assert.match(status, /^Groups:\s*$/m);
});
