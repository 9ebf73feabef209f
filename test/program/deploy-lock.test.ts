import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { configFile, runClient, startFleet, TestClient } from '../support/client.ts';
import { workshop } from '../support/deployable.ts';
import { hold, statusOf, until, versionServed } from '../support/deployments.ts';
import type { TestProgram } from '../support/program.ts';

const SLOW = { env: { START_DELAY: '4000' } };

async function setUp(t: TestContext) {
  const shop = workshop(t);
  const { programs, on } = await startFleet(t, shop, 2);
  const [one, two] = programs;
  assert.ok(one && two);
  // Each deploy by another machine: the lock is in the store.
  return { shop, one, two, onBoth: on, onTwo: on.slice(2) };
}

const lockOn = async (program: TestProgram) =>
  (await program.call('GET', '/lock', undefined, { accept: 'application/json' })).json<{
    Lock: { Owner: string; What: string } | null;
  }>().Lock;

test('of two deploys at once the second says who has the lock, or waits for it if told to', async (t) => {
  const { shop, one, two, onBoth, onTwo } = await setUp(t);
  assert.equal((await runClient(t, ['deploy', ...onBoth, configFile(shop, 'v0').path])).code, 0);
  const held = await hold(t, one);
  const first = new TestClient(t, ['deploy', ...onBoth, '--by', 'alice', configFile(shop, 'v1').path]);
  await first.says(/draining the one before/);
  const { path } = configFile(shop, 'v2');
  const [refused, rollback] = await Promise.all([
    runClient(t, ['deploy', ...onTwo, '--by', 'bob', path]),
    runClient(t, ['rollback', ...onTwo]),
  ]);
  for (const { code, err } of [refused, rollback]) {
    assert.equal(code, 4, err);
    assert.match(err, /alice is deploying: v1 \([0-9a-f]{8}\) on .*, since \d{4}-\S+Z\. The lock ends at \d{4}-/);
  }
  assert.equal((await lockOn(two))?.Owner, 'alice');
  assert.match((await one.call('GET', '/')).text, /alice is at it: v1/);

  const second = new TestClient(t, ['deploy', ...onBoth, '--by', 'bob', '--lock-wait', '60s', path]);
  await second.says(/^waiting: alice is deploying/);
  held.giveUp();
  assert.equal((await first.ended()).code, 0, first.err);
  assert.equal((await second.ended()).code, 0, second.err);
  assert.equal(await versionServed(one), 'v2');
  assert.equal(await versionServed(two), 'v2');
  assert.equal(await lockOn(two), null);
});

test('the lock of a deploy that was killed is renewed no more, and the next one takes it over', async (t) => {
  const { shop, one, two, onBoth, onTwo } = await setUp(t);
  const { path } = configFile(shop, 'v1', { env: { START_DELAY: '4000' } });
  const killed = new TestClient(t, ['deploy', ...onBoth, '--by', 'alice', '--lock-life', '2s', path]);
  await killed.says(/deploying v1/);
  const before = await lockOn(two);
  await until(
    async () => one.call('GET', '/lock').then(({ text }) => text),
    (text) => text.startsWith('alice') && !text.includes(String((before as { ExpiresAt?: string } | null)?.ExpiresAt)),
  );
  killed.signal('SIGKILL');
  await killed.ended();
  const refused = await runClient(t, ['deploy', ...onTwo, '--by', 'bob', configFile(shop, 'v2').path]);
  assert.equal(refused.code, 4, refused.err);
  const next = await runClient(t, [
    ...['deploy', ...onTwo, '--by', 'bob', '--lock-wait', '60s'],
    configFile(shop, 'v2').path,
  ]);
  assert.equal(next.code, 0, next.err);
  assert.equal(await versionServed(two), 'v2');
  assert.ok(two.log.some(({ msg, owner }) => msg?.includes('taken over') && owner === 'alice'));
});

test('a deploy whose lock was taken away stops before its next step, and touches nothing more', async (t) => {
  const { shop, one, two, onBoth } = await setUp(t);
  const { path, hash } = configFile(shop, 'v1', { env: { START_DELAY: '3000' } });
  const client = new TestClient(t, ['deploy', ...onBoth, '--lock-life', '1s', path]);
  await client.says(/waiting until it is healthy/);
  // As if this deploy had been out of reach for a while, and another one had taken the lock over.
  const times = { TakenAt: new Date().toISOString(), ExpiresAt: new Date(Date.now() + 60_000).toISOString() };
  const theirs = {
    Owner: 'bob',
    What: 'something',
    Machine: 'another',
    ...times,
    Token: 'digest',
    Life: 60_000,
    Beat: 99,
  };
  shop.write('deploy-lock.json', JSON.stringify(theirs));
  const { code, err } = await client.ended();
  assert.equal(code, 1, err);
  assert.match(err, /The deploy lock is lost: bob is deploying: something/);
  assert.equal((await lockOn(one))?.Owner, 'bob');
  for (const program of [one, two]) {
    const { Active, Containers } = await statusOf(program);
    assert.equal(Active, null);
    assert.deepEqual(
      Containers.map(({ Hash, State }) => [Hash, State]),
      [[hash, 'ready']],
    );
  }
});

test('Ctrl-C lets the step that runs come to its end, stops what was launched, and releases the lock', async (t) => {
  const { shop, one, two, onBoth } = await setUp(t);
  const client = new TestClient(t, ['deploy', ...onBoth, configFile(shop, 'v1', SLOW).path]);
  await client.says(/waiting until it is healthy/);
  client.signal('SIGINT');
  const { code, err } = await client.ended();
  assert.equal(code, 1, err);
  assert.match(err, /^stopping after the step that runs/);
  assert.equal(err.split('stopping after the step').length, 2, 'it is said once');
  assert.match(err, /Interrupted: no further step is taken\./);
  for (const program of [one, two]) assert.deepEqual((await statusOf(program)).Containers, []);
  assert.equal(await lockOn(one), null);
});
