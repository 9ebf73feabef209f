import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../support/deployments.ts';
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

const LIMIT = { timeout: 150_000 };

async function passedOnTo(machines: TestProgram[]): Promise<number> {
  const all = await Promise.all(machines.map(fallbackStatus));
  return all.reduce((sum, { Totals }) => sum + (Totals.Markers['trusted'] ?? 0), 0);
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
  await until(
    async () => passedOnTo(others),
    (count) => count > 0,
  );
  const status = await until(
    async () => fallbackStatus(here),
    ({ Totals }) => Totals.Fallbacks.filter(({ Outcome }) => Outcome === 'ok').length > 0,
  );
  assert.deepEqual([...new Set(status.Totals.Fallbacks.map(({ Outcome }) => Outcome))], ['ok']);

  const passedOn = await passedOnTo(others);
  const again = new Load(t, here.proxy, { connections: 12, slowEvery: 10, slowFor: 200, pause: 5 });
  await again.answered(100);
  for (const machine of others) killApplication(machine);
  const deadAt = Date.now();
  for (const machine of others) await untilDown(machine);
  await again.answered(1_500);
  const { records: dying } = await again.stop();
  const dead = dying.filter(({ sentAt }) => sentAt > deadAt);
  const seconds = (Math.max(...dead.map(({ answeredAt }) => answeredAt)) - deadAt) / 1_000;
  assert.deepEqual(
    dead.filter(({ outcome }) => !/^status 50[23]$/.test(outcome)).length,
    0,
    JSON.stringify(dead.find(({ outcome }) => !/^status 50[23]$/.test(outcome))),
  );
  const stormed = await until(
    async () => passedOnTo(others),
    (count) => count > passedOn,
  );
  const inVain = stormed - passedOn - dying.filter(({ outcome }) => outcome === 'ok').length;
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
    const reload = async (machine: TestProgram) => {
      const workers = machine.pids('worker');
      machine.signal('SIGHUP');
      await until(
        async () => Promise.resolve(machine.pids('worker')),
        (pids) => pids.length === 2 && pids.every((pid) => !workers.includes(pid)),
      );
    };
    await reload(here);
    await untilPeers(here, 1, 'unhealthy');
    assert.equal((await here.get('/b')).headers['wunderproxy-error'], 'no_active_container');
    await reload(other);
    await untilPeers(here, 1);
    assert.equal((await here.get('/c')).status, 200);
    assert.deepEqual(fleet.executed(), ['GET /a', 'GET /c']);
  },
);
