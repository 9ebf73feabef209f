import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test, type TestContext } from 'node:test';
import { Nonces } from '../../src/nonces.ts';
import { send } from '../support/http.ts';
import { bindTogether, markedRequest, newMaterial, startMachine, untilHealthy } from './support/machines.ts';
import { Upstream } from './support/upstream.ts';
import { RawClient, TestWorker } from './support/worker.ts';

const HOUR = 3_600_000;

/** Adds this to the clock at SIGUSR2, for one process only. */
const JUMPS = `const now = Date.now; process.on('SIGUSR2', () => { Date.now = () => now() + ${HOUR}; console.log('jumped'); });`;

interface Machine {
  machine: TestWorker;
  /** Headers of the requests that its application got. */
  seen: Record<string, string | string[] | undefined>[];
}

/** A machine with an application that notes what it gets. */
async function serving(t: TestContext, options: Parameters<typeof startMachine>[1]): Promise<Machine> {
  const seen: Machine['seen'] = [];
  const upstream = await Upstream.start(t, (request, response) => {
    seen.push(request.headers);
    response.end('whole');
  });
  return { machine: await startMachine(t, { ...options, route: { active: upstream.target } }), seen };
}

/** A container that is in service, but has gone. */
async function gone(t: TestContext) {
  const upstream = await Upstream.start(t, () => {});
  await upstream.stop();
  return { active: upstream.target };
}

async function sendRaw(t: TestContext, machine: TestWorker, request: string): Promise<string> {
  const client = await RawClient.connect(t, machine.plainPort);
  client.send(request.replace('\r\n', '\r\nConnection: close\r\n'));
  return client.all();
}

async function ask(machine: TestWorker, headers: Record<string, string> = {}, method = 'GET') {
  return send(`127.0.0.1:${machine.plainPort}`, '/', { headers, method });
}

test('what a peer has signed is believed: the client, its protocol and the id of its request', async (t) => {
  const material = newMaterial();
  const { machine, seen } = await serving(t, { material });
  assert.match(await sendRaw(t, machine, markedRequest(material)), /^HTTP\/1\.1 200 [^]*whole$/);
  const [request] = seen;
  assert.equal(request?.['x-forwarded-for'], '203.0.113.9');
  assert.equal(request?.['x-real-ip'], '203.0.113.9');
  assert.equal(request?.['x-forwarded-proto'], 'https');
  assert.equal(request?.['x-request-id'], 'r-1');
});

const FORGERIES: [what: string, change: (request: string) => string][] = [
  ['a made-up signature', (request) => request.replace(/sig=[^\r]*/, `sig=${'A'.repeat(43)}`)],
  ['no signature', (request) => request.replace(/; sig=[^\r]*/, '')],
  ['another client', (request) => request.replaceAll('203.0.113.9', '198.51.100.1')],
  [
    'another client beside the signed one',
    (request) => request.replace('Wunder', 'X-Forwarded-For: 198.51.100.1\r\nWunder'),
  ],
  ['another statement beside the signed ones', (request) => request.replace('Wunder', 'X-Forwarded-Port: 1\r\nWunder')],
  ['another method', (request) => request.replace('GET', 'DELETE')],
  ['another target', (request) => request.replace(' / ', ' /admin ')],
  ['another host', (request) => request.replace('Host: shop', 'Host: other')],
  ['another time', (request) => request.replace(/time=\d+/, `time=${Date.now() + 1}`)],
  ['two markers', (request) => request.replace(/(Wunderproxy-Fallback: [^\r]*\r\n)/, '$1$1')],
  ['a marker of another form', (request) => request.replace(/Fallback: [^\r]*/, 'Fallback: yes')],
  ['an enormous marker', (request) => request.replace(/sig=/, `x=${'a'.repeat(2_000)}; sig=`)],
];

test("what nobody has signed is the client's own: dropped, and nothing of it is believed", async (t) => {
  const material = newMaterial();
  const { machine, seen } = await serving(t, { material });
  for (const [what, change] of FORGERIES) {
    seen.length = 0;
    assert.match(await sendRaw(t, machine, change(markedRequest(material))), /^HTTP\/1\.1 200 /, what);
    const [request] = seen;
    assert.equal(request?.['x-forwarded-for'], '127.0.0.1', what);
    assert.equal(request?.['x-real-ip'], '127.0.0.1', what);
    assert.notEqual(request?.['x-request-id'], 'r-1', what);
    assert.equal(request?.['wunderproxy-fallback'], undefined, what);
  }
  const { markers } = await machine.statsWhen((stats) => Object.keys(stats.markers).length > 0);
  assert.deepEqual(markers, { forged: FORGERIES.length });
});

test('a marker of a machine with another secret, or on a machine without one, is forged', async (t) => {
  const one = await serving(t, { material: newMaterial() });
  assert.match(await sendRaw(t, one.machine, markedRequest(newMaterial())), /^HTTP\/1\.1 200 /);
  assert.equal(one.seen[0]?.['x-real-ip'], '127.0.0.1');
  const upstream = await Upstream.start(t, (request, response) => response.end(request.headers['x-real-ip']));
  const bare = await TestWorker.start(t, { route: { active: upstream.target } });
  assert.match(await sendRaw(t, bare, markedRequest(newMaterial())), /127\.0\.0\.1$/);
});

test('a recorded request is refused when it comes again, also at another worker and at the same moment', async (t) => {
  const material = newMaterial();
  const nonces = new Nonces();
  const first = await serving(t, { material, nonces });
  const second = await serving(t, { material, nonces });
  const request = markedRequest(material);
  const answers = await Promise.all(
    [first, first, second, second].map(async ({ machine }) => sendRaw(t, machine, request)),
  );
  const refused = answers.filter((answer) =>
    /^HTTP\/1\.1 503 [^]*\r\nWunderproxy-Error: fallback_refused\r\n/.test(answer),
  );
  assert.equal(refused.length, 3);
  assert.equal(first.seen.length + second.seen.length, 1);
  assert.match(await sendRaw(t, second.machine, request), /fallback_refused/);
  assert.match(first.machine.output + second.machine.output, /"marker":"replayed"/);
});

test('a marker from another minute is refused', async (t) => {
  const material = newMaterial();
  const { machine, seen } = await serving(t, { material });
  for (const time of [Date.now() - 61_000, Date.now() + 62_000]) {
    assert.match(await sendRaw(t, machine, markedRequest(material, { time })), /fallback_refused/);
  }
  for (const time of [Date.now() - 55_000, Date.now() + 55_000]) {
    assert.match(await sendRaw(t, machine, markedRequest(material, { time })), /^HTTP\/1\.1 200 /);
  }
  assert.equal(seen.length, 2);
});

test('a nonce for which there is no room any more is refused', async (t) => {
  const material = newMaterial();
  const { machine, seen } = await serving(t, { material, nonces: new Nonces(2) });
  const answers: string[] = [];
  for (let i = 0; i < 3; i++) answers.push((await sendRaw(t, machine, markedRequest(material))).slice(9, 12));
  assert.deepEqual(answers, ['200', '200', '503']);
  assert.equal(seen.length, 2);
});

test('two machines whose containers have gone do not play ball: one hop, then the error of the first', async (t) => {
  const material = newMaterial();
  const [left, right] = bindTogether(t, 2);
  assert.ok(left && right);
  const route = await gone(t);
  const here = await startMachine(t, { material, route, socket: left, peers: [right.address().port] });
  const there = await startMachine(t, { material, route, socket: right, peers: [left.address().port] });
  await Promise.all([untilHealthy(here), untilHealthy(there)]);
  for (const method of ['GET', 'POST']) {
    const answer = await ask(here, {}, method);
    assert.equal(answer.status, 502);
    assert.equal(answer.headers['wunderproxy-error'], 'upstream_refused');
    assert.equal(answer.headers['wunderproxy-fallback'], undefined);
  }
  const [mine, others] = await Promise.all([
    here.statsWhen(({ requests }) => requests === 2),
    there.statsWhen(({ requests }) => requests === 2),
  ]);
  assert.deepEqual(
    Object.entries(mine.fallbacks).map(([kind, count]) => [(JSON.parse(kind) as { outcome: string }).outcome, count]),
    [['upstream_refused', 2]],
  );
  assert.deepEqual([mine.markers, others.markers, others.fallbacks], [{}, { trusted: 2 }, {}]);
});

test('a request with a marker is not passed on, even if a client has made it up', async (t) => {
  const material = newMaterial();
  const { machine: there, seen } = await serving(t, { material });
  const here = await startMachine(t, { material, peers: [there] });
  await untilHealthy(here);
  assert.equal((await ask(here, { 'wunderproxy-fallback': 'v1; nonce=a; time=1; sig=b' })).status, 503);
  assert.equal(seen.length, 0);
  assert.equal((await ask(here)).status, 200);
});

test('machines with different secrets do not know one another', async (t) => {
  const [left, right] = bindTogether(t, 2);
  assert.ok(left && right);
  const route = await gone(t);
  const here = await startMachine(t, { material: newMaterial(), route, socket: left, peers: [right.address().port] });
  const there = await startMachine(t, { material: newMaterial(), route, socket: right, peers: [left.address().port] });
  for (const machine of [here, there]) {
    const { peers } = await machine.statsWhen((stats) => stats.peers[0]?.lastError !== null && stats.peers.length > 0);
    assert.deepEqual([peers[0]?.state, peers[0]?.machine], ['unhealthy', null]);
  }
  assert.equal((await ask(here)).headers['wunderproxy-error'], 'upstream_refused');
  assert.equal((await ask(there)).headers['wunderproxy-error'], 'upstream_refused');
  const { peers } = await here.statsWhen((stats) => stats.peers[0]?.lastError?.startsWith('no proof') === true);
  assert.equal(peers[0]?.inFlight, 0);
});

test('of several secrets the first one signs and all are believed: one takes the place of another without a gap', async (t) => {
  const [old] = newMaterial().secrets;
  const [next] = newMaterial().secrets;
  assert.ok(old !== undefined && next !== undefined);
  const { machine: there, seen } = await serving(t, { material: { secrets: [old], ca: null } });
  const here = await startMachine(t, { material: { secrets: [old], ca: null }, peers: [there], route: await gone(t) });
  let asked = 0;
  const askOften = async () => {
    for (let i = 0; i < 5; i++, asked++) assert.equal((await ask(here, { 'x-request-id': `r-${asked}` })).status, 200);
  };
  const steps = [[old, next], [next, old], [next]];
  for (const [at, secrets] of steps.entries()) {
    // Who is first at it does not matter.
    for (const machine of at % 2 === 0 ? [here, there] : [there, here]) {
      machine.send({ type: 'peerMaterial', material: { secrets, ca: null } });
      await askOften();
    }
    if (at !== 1) continue;
    // The last step is for when each has proved itself with the new one: a check is over when the next one comes.
    const { connectionsAccepted } = await there.statsWhen(() => true);
    await there.statsWhen((stats) => stats.connectionsAccepted >= connectionsAccepted + 2);
  }
  const { fallbacks } = await here.statsWhen((stats) => stats.requests === asked);
  assert.deepEqual(
    Object.entries(fallbacks).map(([kind, count]) => [(JSON.parse(kind) as { outcome: string }).outcome, count]),
    [['ok', asked]],
  );
  const { markers } = await there.statsWhen((stats) => stats.requests === asked);
  assert.deepEqual(markers, { trusted: asked });
  assert.equal(seen.length, asked);
  const { peers } = await here.statsWhen(() => true);
  assert.equal(peers[0]?.lastError, null);
});

test('a worker that begins has found a peer before it listens', async (t) => {
  const material = newMaterial();
  const { machine: there } = await serving(t, { material });
  const here = await startMachine(t, { material, peers: [there], route: await gone(t) });
  assert.equal((await ask(here)).status, 200, 'the first request');
});

test("a peer's own error is known as its own by the secret of the request, whichever it was", async (t) => {
  const [old, next] = [...newMaterial().secrets, ...newMaterial().secrets];
  assert.ok(old !== undefined && next !== undefined);
  const there = await startMachine(t, { material: { secrets: [next, old], ca: null }, route: await gone(t) });
  const here = await startMachine(t, { material: { secrets: [old], ca: null }, route: await gone(t), peers: [there] });
  await untilHealthy(here);
  assert.equal((await ask(here)).headers['wunderproxy-error'], 'upstream_refused');
  const { fallbacks } = await here.statsWhen((stats) => stats.requests === 1);
  assert.deepEqual(
    Object.keys(fallbacks).map((kind) => (JSON.parse(kind) as { outcome: string }).outcome),
    ['upstream_refused'],
  );
});

test('a secret that has been taken out is worth nothing any more', async (t) => {
  const [old, next] = [...newMaterial().secrets, ...newMaterial().secrets];
  assert.ok(old !== undefined && next !== undefined);
  const { machine } = await serving(t, { material: { secrets: [next, old], ca: null } });
  assert.match(await sendRaw(t, machine, markedRequest({ secrets: [old], ca: null })), /^HTTP\/1\.1 200 /);
  machine.send({ type: 'peerMaterial', material: { secrets: [next], ca: null } });
  assert.match(await sendRaw(t, machine, markedRequest({ secrets: [next], ca: null })), /^HTTP\/1\.1 200 /);
  await sendRaw(t, machine, markedRequest({ secrets: [old], ca: null }));
  const { markers } = await machine.statsWhen(({ requests }) => requests === 3);
  assert.deepEqual(markers, { trusted: 2, forged: 1 });
});

test('a clock that runs away makes no loop: the peer refuses, and is not asked any more', async (t) => {
  const material = newMaterial();
  const { machine: there, seen } = await serving(t, { material });
  const env = { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(JUMPS)}` };
  const here = await startMachine(t, { material, peers: [there], env });
  await untilHealthy(here);
  here.process.kill('SIGUSR2');
  while (!here.output.includes('jumped')) await once(here.process.stdout ?? here.process, 'data');
  const answer = await ask(here);
  assert.equal(answer.status, 503);
  assert.equal(answer.headers['wunderproxy-error'], 'no_active_container');
  assert.equal(seen.length, 0);
  const { peers } = await here.statsWhen((stats) => stats.peers[0]?.state === 'unhealthy');
  assert.match(peers[0]?.lastError ?? '', /its clock differs from ours by 3[56]\d\d s/);
});
