import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import type { PeerStatus } from '../../src/manager/peers.ts';
import { deploy, until } from './deployments.ts';
import { readExposition, sumOf } from './exposition.ts';
import { endPrograms, startProgram, type TestProgram } from './program.ts';

/** Where machines meet. */
export interface Meeting {
  /** Options and arguments of a program that is to work with it. */
  args: string[];
  env: Record<string, string>;
  /** Stores a launch config of the test application and resolves to its hash. */
  config: (revision: string) => Promise<string>;
  /** Keys of heartbeats that are there, without their folder. */
  heartbeats: () => Promise<string[]>;
  /** Nobody reaches the store any more, until `restore`. */
  cut: () => void;
  restore: () => Promise<void>;
}

interface Fleet {
  meeting: Meeting;
  machines: TestProgram[];
  /** Starts the machine of this number, from 1, anew. */
  start: (number: number) => Promise<TestProgram>;
}

interface FleetAnswer {
  FleetState: string;
  Peers: PeerStatus[];
}

const answerOf = async (program: TestProgram) => (await program.call('GET', '/status')).json<FleetAnswer>();
const peersOf = async (program: TestProgram) => (await answerOf(program)).Peers;

async function assemble(t: TestContext, prepare: (t: TestContext) => Promise<Meeting>, count: number): Promise<Fleet> {
  const meeting = await prepare(t);
  const folder = mkdtempSync(join(tmpdir(), 'machines-'));
  t.after(async () => {
    await endPrograms(t);
    rmSync(folder, { recursive: true, force: true });
  });
  const start = async (number: number) => {
    const args = ['--runtime', 'process', '--workers', '1', '--heartbeat', '1s', '--drain-timeout', '2s'];
    const stateDir = join(folder, `state-${number}`);
    return startProgram(t, { args: [...args, ...meeting.args], env: meeting.env, stateDir });
  };
  const machines = await Promise.all(Array.from({ length: count }, async (_, at) => start(at + 1)));
  return { meeting, machines, start };
}

/** Resolves once a machine sees what it is to see. */
async function untilSeen(program: TestProgram, holds: (peers: PeerStatus[]) => boolean): Promise<PeerStatus[]> {
  return until(async () => peersOf(program), holds, 30_000);
}

const revisions = (peers: PeerStatus[]) => peers.map(({ Active }) => Active?.Revision ?? null).sort();

/** What three machines on one store see of each other, whatever the store is. */
export function fleetSuite(kind: string, prepare: (t: TestContext) => Promise<Meeting>): void {
  test(`${kind}: machines find one another, and each tells where it is reached`, async (t) => {
    const { machines, meeting } = await assemble(t, prepare, 3);
    const waiting = ({ State, Stale, Differs }: PeerStatus) => State === 'no_active_container' && !Stale && !Differs;
    const whole = (peers: PeerStatus[]) => peers.length === 3 && peers.every(waiting);
    const views = await Promise.all(machines.map(async (each) => untilSeen(each, whole)));
    for (const [at, view] of views.entries()) {
      assert.deepEqual(view.map(({ Api }) => Api).sort(), machines.map(({ api }) => `http://${api}`).sort());
      assert.deepEqual(view.map(({ Proxy }) => Proxy).sort(), machines.map(({ proxy }) => `http://${proxy}`).sort());
      assert.deepEqual(
        view.filter(({ Self }) => Self).map(({ Api }) => Api),
        [`http://${machines[at]?.api}`],
      );
      assert.deepEqual(new Set(view.map(({ Machine }) => Machine)).size, 3);
    }
    const [viewed] = await Promise.all(machines.map(answerOf));
    assert.equal(viewed?.FleetState, 'Ok');
    assert.deepEqual(await meeting.heartbeats(), views[0]?.map(({ Machine }) => `${Machine}.json`).sort());
    const page = await machines[0]?.call('GET', '/', undefined, { accept: 'text/html' });
    assert.match(page?.text ?? '', /3 machines share this store/);
    assert.equal(
      (await machines[0]?.call('GET', '/'))?.text.split('\n').filter((line) => /^machine /.test(line)).length,
      3,
    );
  });

  test(`${kind}: who has not switched differs until it has, and a switch is known at once`, async (t) => {
    const { machines, meeting } = await assemble(t, prepare, 3);
    const [v1, v2] = [await meeting.config('v1'), await meeting.config('v2')];
    for (const each of machines) await deploy(each, v1);
    for (const each of machines) {
      const peers = await untilSeen(each, (seen) => revisions(seen).join() === 'v1,v1,v1');
      assert.deepEqual(
        peers.map(({ Active }) => Active?.Hash),
        [v1, v1, v1],
      );
    }
    const [one, two, three] = machines;
    assert.ok(one && two && three);
    await deploy(one, v2);
    assert.deepEqual(
      (await peersOf(one)).filter(({ Self, Differs }) => Self && Differs),
      [],
      'who switches never differs',
    );
    const old = (peers: PeerStatus[]) => peers.filter(({ Differs }) => Differs).map(({ Active }) => Active?.Revision);
    for (const each of machines) {
      const peers = await untilSeen(each, (seen) => old(seen).join() === 'v1,v1');
      assert.deepEqual(revisions(peers), ['v1', 'v1', 'v2']);
    }
    const scrape = readExposition((await three.call('GET', '/metrics')).text);
    assert.deepEqual(
      ['machines', 'stale_machines', 'differing_machines'].map((name) => sumOf(scrape, `wunderproxy_${name}`)),
      [3, 0, 2],
    );
    assert.match((await one.call('GET', '/')).text, /another config is in service than the store names/);
    await deploy(two, v2);
    await deploy(three, v2);
    for (const each of machines) {
      await untilSeen(each, (seen) => old(seen).length === 0 && revisions(seen).join() === 'v2,v2,v2');
    }
  });

  test(`${kind}: who is killed falls silent, who is stopped is gone, who comes back is the same`, async (t) => {
    const { machines, meeting, start } = await assemble(t, prepare, 3);
    const [one, two, three] = machines;
    assert.ok(one && two && three);
    const all = await untilSeen(one, ({ length }) => length === 3);
    const idOf = (program: TestProgram) => all.find(({ Api }) => Api === `http://${program.api}`)?.Machine ?? '';
    await three.kill();
    const silent = (peers: PeerStatus[]) => peers.filter(({ Stale }) => Stale).map(({ Machine }) => Machine);
    await untilSeen(one, (peers) => silent(peers).includes(idOf(three)));
    assert.equal((await two.stop()).code, 0);
    await untilSeen(one, ({ length }) => length === 2);
    assert.deepEqual(await meeting.heartbeats(), [idOf(one), idOf(three)].map((id) => `${id}.json`).sort());
    assert.match((await one.call('GET', '/')).text, /not heard of any more/);
    const back = await start(3);
    const peers = await untilSeen(one, (seen) => silent(seen).length === 0);
    assert.deepEqual(
      peers.map(({ Machine, Api }) => [Machine, Api]).sort(),
      [one, back].map(({ api }, at) => [idOf(at === 0 ? one : three), `http://${api}`]).sort(),
    );
  });

  test(`${kind}: a store that is down is no trouble for traffic, and all see one another when it is back`, async (t) => {
    const { machines, meeting } = await assemble(t, prepare, 2);
    const [one, two] = machines;
    assert.ok(one && two);
    await deploy(one, await meeting.config('v1'));
    for (const each of machines) await untilSeen(each, ({ length }) => length === 2);
    meeting.cut();
    const down = await until(
      async () => answerOf(one),
      ({ FleetState }) => FleetState !== 'Ok',
      30_000,
    );
    assert.match(down.FleetState, /store .* failed to /);
    assert.equal(down.Peers.length, 2);
    assert.deepEqual(
      down.Peers.filter(({ Stale }) => Stale),
      [],
      'who can not look does not judge',
    );
    assert.equal((await one.get('/')).status, 200);
    for (const each of machines) {
      const scrape = await until(
        async () => readExposition((await each.call('GET', '/metrics')).text),
        (read) => sumOf(read, 'wunderproxy_heartbeat_failures_total') > 0,
        30_000,
      );
      assert.equal(sumOf(scrape, 'wunderproxy_machines'), 2);
    }
    await meeting.restore();
    for (const each of machines) {
      const { Peers } = await until(
        async () => answerOf(each),
        ({ FleetState, Peers: seen }) => FleetState === 'Ok' && seen.every(({ Stale }) => !Stale),
        60_000,
      );
      assert.equal(Peers.length, 2);
    }
    for (const each of machines) {
      const said = each.log.filter(({ msg }) => msg?.startsWith('the heartbeat in the store'));
      assert.deepEqual(
        said.map(({ level }) => level),
        ['warn', 'info'],
        JSON.stringify(said),
      );
    }
    assert.equal((await two.stop()).code, 0);
    await untilSeen(one, ({ length }) => length === 1);
  });
}
