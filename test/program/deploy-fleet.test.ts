import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { configFile, runClient, startFleet, TestClient } from '../support/client.ts';
import { workshop, type Workshop } from '../support/deployable.ts';
import { hold, statusOf, until, versionServed } from '../support/deployments.ts';
import { send } from '../support/http.ts';
import { Load } from '../support/load.ts';
import { killIfThere } from '../support/processes.ts';
import type { TestProgram } from '../support/program.ts';

/** Healthy everywhere, whatever a machine's --cfg says. */
const HEALTHY = { env: { HEALTH_STATUS: '200' } };

/** Three machines on which v1 is in service. */
async function fleet(
  t: TestContext,
  args: (at: number, shop: Workshop) => string[] = () => [],
): Promise<{ shop: Workshop; programs: TestProgram[]; on: string[] }> {
  const shop = workshop(t);
  const { programs, on } = await startFleet(t, shop, 3, (at) => args(at, shop));
  const deployed = await runClient(t, ['deploy', ...on, '--batch', '3', configFile(shop, 'v1', HEALTHY).path]);
  assert.equal(deployed.code, 0, deployed.err);
  return { shop, programs, on };
}

const versions = async (programs: TestProgram[]) => Promise.all(programs.map(versionServed));

/** Revision and state of all containers of all machines. */
const containers = async (programs: TestProgram[]) =>
  Promise.all(
    programs.map(async (program) =>
      (await statusOf(program)).Containers.map(({ Revision, State }) => `${Revision} ${State}`).join(', '),
    ),
  );

/** The container of a revision that waits for its switch. */
const readyOn = async (program: TestProgram | undefined, revision: string) => {
  assert.ok(program);
  const { Containers } = await until(
    async () => statusOf(program),
    (status) => status.Containers.some(({ Revision, State }) => Revision === revision && State === 'ready'),
  );
  return Containers.find(({ Revision }) => Revision === revision)?.Address ?? assert.fail('no address');
};

/** One machine's containers are not healthy unless their config says so. */
const sickMachine =
  (sick: number) =>
  (at: number, shop: Workshop): string[] => {
    const cfg = join(shop.environment, `machine-${at}.cfg`);
    writeFileSync(cfg, at === sick ? 'HEALTH_STATUS=500\n' : '');
    return at === sick ? ['--cfg', cfg, '--launch-timeout', '10s'] : ['--cfg', cfg];
  };

test('a deploy on three machines under load loses no request, and is one entry of the history', async (t) => {
  const { shop, programs, on } = await fleet(t);
  const loads = programs.map(({ proxy }) => new Load(t, proxy, { connections: 4, pause: 10 }));
  const deployed = await runClient(t, ['deploy', ...on, configFile(shop, 'v2').path]);
  assert.equal(deployed.code, 0, deployed.err);
  for (const load of loads) {
    await load.answered(20);
    const { outcomes, versions } = await load.stop();
    assert.deepEqual(Object.keys(outcomes), ['ok']);
    assert.deepEqual(Object.keys(versions).toSorted(), ['v1', 'v2'], 'there was load before and after');
  }
  assert.deepEqual(await containers(programs), ['v2 active', 'v2 active', 'v2 active']);
  const history = await runClient(t, ['history', ...on.slice(0, 2), '--json']);
  assert.equal(history.out.trimEnd().split('\n').length, 2);

  const back = await runClient(t, ['rollback', ...on]);
  assert.equal(back.code, 0, back.err);
  assert.deepEqual(await containers(programs), ['v1 active', 'v1 active', 'v1 active']);
});

test('one machine that fails its health check stops the deploy: all traffic stays, nothing is left running', async (t) => {
  const { shop, programs, on } = await fleet(t, sickMachine(1));
  const failed = await runClient(t, ['deploy', ...on, configFile(shop, 'v2').path]);
  assert.equal(failed.code, 1, failed.out + failed.err);
  assert.match(
    failed.err,
    new RegExp(`${programs[1]?.api}: The container was not healthy within 10s; /up answered: .*500`),
  );
  assert.match(failed.err, /every machine serves what it served before/);
  for (const { api } of programs) assert.match(failed.err, new RegExp(`${api} serves v1 \\([0-9a-f]{8}\\)\n`));
  assert.deepEqual(await containers(programs), ['v1 active', 'v1 active', 'v1 active']);
});

test('what somebody else has launched is left running when a deploy of the same config fails', async (t) => {
  const { shop, programs, on } = await fleet(t, sickMachine(2));
  const { path, hash } = configFile(shop, 'v2');
  shop.config('v2');
  assert.equal((await programs[0]?.call('POST', '/launch', hash))?.status, 200);
  assert.equal((await runClient(t, ['deploy', ...on, path])).code, 1);
  assert.deepEqual(await containers(programs), ['v1 active, v2 ready', 'v1 active', 'v1 active']);
});

for (const goesBack of [false, true]) {
  const outcome = goesBack ? 'machines that were switched go back' : 'it is said what is where';
  test(`when a switch fails half way no further one is made, and ${outcome}`, async (t) => {
    const { shop, programs, on } = await fleet(t);
    const [first, second] = programs;
    assert.ok(first && second);
    // As long as the first machine drains, there is time for the second one's container to die.
    const held = await hold(t, first);
    const args = goesBack ? ['--rollback-on-failure'] : [];
    const client = new TestClient(t, ['deploy', ...on, ...args, configFile(shop, 'v2').path]);
    const address = await readyOn(second, 'v2');
    await client.says(/draining the one before/);
    await send(address, '/exit?code=7').catch(() => {});
    await until(
      async () => statusOf(second),
      ({ Containers }) => Containers.every(({ Revision, State }) => Revision === 'v1' || State !== 'ready'),
    );
    held.giveUp();
    const { code, err } = await client.ended();
    assert.match(err, new RegExp(`v2 could not be switched on ${second.api}`));
    assert.equal(code, goesBack ? 1 : 3, err);
    assert.deepEqual(await versions(programs), goesBack ? ['v1', 'v1', 'v1'] : ['v2', 'v1', 'v1']);
    if (!goesBack) assert.match(err, new RegExp(`${first.api} serves v2 \\([0-9a-f]{8}\\) \\(changed\\)\n`));
    await until(
      async () => containers(programs),
      (seen) => seen.every((each) => /^v\d active$/.test(each)),
    );
    const history = await runClient(t, ['history', ...on.slice(0, 2), '--json']);
    const revisions = history.out
      .trimEnd()
      .split('\n')
      .map((line) => (JSON.parse(line) as { Revision: string }).Revision);
    assert.deepEqual(revisions, goesBack ? ['v1'] : ['v1', 'v2']);
  });
}

test('managers that die in the middle of a launch and of a drain are replaced, and the deploy goes on', async (t) => {
  const { shop, programs, on } = await fleet(t);
  const [first, second] = programs;
  assert.ok(first && second);
  const held = await hold(t, first);
  const { path } = configFile(shop, 'v2', { env: { START_DELAY: '1000' } });
  const client = new TestClient(t, ['deploy', ...on, path]);
  await until(
    async () => statusOf(second),
    ({ Containers }) => Containers.some(({ State }) => State === 'starting'),
  );
  for (const pid of second.pids('manager')) killIfThere(pid, 'SIGKILL');
  await client.says(/draining the one before/);
  for (const pid of first.pids('manager')) killIfThere(pid, 'SIGKILL');
  // The next manager goes on with the drain.
  await until(
    async () => statusOf(first).catch(() => null),
    (seen) => seen?.Containers.some(({ State }) => State === 'draining') === true,
  );
  held.giveUp();
  const { code, out, err } = await client.ended();
  assert.equal(code, 0, out + err);
  assert.deepEqual(await containers(programs), ['v2 active', 'v2 active', 'v2 active']);
});

test('a machine that is gone before its switch: the others say what they serve, it is not known of that one', async (t) => {
  const { shop, programs, on } = await fleet(t);
  const [first, , third] = programs;
  assert.ok(first && third);
  const held = await hold(t, first);
  const client = new TestClient(t, ['deploy', ...on, '--json', configFile(shop, 'v2').path]);
  await readyOn(third, 'v2');
  await client.says(/"State":"draining"/);
  await third.kill();
  held.giveUp();
  const { code, out } = await client.ended();
  assert.equal(code, 3, out);
  const events = out
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  const served = events.filter(({ Event }) => Event === 'serves').map(({ Revision }) => Revision);
  assert.deepEqual(served, ['v2', 'v2', undefined]);
  assert.equal(events.at(-1)?.['ExitCode'], 3);
});

test('machines of different stores are not deployed to together', async (t) => {
  const [one, other] = [workshop(t), workshop(t)];
  const { on, programs } = await startFleet(t, one, 1);
  const { on: foreign } = await startFleet(t, other, 1);
  const refused = await runClient(t, ['deploy', ...on, ...foreign, configFile(one, 'v1').path]);
  assert.equal(refused.code, 1);
  assert.match(refused.err, /must share a store/);
  assert.deepEqual(await containers(programs), ['']);
});
