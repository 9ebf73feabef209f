import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { workshop } from '../support/deployable.ts';
import { deploy, until } from '../support/deployments.ts';
import { readExposition, sumOf } from '../support/exposition.ts';
import { freePort } from '../support/free-port.ts';
import { killIfThere } from '../support/processes.ts';
import { startProgram, type TestProgram } from '../support/program.ts';

/** What these tests read of `/status`. */
interface Answer {
  FleetState: string;
  Peers: { Machine: string | null; Self: boolean; Stale: boolean; Fallback: { Url: string; State: string } | null }[];
}

const CLONE = /^Another machine has the id of this one/;

async function setUp(t: TestContext) {
  const shop = workshop(t);
  const port = await freePort();
  const secret = join(shop.environment, 'secret');
  writeFileSync(secret, randomBytes(32).toString('hex'));
  const urls = [1, 2].map((last) => `http://127.0.0.${last}:${port}`);
  const stateOf = (last: number) => `${shop.stateDir}-${last}`;
  const start = async (last: number) => {
    const options = ['--runtime', 'process', '--workers', '1', '--heartbeat', '1s', '--drain-timeout', '2s'];
    const peers = [...urls.flatMap((url) => ['--peer', url]), '--peer-secret-file', secret];
    const args = [...options, '--proxy', `127.0.0.${last}:${port}`, ...peers, shop.bucket, shop.prefix, 'shop'];
    return startProgram(t, { args, stateDir: stateOf(last) });
  };
  return { shop, start, stateOf, urls };
}

async function statusWhen(program: TestProgram, holds: (answer: Answer) => boolean): Promise<Answer> {
  return until(async () => (await program.call('GET', '/status')).json<Answer>(), holds, 40_000);
}

const clonesTold = (program: TestProgram) =>
  program.log.filter(({ role, msg }) => role === 'manager' && CLONE.test(String(msg)));

test('a machine that was copied says so on both sides, and what to do, until that is done', async (t) => {
  const { shop, start, stateOf, urls } = await setUp(t);
  const one = await start(1);
  await deploy(one, shop.config('v1'));
  cpSync(stateOf(1), stateOf(2), { recursive: true });
  const two = await start(2);
  const id = readFileSync(join(stateOf(1), 'machine-id'), 'utf8').trim();
  for (const [here, there] of [
    [one, two],
    [two, one],
  ] as const) {
    const { FleetState } = await statusWhen(here, (answer) => answer.FleetState.includes(`at http://${there.api}`));
    assert.match(FleetState, CLONE);
    assert.ok(FleetState.includes(`${id}: `), FleetState);
    assert.match(FleetState, /remove machine-id from its --state-dir and start it again\./);
    const page = (await here.call('GET', '/', undefined, { accept: 'text/html' })).text;
    assert.match(page, /Machines may not see one another as they are\. Another machine has the id of this one/);
    assert.match((await here.call('GET', '/')).text, /Another machine has the id of this one/);
    const scrape = readExposition((await here.call('GET', '/metrics')).text);
    assert.equal(sumOf(scrape, 'wunderproxy_machine_cloned'), 1);
  }

  // They help one another nevertheless.
  await statusWhen(one, ({ Peers }) => Peers.some(({ Fallback }) => Fallback?.State === 'healthy'));
  for (const { pid, command } of one.processes()) if (command.includes('app/server.js')) killIfThere(pid, 'SIGKILL');
  await until(
    async () => one.get('/'),
    ({ status }) => status === 200,
  );
  const { Peers } = await statusWhen(one, () => true);
  assert.deepEqual(Peers.map(({ Self, Fallback }) => [Self, Fallback?.Url]).toSorted(), [
    [false, urls[1]],
    [true, undefined],
  ]);
  for (const each of [one, two]) {
    assert.deepEqual(
      clonesTold(each).map(({ level }) => level),
      ['warn'],
      'one line',
    );
  }

  await two.stop();
  rmSync(join(stateOf(2), 'machine-id'));
  const again = await start(2);
  for (const each of [one, again]) {
    const well = ({ FleetState, Peers: seen }: Answer) =>
      FleetState === 'Ok' && new Set(seen.map(({ Machine }) => Machine)).size === 2;
    await statusWhen(each, well);
  }
  assert.equal(clonesTold(again).length, 0);
});

test('a program that is started again, however it ended, is no clone of itself', async (t) => {
  const { shop, start } = await setUp(t);
  const machines = join(shop.environment, 'machines');
  const heartbeat = () => {
    const [name = ''] = readdirSync(machines).filter((each) => !each.startsWith('.'));
    return JSON.parse(readFileSync(join(machines, name), 'utf8')) as { Boot: string; Sequence: number };
  };
  /** It has looked at what stands there, and written its own, so often that two would have met. */
  const settled = async (boot: (before: string) => boolean) => {
    await until(
      async () => Promise.resolve(heartbeat()),
      ({ Boot, Sequence }) => boot(Boot) && Sequence >= 5,
    );
    return heartbeat().Boot;
  };
  let program = await start(1);
  await deploy(program, shop.config('v1'));
  const first = await settled(() => true);
  for (const pid of program.pids('manager')) killIfThere(pid, 'SIGKILL');
  await until(
    async () => Promise.resolve(heartbeat()),
    ({ Sequence }) => Sequence < 5,
  );
  assert.equal(await settled(() => true), first, 'the next manager is of the same start');
  assert.equal(clonesTold(program).length, 0);

  await program.kill();
  program = await start(1);
  const second = await settled((boot) => boot !== first);
  assert.equal(clonesTold(program).length, 0);

  await program.stop();
  program = await start(1);
  await settled((boot) => boot !== second);
  assert.equal(clonesTold(program).length, 0);
  const { FleetState, Peers } = await statusWhen(program, () => true);
  assert.equal(FleetState, 'Ok');
  assert.deepEqual(
    Peers.filter(({ Machine }) => Machine !== null).map(({ Self }) => Self),
    [true],
  );
  const own = program.log.filter(({ role, msg }) => role === 'worker' && CLONE.test(String(msg)));
  assert.deepEqual(own, []);
});
