import assert from 'node:assert/strict';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { test, type TestContext } from 'node:test';
import type { FallbackKind, PeerMaterial } from '../../src/peer-messages.ts';
import { Peer } from '../../src/proxy/peer.ts';
import { PeerSecrets } from '../../src/proxy/peer-secret.ts';
import { Sweeper } from '../../src/proxy/sweeper.ts';
import { type Answer, send } from '../support/http.ts';
import { bindTogether, healthProof, newMaterial, startMachine, untilHealthy } from './support/machines.ts';
import { Upstream } from './support/upstream.ts';
import type { TestWorker } from './support/worker.ts';

type Behave = (request: IncomingMessage, response: ServerResponse) => void;

/** A peer that knows the secret and says that it is well, but behaves as it likes. */
async function impostor(t: TestContext, material: PeerMaterial, machine: string, behave: Behave): Promise<Upstream> {
  return Upstream.start(t, (request, response) => {
    if (request.url !== '/.well-known/wunderproxy') return behave(request, response);
    const question = String(request.headers['wunderproxy-probe']);
    response.setHeader('wunderproxy-probe', healthProof(material, question, { machine })).end('ok\n');
  });
}

/** The answer of a peer that could not answer. */
function refuse(material: PeerMaterial, request: IncomingMessage, response: ServerResponse, error: string): void {
  const marker = String(request.headers['wunderproxy-fallback']);
  const nonce = /nonce=([\w-]+)/.exec(marker)?.[1] ?? '';
  const proof = new PeerSecrets(material.secrets).first.seal('refusal', { error }, [nonce]);
  response.writeHead(503, { 'wunderproxy-fallback': proof, 'wunderproxy-error': error }).end('refused');
}

function requestsTo(peer: Upstream): number {
  return peer.begun.filter(({ url }) => url === '/').length;
}

async function ask(machine: TestWorker, method = 'GET'): Promise<Answer> {
  return send(`127.0.0.1:${machine.plainPort}`, '/', { method });
}

function codeOf({ status, headers }: Answer): [number, string | undefined] {
  return [status, headers['wunderproxy-error'] as string | undefined];
}

/** How fallbacks came out, over all peers. */
async function outcomes(machine: TestWorker, count: number): Promise<Record<string, number>> {
  const { fallbacks } = await machine.statsWhen(
    (stats) => Object.values(stats.fallbacks).reduce((sum, each) => sum + each, 0) === count,
  );
  const result: Record<string, number> = {};
  for (const [key, times] of Object.entries(fallbacks)) {
    const { outcome } = JSON.parse(key) as FallbackKind;
    result[outcome] = (result[outcome] ?? 0) + times;
  }
  return result;
}

test('a peer that hangs: 504 after the response timeout, nothing is sent elsewhere, and then it is left alone', async (t) => {
  const material = newMaterial();
  const hangs = await impostor(t, material, 'a-00000001', () => {});
  const here = await startMachine(t, {
    material,
    peers: [hangs.target.address.port],
    flags: ['--response-timeout=200ms'],
  });
  await untilHealthy(here);
  for (let i = 0; i < 5; i++) {
    assert.deepEqual(codeOf(await ask(here, i % 2 === 0 ? 'GET' : 'POST')), [504, 'upstream_timeout']);
  }
  assert.deepEqual(codeOf(await ask(here)), [503, 'no_active_container'], 'its breaker is open');
  assert.equal(requestsTo(hangs), 5);
  assert.deepEqual(await outcomes(here, 6), { upstream_timeout: 5, no_peer: 1 });
});

test('a peer that breaks: another is tried only with what may be sent twice', async (t) => {
  const material = newMaterial();
  const breaks = await impostor(t, material, 'a-00000001', (request) => request.socket.destroy());
  const other = await impostor(t, material, 'a-00000002', (request) => request.socket.destroy());
  const here = await startMachine(t, { material, peers: [breaks.target.address.port, other.target.address.port] });
  await untilHealthy(here, 2);
  assert.deepEqual(
    codeOf(await ask(here, 'POST')),
    [502, 'upstream_broken'],
    'it may have been executed: that is what is told',
  );
  assert.equal(requestsTo(breaks) + requestsTo(other), 1);
  assert.deepEqual(codeOf(await ask(here)), [503, 'no_active_container']);
  assert.equal(requestsTo(breaks) + requestsTo(other), 3);
});

test('a peer that answers garbage counts like one that breaks', async (t) => {
  const material = newMaterial();
  const garbage = await impostor(t, material, 'a-00000001', (request) =>
    request.socket.end('\x00\x01 garbage\r\n\r\n'),
  );
  const here = await startMachine(t, { material, peers: [garbage.target.address.port] });
  await untilHealthy(here);
  assert.deepEqual(codeOf(await ask(here)), [503, 'no_active_container']);
  assert.deepEqual(codeOf(await ask(here, 'POST')), [502, 'upstream_malformed']);
  assert.deepEqual(await outcomes(here, 2), { upstream_malformed: 2 });
});

test('a peer that breaks off in the middle of an answer: the client sees that it is not whole', async (t) => {
  const material = newMaterial();
  const breaks = await impostor(t, material, 'a-00000001', (_request, response) => {
    response.writeHead(200, { 'content-length': 100 });
    response.write('some', () => response.socket?.resetAndDestroy());
  });
  const here = await startMachine(t, { material, peers: [breaks.target.address.port] });
  await untilHealthy(here);
  await assert.rejects(ask(here), /aborted|ECONNRESET|hang up/);
  assert.equal(requestsTo(breaks), 1);
  assert.deepEqual(await outcomes(here, 1), { upstream_broken: 1 });
});

test('a peer that could not reach its container never executed it: even a POST goes to another one', async (t) => {
  const material = newMaterial();
  const refuses = await impostor(t, material, 'a-00000001', (request, response) => {
    refuse(material, request, response, 'no_active_container');
  });
  let executed = 0;
  const works = await impostor(t, material, 'a-00000002', (_request, response) => {
    executed++;
    response.end('done');
  });
  const here = await startMachine(t, { material, peers: [refuses.target.address.port, works.target.address.port] });
  await untilHealthy(here, 2);
  for (let i = 0; i < 20; i++) assert.equal((await ask(here, 'POST')).text, 'done');
  assert.equal(executed, 20);
  const tried = requestsTo(refuses);
  assert.ok(tried > 0 && tried <= 5, `${tried} tries before it was left alone`);
});

test('a peer that works again gets one request, and when that goes well, all', async (t) => {
  const material = newMaterial();
  let works = false;
  const peer = await impostor(t, material, 'a-00000001', (request, response) => {
    if (works) response.end('done');
    else refuse(material, request, response, 'upstream_refused');
  });
  const here = await startMachine(t, { material, peers: [peer.target.address.port] });
  await untilHealthy(here);
  for (let i = 0; i < 5; i++) assert.equal((await ask(here)).status, 503);
  await here.statsWhen((stats) => stats.peers[0]?.state === 'open');
  works = true;
  await here.statsWhen((stats) => stats.peers[0]?.state === 'half-open');
  assert.equal(requestsTo(peer), 5);
  assert.equal((await ask(here)).text, 'done');
  const answers = await Promise.all(Array.from({ length: 10 }, async () => ask(here)));
  assert.deepEqual([...new Set(answers.map(({ text }) => text))], ['done']);
});

test('what a peer may have executed is told as it is, and not sent to another one', async (t) => {
  const material = newMaterial();
  const failing = (error: string) => async (machine: string) =>
    impostor(t, material, machine, (request, response) => refuse(material, request, response, error));
  const make = failing('upstream_broken');
  const peers = [await make('a-00000001'), await make('a-00000002')];
  const here = await startMachine(t, { material, peers: peers.map(({ target }) => target.address.port) });
  await untilHealthy(here, 2);
  const answer = await ask(here, 'POST');
  assert.equal(answer.text, 'refused', "the peer's own answer");
  assert.equal(answer.headers['wunderproxy-fallback'], undefined);
  assert.equal(
    peers.reduce((sum, peer) => sum + requestsTo(peer), 0),
    1,
  );
});

test("an answer that only looks like a refusal is the application's: it is passed on", async (t) => {
  const material = newMaterial();
  const other = newMaterial();
  const peer = await impostor(t, material, 'a-00000001', (request, response) => {
    refuse(other, request, response, 'no_active_container');
  });
  const here = await startMachine(t, { material, peers: [peer.target.address.port] });
  await untilHealthy(here);
  const answer = await ask(here, 'POST');
  assert.equal(answer.text, 'refused');
  assert.equal(answer.headers['wunderproxy-fallback'], undefined);
  assert.deepEqual(await outcomes(here, 1), { ok: 1 });
});

const LIARS: [what: string, answer: (question: string, material: PeerMaterial) => [status: number, proof: string]][] = [
  ['no proof', () => [200, '']],
  ['a proof with another secret', (question) => [200, healthProof(newMaterial(), question)]],
  ['a proof for another question', (_, material) => [200, healthProof(material, 'v1; challenge=x; sig=y')]],
  ['the question itself', (question) => [200, question]],
  [
    'a clock that goes otherwise',
    (question, material) => [200, healthProof(material, question, { time: Date.now() - 45_000 })],
  ],
  ['no container', (question, material) => [200, healthProof(material, question, { active: false })]],
];

test('a peer that lies about its health is never asked', async (t) => {
  const material = newMaterial();
  const liars = await Promise.all(
    LIARS.map(async ([, answer]) =>
      Upstream.start(t, (request, response) => {
        const [status, proof] = answer(String(request.headers['wunderproxy-probe']), material);
        response.writeHead(status, { 'wunderproxy-probe': proof }).end('ok\n');
      }),
    ),
  );
  const hangs = await Upstream.start(t, () => {});
  const garbage = await Upstream.start(t, (request) => request.socket.end('garbage'));
  const all = [...liars, hangs, garbage];
  const here = await startMachine(t, { material, peers: all.map(({ target }) => target.address.port) });
  const { peers } = await here.statsWhen((stats) => stats.peers.every(({ lastError }) => lastError !== null));
  assert.deepEqual([...new Set(peers.map(({ state }) => state))], ['unhealthy']);
  assert.deepEqual(codeOf(await ask(here)), [503, 'no_active_container']);
  assert.deepEqual(
    all.map(requestsTo),
    all.map(() => 0),
  );
});

test('a list that holds the machine itself: it is left out', async (t) => {
  const material = newMaterial();
  const self = await impostor(t, material, 'self-00000001', (_request, response) => response.end('self'));
  const other = await impostor(t, material, 'other-00000001', (_request, response) => response.end('other'));
  const here = await startMachine(t, {
    material,
    machine: 'self-00000001',
    peers: [self.target.address.port, other.target.address.port],
  });
  const { peers } = await here.statsWhen((stats) => stats.peers.length === 1 && stats.peers[0]?.state === 'healthy');
  assert.equal(peers[0]?.machine, 'other-00000001');
  for (let i = 0; i < 10; i++) assert.equal((await ask(here)).text, 'other');
});

test('one late answer to a health check is forgiven, two are not; the machine itself stays left out', () => {
  const context = { timeouts: { connect: 1_000, response: 1_000, responseIdle: 1_000 }, sweeper: new Sweeper(1_000) };
  const well = { machine: 'a-00000001', problem: null };
  const late = { machine: null, problem: 'late', late: true };
  const other = new Peer('http://127.0.0.1:1', context, {});
  const seen = [late, well, late, late, well, late, well, late, well].map((health) => {
    other.setHealth(health, { machine: 'self-00000001', instance: 'this-one' });
    return other.available;
  });
  assert.deepEqual(seen, [false, true, true, false, true, true, true, true, true]);
  other.setHealth({ machine: null, problem: 'refused' }, { machine: 'self-00000001', instance: 'this-one' });
  assert.equal(other.available, false);
  const self = new Peer('http://127.0.0.1:1', context, {});
  for (const health of [well, late, late, well, late]) {
    self.setHealth(health, { machine: 'a-00000001', instance: 'this-one' });
    assert.equal(self.available, false);
  }
});

test('a machine with the id of this one is told from it by its start, and asked like any other', async (t) => {
  const material = newMaterial();
  const machine = 'web1-00000001';
  const [left, right] = bindTogether(t, 2);
  assert.ok(left && right);
  const upstream = await Upstream.start(t, (_request, response) => response.end('the other'));
  const route = { active: upstream.target };
  await startMachine(t, { material, machine, socket: right, route });
  const peers = [left.address().port, right.address().port];
  const here = await startMachine(t, { material, machine, socket: left, peers });
  const stats = await here.statsWhen((each) => each.peers.length === 1 && each.peers[0]?.state === 'healthy');
  assert.deepEqual(
    stats.peers.map((peer) => [peer.machine, peer.clone, new URL(peer.url).port]),
    [[machine, true, String(right.address().port)]],
  );
  for (let i = 0; i < 5; i++) assert.equal((await ask(here)).text, 'the other');
  const warned = here.output.split('\n').filter((line) => line.includes('Another machine has the id of this one'));
  assert.equal(warned.length, 1);
  assert.match(warned[0] ?? '', /"level":"warn".*web1-00000001: http:\/\/127\.0\.0\.1:\d+\. .*remove machine-id/);
  assert.match(here.output, /"level":"info".*a peer is this machine: it is left out/);
});
