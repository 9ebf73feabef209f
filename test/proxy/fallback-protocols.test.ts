import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { openLog } from '../../src/access-log-file.ts';
import { until } from '../support/deployments.ts';
import { send } from '../support/http.ts';
import { digest, digester, testData } from './support/data.ts';
import { ask, connectHttp2 } from './support/http2-client.ts';
import { type MachineOptions, newMaterial, startMachine, untilHealthy } from './support/machines.ts';
import { TEST_HOST, testMaterial } from './support/transport.ts';
import { type Handler, RawUpstream, Upstream } from './support/upstream.ts';
import { RawClient, type TestWorker } from './support/worker.ts';

/** A machine without a container, and a peer whose container behaves like this. */
async function pair(t: TestContext, handler: Handler, options: Partial<MachineOptions> = {}): Promise<TestWorker> {
  const material = newMaterial();
  const upstream = await Upstream.start(t, handler);
  const peer = await startMachine(t, { material, route: { active: upstream.target } });
  const here = await startMachine(t, { material, peers: [peer], ...options });
  await untilHealthy(here);
  return here;
}

async function get(machine: TestWorker, path = '/', headers: Record<string, string> = {}) {
  return send(`127.0.0.1:${machine.plainPort}`, path, { headers });
}

test('a body that waits on disk is sent to a container that breaks, and whole to the peer', async (t) => {
  const here = await pair(t, digester, { flags: ['--buffer-memory=0B'] });
  const broken = await RawUpstream.start(t, (socket, text) => {
    if (text.length > 100_000) socket.resetAndDestroy();
  });
  await here.switchTo(broken.target);
  const body = testData(3_000_000);
  const answer = await send(`127.0.0.1:${here.plainPort}`, '/', { method: 'PUT', body });
  assert.equal(answer.status, 200);
  assert.ok(answer.text.includes(digest(body)), answer.text);
  assert.equal((await here.quiet()).buffers.spoolFiles, 0);
});

test('requests over HTTP/2 fall back like others', async (t) => {
  const here = await pair(
    t,
    (request, response) => response.end(`${request.headers.host} ${request.headers['x-forwarded-proto']}`),
    {
      tls: testMaterial(),
    },
  );
  const session = await connectHttp2(t, here);
  const answer = await ask(session, { ':path': '/', ':authority': 'shop.example' });
  assert.equal(answer.status, 200);
  assert.equal(answer.body.toString(), 'shop.example https');
  assert.equal(answer.headers['wunderproxy-fallback'], undefined);
});

test('a peer over https is asked only if its certificate can be checked', async (t) => {
  const material = newMaterial();
  const upstream = await Upstream.start(t, (request, response) => response.end(request.headers['x-forwarded-proto']));
  const peer = await startMachine(t, { material, route: { active: upstream.target }, tls: testMaterial() });
  const peers = [`https://${TEST_HOST}:${peer.tlsPort}`];
  const ca = testMaterial().certificates[0]?.cert ?? '';
  const trusting = await startMachine(t, { material: { ...material, ca }, peers });
  await untilHealthy(trusting);
  assert.equal((await get(trusting)).text, 'http', "the client's protocol, not that of the hop");
  const wary = await startMachine(t, { material, peers });
  const { peers: seen } = await wary.statsWhen(
    (stats) => stats.peers[0]?.lastError !== null && stats.peers.length === 1,
  );
  assert.equal(seen[0]?.state, 'unhealthy');
  assert.match(seen[0]?.lastError ?? '', /self.signed certificate/);
  assert.equal((await get(wary)).status, 503);
});

test('a peer that sends everybody to https answers other machines', async (t) => {
  const material = newMaterial();
  const upstream = await Upstream.start(t, (_request, response) => response.end('whole'));
  const flags = ['--hsts=180d'];
  const peer = await startMachine(t, { material, route: { active: upstream.target }, tls: testMaterial(), flags });
  const here = await startMachine(t, { material, peers: [peer] });
  await untilHealthy(here);
  assert.equal((await get(peer)).status, 308);
  const answer = await get(here);
  assert.equal(answer.text, 'whole');
  assert.equal(answer.headers['strict-transport-security'], undefined, 'the client has come over plain HTTP');
});

test('a WebSocket falls back with its handshake; the tunnel ends with the peer', async (t) => {
  const material = newMaterial();
  const tunnelling = await RawUpstream.start(t, (socket, text) => {
    if (!text.includes('\r\n\r\n')) return false;
    socket.removeAllListeners('data');
    socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello ');
    socket.pipe(socket);
    return true;
  });
  const peer = await startMachine(t, { material, route: { active: tunnelling.target } });
  const here = await startMachine(t, { material, peers: [peer] });
  await untilHealthy(here);
  const client = await RawClient.connect(t, here.plainPort);
  client.send('GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
  await client.until(/^HTTP\/1\.1 101 [^]*\r\n\r\nhello $/);
  client.send('echo');
  await client.until(/hello echo$/);
  assert.doesNotMatch(client.text, /wunderproxy/i);
  const { peers } = await here.statsWhen((stats) => stats.states.hijacked === 1);
  assert.equal(peers[0]?.inFlight, 1);
  peer.process.kill('SIGKILL');
  await client.closed;
  await here.statsWhen((stats) => stats.states.hijacked === 0 && stats.peers[0]?.inFlight === 0);
});

test('pieces of an answer come as the application on the peer sends them, however it asks for that', async (t) => {
  for (const headers of [{ 'content-type': 'text/event-stream' }, { 'x-accel-buffering': 'no' }] as Record<
    string,
    string
  >[]) {
    const gate = Promise.withResolvers<void>();
    const here = await pair(t, (_request, response) => {
      response.writeHead(200, headers).write('first ');
      void gate.promise.then(() => response.end('second'));
    });
    const client = await RawClient.connect(t, here.plainPort);
    client.send('GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
    const text = await client.until(/first /);
    assert.doesNotMatch(text, /x-accel-buffering/i);
    gate.resolve();
    assert.match(await client.all(), /second/);
  }
});

test('an answer that the peer has compressed stays as it is', async (t) => {
  const page = 'all work and no play '.repeat(500);
  const here = await pair(t, (_request, response) => response.setHeader('content-type', 'text/html').end(page));
  const answer = await get(here, '/', { 'accept-encoding': 'gzip' });
  assert.equal(answer.headers['content-encoding'], 'gzip');
  assert.equal(gunzipSync(answer.bytes).toString(), page);
});

test('a client that goes away while a peer works: the peer is told, and it is no fault of the peer', async (t) => {
  const gone = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  const here = await pair(t, (request) => {
    begun.resolve();
    request.socket.once('close', gone.resolve);
  });
  const client = await RawClient.connect(t, here.plainPort);
  client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  await begun.promise;
  client.reset();
  await gone.promise;
  const { peers, fallbacks } = await here.statsWhen((stats) => Object.keys(stats.fallbacks).length > 0);
  assert.match(Object.keys(fallbacks).join(), /"outcome":"client_closed"/);
  assert.deepEqual([peers[0]?.state, peers[0]?.inFlight, peers[0]?.lastError], ['healthy', 0, null]);
});

test('the access logs of both machines tell of it, and name the client', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'access-'));
  const paths = ['here', 'peer'].map((name) => join(folder, name));
  const [here = 0, there = 0] = paths.map((path) => openLog(path));
  t.after(() => {
    [here, there].forEach(closeSync);
    rmSync(folder, { recursive: true, force: true });
  });
  const material = newMaterial();
  const upstream = await Upstream.start(t, (_request, response) => response.end());
  const peer = await startMachine(t, { material, route: { active: upstream.target }, accessLog: there });
  const flags = ['--trusted-proxies=127.0.0.1'];
  const machine = await startMachine(t, { material, peers: [peer], accessLog: here, flags });
  await untilHealthy(machine);
  await get(machine, '/logged', { 'x-forwarded-for': '203.0.113.9', 'x-request-id': 'one' });
  const lines = await until(
    async () => Promise.resolve(paths.map((path) => readFileSync(path, 'utf8').split('\n').slice(0, -1))),
    (files) => files.every(({ length }) => length > 0),
  );
  const [mine, others] = lines.map((file) => file.map((line) => JSON.parse(line) as Record<string, unknown>));
  const url = `http://127.0.0.1:${peer.plainPort}`;
  assert.equal(mine?.length, 1, 'health checks of peers are not logged');
  assert.equal(others?.length, 1);
  assert.deepEqual(mine[0]?.['fallback'], { peer: url, reason: 'no_active_container', outcome: 'ok' });
  assert.deepEqual([mine[0]?.['client'], mine[0]?.['request'], mine[0]?.['marker']], ['203.0.113.9', 'one', undefined]);
  assert.deepEqual(
    [others[0]?.['client'], others[0]?.['request'], others[0]?.['marker']],
    ['203.0.113.9', 'one', 'trusted'],
  );
});

test('/.well-known/wunderproxy is answered here, over plain HTTP and for any host, and tells nothing', async (t) => {
  const material = newMaterial();
  const upstream = await Upstream.start(t, (_request, response) => response.end('the application'));
  const flags = ['--host=shop.example'];
  const machine = await startMachine(t, { material, route: { active: upstream.target }, tls: testMaterial(), flags });
  const ok = await get(machine, '/.well-known/wunderproxy');
  assert.deepEqual([ok.status, ok.text, ok.headers['wunderproxy-probe']], [200, 'ok\n', undefined]);
  assert.equal(
    (await get(machine, '/.well-known/wunderproxy?a', { 'wunderproxy-probe': 'v1; challenge=a; sig=b' })).headers[
      'wunderproxy-probe'
    ],
    undefined,
  );
  const head = await send(`127.0.0.1:${machine.plainPort}`, '/.well-known/wunderproxy', { method: 'HEAD' });
  assert.deepEqual([head.status, head.text], [200, '']);
  const post = await send(`127.0.0.1:${machine.plainPort}`, '/.well-known/wunderproxy', { method: 'POST', body: 'x' });
  assert.equal(post.status, 405);
  assert.equal((await get(machine, '/.well-known/wunderproxy2')).status, 421, 'another address');
  await machine.switchTo(null);
  const none = await get(machine, '/.well-known/wunderproxy');
  assert.deepEqual([none.status, none.text], [503, 'no container is in service\n']);
  assert.equal(upstream.begun.length, 0);
});
