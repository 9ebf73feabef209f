import assert from 'node:assert/strict';
import { test } from 'node:test';
import { markedRequest } from '../proxy/support/machines.ts';
import { reload, until } from '../support/deployments.ts';
import { readExposition, sumOf } from '../support/exposition.ts';
import { Load, type LoadRecord } from '../support/load.ts';
import {
  deployEverywhere,
  fallbackStatus,
  killApplication,
  startFleet,
  untilDown,
  untilPeers,
} from '../support/machines.ts';
import type { TestProgram } from '../support/program.ts';
import { sendRaw } from '../support/raw.ts';

const LIMIT = { timeout: 150_000 };

async function passedOnTo(machines: TestProgram[]): Promise<number> {
  const all = await Promise.all(machines.map(fallbackStatus));
  return all.reduce((sum, { Totals }) => sum + (Totals.Markers['trusted'] ?? 0), 0);
}

/** What this machine has passed on, once the others have reported that they got as much; and how much of that was in vain. */
async function passedOnBy(machine: TestProgram, others: TestProgram[]): Promise<{ all: number; inVain: number }> {
  return until(
    async () => {
      const { Totals } = await fallbackStatus(machine);
      const tried = Totals.Fallbacks.filter(({ Peer }) => Peer !== '');
      const sum = (counts: typeof tried) => counts.reduce((total, { Count }) => total + Count, 0);
      return {
        all: sum(tried),
        inVain: sum(tried.filter(({ Outcome }) => Outcome !== 'ok')),
        received: await passedOnTo(others),
      };
    },
    ({ all, received }) => all > 0 && all === received,
  );
}

function twice(lines: string[]): string[] {
  const seen = new Set<string>();
  return lines.filter((line) => seen.size === seen.add(line).size);
}

const failed = (records: LoadRecord[]) => records.filter(({ outcome }) => outcome !== 'ok');
const slowest = (records: LoadRecord[]) => Math.max(...records.map(({ sentAt, answeredAt }) => answeredAt - sentAt));

test('a container is killed under load, then all of them', LIMIT, async (t) => {
  const fleet = await startFleet(t, 3);
  await deployEverywhere(fleet, 'v1');
  const [here, ...others] = fleet.machines;
  assert.ok(here);
  for (const machine of fleet.machines) await untilPeers(machine, 2);
  const load = new Load(t, here.proxy, { connections: 12, slowEvery: 10, slowFor: 200, pause: 5 });
  await load.answered(200);

  const killedAt = killApplication(here);
  await untilDown(here);
  const detectedAt = Date.now();
  await load.answered(600);
  const { records } = await load.stop();
  const before = failed(records.filter(({ sentAt }) => sentAt <= detectedAt));
  assert.deepEqual(failed(records.filter(({ sentAt }) => sentAt > detectedAt)), []);
  assert.deepEqual(
    before.filter(({ method }) => method === 'GET'),
    [],
  );
  // What was in the container's hands when it died may have been executed.
  assert.deepEqual(
    [...new Set(before.map(({ outcome }) => outcome))].filter((outcome) => outcome !== 'status 502'),
    [],
  );
  t.diagnostic(
    `${records.length} requests; until detection (${detectedAt - killedAt} ms) ${before.length} POST failed, no GET; after it none`,
  );
  const posts = fleet.executed().filter((line) => line.startsWith('POST '));
  assert.deepEqual(twice(posts), [], 'a POST was executed twice');
  const passedOn = await passedOnBy(here, others);
  assert.equal(passedOn.inVain, 0);
  const metrics = readExposition((await here.call('GET', '/metrics')).text);
  assert.equal(sumOf(metrics, 'wunderproxy_fallbacks_total', { outcome: 'ok' }), passedOn.all);
  assert.equal(sumOf(metrics, 'wunderproxy_peer_up'), 2);

  const again = new Load(t, here.proxy, { connections: 12, slowEvery: 10, slowFor: 200, pause: 5 });
  await again.answered(100);
  for (const machine of others) killApplication(machine);
  const deadAt = Date.now();
  for (const machine of others) await untilDown(machine);
  await again.answered(1_500);
  const { records: dying } = await again.stop();
  const dead = dying.filter(({ sentAt }) => sentAt > deadAt);
  const seconds = (Math.max(...dead.map(({ answeredAt }) => answeredAt)) - deadAt) / 1_000;
  // What a peer answered before it died, and else this machine's own error.
  assert.deepEqual(
    dead.filter(({ outcome }) => !/^(?:status 50[23]|ok)$/.test(outcome)),
    [],
  );
  const { inVain } = await passedOnBy(here, others);
  t.diagnostic(
    `all dead: ${dead.length} requests in ${seconds.toFixed(1)} s, slowest ${slowest(dead)} ms; peers saw ${inVain} in vain`,
  );
  // A fifth and the floor, and what was under way.
  assert.ok(inVain <= 0.2 * dying.length + 10 * (seconds + 1) + 12, `${inVain} of ${dying.length}`);
  assert.deepEqual(twice(fleet.executed().filter((line) => line.startsWith('POST '))), [], 'a POST was executed twice');
});

test(
  'machines that are given another secret one by one fall back to one another again, also with new workers',
  LIMIT,
  async (t) => {
    const fleet = await startFleet(t, 2);
    await deployEverywhere(fleet, 'v1');
    const [here, other] = fleet.machines;
    assert.ok(here && other);
    await untilPeers(here, 1);
    killApplication(here);
    await untilDown(here);
    assert.equal((await here.get('/a')).status, 200);
    fleet.setSecret();
    await reload(here);
    await untilPeers(here, 1, 'unhealthy');
    assert.equal((await here.get('/b')).headers['wunderproxy-error'], 'no_active_container');
    await reload(other);
    await untilPeers(here, 1);
    assert.equal((await here.get('/c')).status, 200);
    assert.deepEqual(fleet.executed(), ['GET /a', 'GET /c']);
  },
);

test('a request that a peer has signed is taken once, by whichever worker, also after a reload', LIMIT, async (t) => {
  const fleet = await startFleet(t, 1);
  await deployEverywhere(fleet, 'v1');
  const [machine] = fleet.machines;
  assert.ok(machine);
  const material = { secrets: [Buffer.from(fleet.secret()).toString('base64')], ca: null };
  const playOften = async (request: string) => {
    const answers = await Promise.all(Array.from({ length: 12 }, async () => sendRaw(machine.proxy, request)));
    return answers.map((answer) => answer.slice(9, 12)).toSorted();
  };
  const request = markedRequest(material, { method: 'POST', target: '/once' });
  assert.deepEqual(await playOften(request), ['200', ...Array.from({ length: 11 }, () => '503')]);
  await reload(machine);
  assert.deepEqual(
    await playOften(request),
    Array.from({ length: 12 }, () => '503'),
  );
  assert.deepEqual(fleet.executed(), ['POST /once']);
  const said = JSON.stringify(machine.log);
  assert.ok(!said.includes(fleet.secret()) && !said.includes(material.secrets.join()), 'the secret is in the log');
  assert.match(said, /"marker":"replayed"/);
});
