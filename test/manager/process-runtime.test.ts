import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { LaunchConfig } from '../../src/manager/launch-config.ts';
import type { ProcessRuntime } from '../../src/manager/process-runtime.ts';
import type { ContainerInfo } from '../../src/manager/runtime.ts';
import { Changes } from '../support/changes.ts';
import { TestEngine } from '../support/engine.ts';
import { killIfThere, runningProcesses } from '../support/processes.ts';
import { get, runtimeContract, untilItAnswers } from './runtime.contract.ts';

const SERVER = join(import.meta.dirname, '../support/app/server.js');

function config(settings: Record<string, string> = {}, containerConfig: Record<string, unknown> = {}): LaunchConfig {
  const Env = Object.entries(settings).map(([key, value]) => `${key}=${value}`);
  return {
    ContainerConfig: { Cmd: [process.execPath, SERVER], Env, ...containerConfig },
    HealthCheckPath: '/up',
    Revision: 'v1',
  };
}

runtimeContract('the process runtime', () => {
  const engine = new TestEngine();
  const runtime = engine.connect();
  return Promise.resolve({
    runtime,
    successor: () => engine.connect(),
    config,
    withoutCommand: () => config({}, { Cmd: ['no-such-command'] }),
    close: async () => {
      runtime.close();
      await engine.disconnect();
    },
  });
});

function create(
  runtime: ProcessRuntime,
  wanted: LaunchConfig,
  environment: Record<string, string> = {},
): Promise<string> {
  const signal = new AbortController().signal;
  return runtime.create({ hash: 'ab', config: wanted, environment, signal, onProgress: () => {} });
}

async function launch(runtime: ProcessRuntime, ...[wanted, environment]: [LaunchConfig?, Record<string, string>?]) {
  const id = await create(runtime, wanted ?? config(), environment);
  await runtime.start(id);
  const info = await runtime.inspect(id);
  assert.ok(info);
  await untilItAnswers(info);
  return info;
}

/** A watched engine that is killed when the test ends, and its children with it. */
function engineForTest(t: TestContext, env: Record<string, string> = {}) {
  const engine = new TestEngine(env);
  const runtime = engine.connect();
  t.after(async () => {
    runtime.close();
    await engine.disconnect();
  });
  return { engine, runtime, changes: new Changes(runtime) };
}

/** The process that listens for a container, found by its port. */
function processOf(info: ContainerInfo): number {
  const found = runningProcesses().find(({ pid }) => {
    try {
      return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(`PORT=${info.address?.port}`);
    } catch {
      return false;
    }
  });
  assert.ok(found, 'it runs');
  return found.pid;
}

/** Resolves when none of the processes runs; ends them and fails when that takes too long. */
async function untilGone(pids: number[]): Promise<void> {
  const left = () => runningProcesses().filter(({ pid }) => pids.includes(pid));
  for (let tries = 0; tries < 200 && left().length > 0; tries++) await delay(50);
  const remaining = left();
  for (const { pid } of remaining) killIfThere(pid, 'SIGKILL');
  assert.deepEqual(remaining, []);
}

/** A shell that starts another process and waits; resolves to the pids of both. */
async function family(runtime: ProcessRuntime): Promise<{ info: ContainerInfo; pids: number[] }> {
  const command = `sleep 1000 & echo "pids $$ $!"; exec ${process.execPath} ${SERVER}`;
  const info = await launch(runtime, config({}, { Cmd: ['/bin/sh', '-c', command] }));
  const line = (await runtime.logs(info.id, 50)).find((each) => each.startsWith('pids ')) ?? '';
  const pids = line.split(' ').slice(1).map(Number);
  assert.equal(pids.length, 2);
  return { info, pids };
}

describe('child processes', { timeout: 120_000 }, () => {
  test('take along what they started when they are removed, stopped or exit', async (t) => {
    const { runtime, changes } = engineForTest(t);
    const [removed, stopped, exits] = [await family(runtime), await family(runtime), await family(runtime)];
    await runtime.remove(removed.info.id);
    await untilGone(removed.pids);
    await runtime.stop(stopped.info.id, 10_000);
    await untilGone(stopped.pids);
    await get(exits.info, '/exit?code=0');
    await changes.untilContainer(exits.info.id, (now) => now?.running === false, 'its exit');
    await untilGone(exits.pids);
  });

  test('are out of reach of a Ctrl-C, and so is their engine', async (t) => {
    const { engine, runtime } = engineForTest(t);
    const info = await launch(runtime);
    const pid = processOf(info);
    // proc(5): state, ppid, pgrp and session follow the name.
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const [, , group, session] = stat
      .slice(stat.lastIndexOf(')') + 2)
      .split(' ')
      .map(Number);
    assert.deepEqual({ group, session }, { group: pid, session: pid });
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.kill(engine.pid, signal);
    assert.match(await get(info, '/'), /"version"/);
    assert.deepEqual(await runtime.list(), [info]);
  });

  test('end with the primary, after a SIGTERM', async (t) => {
    const { engine, runtime } = engineForTest(t);
    const folder = mkdtempSync(join(tmpdir(), 'wunderchild-'));
    t.after(() => {
      rmSync(folder, { recursive: true });
    });
    const script = join(folder, 'app.sh');
    const told = join(folder, 'told');
    writeFileSync(script, `trap 'echo TERM > ${told}; exit 0' TERM\n${process.execPath} ${SERVER} &\nwait\n`);
    const polite = await launch(runtime, config({}, { Cmd: ['/bin/sh', script] }));
    const stubborn = await launch(runtime, config({ IGNORE_TERM: '1' }));
    const pids = [processOf(polite), processOf(stubborn)];
    assert.equal(await engine.disconnect(), 0);
    await untilGone(pids);
    assert.equal(readFileSync(told, 'utf8'), 'TERM\n');
  });

  test('end with an engine that is killed, and the runtime goes on with the next one', async (t) => {
    if (spawnSync('setpriv', ['--pdeathsig', 'KILL', '--', 'true']).status !== 0) {
      t.skip('needs setpriv of util-linux');
      return;
    }
    const { engine, runtime, changes } = engineForTest(t);
    const info = await launch(runtime);
    const pid = processOf(info);
    await changes.until(() => changes.seen.includes(info.id), 'its start');
    await engine.kill();
    await untilGone([pid]);
    engine.replace();
    await changes.untilContainer(info.id, (now) => now === null, 'its end');
    assert.deepEqual(await runtime.list(), []);
    await launch(runtime);
  });

  test('see a small environment: nothing of the program but where things are', async (t) => {
    const { runtime } = engineForTest(t, { AWS_SECRET_ACCESS_KEY: 'secret', NODE_OPTIONS: '--no-warnings', TZ: 'UTC' });
    const info = await launch(runtime, config({ OWN: '1', PORT: '1', PATH: '/usr/bin:/bin' }), { SHARED: '2' });
    const environment = readFileSync(`/proc/${processOf(info)}/environ`, 'utf8')
      .split('\0')
      .filter(Boolean);
    const expected = ['HOME=/', 'LANG=C.UTF-8', 'TZ=UTC', 'SHARED=2', 'OWN=1', 'PATH=/usr/bin:/bin'];
    assert.deepEqual(environment.sort(), [...expected, `PORT=${info.address?.port}`].sort());
  });

  test('are started as Docker starts a command, in shell form too', async (t) => {
    const { runtime } = engineForTest(t);
    const server = `${process.execPath} ${SERVER}`;
    const forms: [string, Record<string, unknown>][] = [
      ['exec Cmd', { Cmd: [process.execPath, SERVER] }],
      ['Entrypoint before Cmd', { Entrypoint: [process.execPath], Cmd: [SERVER] }],
      ['shell Cmd', { Cmd: `FROM_SHELL=1 exec ${server}` }],
      ['shell Entrypoint', { Entrypoint: `exec ${server}`, Cmd: ['ignored'] }],
      ['found in PATH', { Cmd: ['node', SERVER], Env: [`PATH=${process.env['PATH'] ?? ''}`] }],
      ['found from WorkingDir', { Cmd: [process.execPath, './server.js'], WorkingDir: join(SERVER, '..') }],
    ];
    for (const [form, containerConfig] of forms) {
      const info = await launch(runtime, config({}, containerConfig));
      assert.equal(await get(info, '/env?name=FROM_SHELL'), form === 'shell Cmd' ? '1' : '', form);
      await runtime.remove(info.id);
    }
  });

  test('that can not be started are refused with the reason', async (t) => {
    const { runtime } = engineForTest(t);
    const none = { Cmd: null, Entrypoint: [] };
    await assert.rejects(create(runtime, config({}, none)), { code: 'launch_failed', message: /names no command/ });
    assert.deepEqual(await runtime.list(), []);
    const cases: [Record<string, unknown>, RegExp][] = [
      [{ Cmd: ['/no/such/file'] }, /The command \/no\/such\/file does not exist/],
      [{ Cmd: [SERVER] }, /server\.js does not exist or can not be executed/],
      [{ Cmd: ['/'] }, /The command \/ does not exist or can not be executed/],
      [{ WorkingDir: '/no/such/folder' }, /The working directory \/no\/such\/folder does not exist/],
    ];
    for (const [containerConfig, message] of cases) {
      const id = await create(runtime, config({ SECRET: 'hunter2' }, containerConfig));
      await assert.rejects(runtime.start(id), { code: 'launch_failed', message });
    }
  });

  test('that write without end are kept up with, and 200 lines of it stay', async (t) => {
    const { runtime, changes } = engineForTest(t);
    const flood = 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo "line $i"; done; head -c 5000000 /dev/zero; exit 9';
    const id = await create(runtime, config({}, { Cmd: flood }));
    await runtime.start(id);
    await changes.untilContainer(id, (now) => now?.exitCode === 9, 'its exit');
    const logs = await runtime.logs(id, 1_000);
    assert.equal(logs[199], 'line 20000');
    assert.equal(logs[0], 'line 19801');
    // Five million zero bytes are an unfinished line without anything that can be printed.
    assert.equal(logs.length, 200);
  });

  test('whose engine hangs cost nobody a wait, and are there when it goes on', async (t) => {
    const { engine, runtime, changes } = engineForTest(t);
    const info = await launch(runtime);
    const since = changes.seen.length;
    process.kill(engine.pid, 'SIGSTOP');
    try {
      await assert.rejects(runtime.inspect(info.id), { code: 'runtime_unavailable' });
      for (let tries = 0; runtime.problem === null && tries < 200; tries++) await delay(50);
      assert.equal(runtime.problem, 'The process engine does not answer.');
      const calls = [() => runtime.list(), () => create(runtime, config()), () => runtime.stop(info.id, 60_000)];
      for (const call of calls) {
        const late = delay(1_500, null, { ref: false }).then(() => assert.fail('it hangs with the engine'));
        await assert.rejects(Promise.race([call(), late]), { code: 'runtime_unavailable' });
      }
      assert.match(await get(info, '/'), /"version"/);
    } finally {
      process.kill(engine.pid, 'SIGCONT');
    }
    await changes.until(() => changes.seen.slice(since).includes(null), 'the return of the engine');
    assert.equal(runtime.problem, null);
    assert.deepEqual(await runtime.inspect(info.id), info);
  });
});
