import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { createLogger } from '../../src/log.ts';
import { DockerRuntime } from '../../src/manager/docker-runtime.ts';
import type { ContainerInfo, ContainerRuntime } from '../../src/manager/runtime.ts';
import { Changes } from '../support/changes.ts';
import { DockerDaemon } from '../support/docker-daemon.ts';
import { TestDocker } from '../support/docker.ts';
import { freePort } from '../support/free-port.ts';
import { Gate } from '../support/gate.ts';
import { get, untilItAnswers } from './runtime.contract.ts';

/** What is said of an engine that has ended, by where a call found that out. */
const GONE = /is not there|refuses connections|closed the connection/;

/** A call that is still open after this time hangs with the engine, in ms. */
const AT_ONCE = 1_500;

function open(host: string, app: string): DockerRuntime {
  return new DockerRuntime({
    app,
    environment: 'test',
    registryPort: 1,
    openArtifact: () => Promise.resolve(null),
    log: createLogger('manager'),
    dockerHost: host,
  });
}

function create(runtime: ContainerRuntime, signal = new AbortController().signal): Promise<string> {
  const config = { ContainerConfig: {}, HealthCheckPath: '/up', Revision: 'v1' };
  return runtime.create({ hash: 'ab', config, environment: {}, signal, onProgress: () => {} });
}

async function launch(runtime: ContainerRuntime): Promise<ContainerInfo> {
  const id = await create(runtime);
  await runtime.start(id);
  await runtime.mark(id, 'launched');
  const info = await runtime.inspect(id);
  assert.ok(info);
  await untilItAnswers(info);
  return info;
}

/** Every method that asks the engine, on a container. */
function everyCall(runtime: ContainerRuntime, id: string): Record<string, () => Promise<unknown>> {
  return {
    list: () => runtime.list(),
    inspect: () => runtime.inspect(id),
    create: () => create(runtime),
    start: () => runtime.start(id),
    mark: () => runtime.mark(id, 'superseded'),
    stop: () => runtime.stop(id, 60_000),
    remove: () => runtime.remove(id),
  };
}

/** Every call is refused with the same words, and none waits for the engine. */
async function assertUnavailable(runtime: ContainerRuntime, id: string, message: RegExp): Promise<void> {
  for (const [name, call] of Object.entries(everyCall(runtime, id))) {
    const late = delay(AT_ONCE, null, { ref: false }).then(() => assert.fail(`${name} hangs with the engine`));
    await assert.rejects(Promise.race([call(), late]), { code: 'runtime_unavailable', message }, name);
  }
  assert.deepEqual(await runtime.logs(id, 10), []);
}

/** `problem` has no event of its own. */
async function untilProblem(runtime: ContainerRuntime): Promise<string> {
  for (let tries = 0; tries < 600; tries++) {
    if (runtime.problem !== null) return runtime.problem;
    await delay(50);
  }
  return assert.fail('the engine is gone and nobody notices');
}

describe('an engine that fails', { timeout: 300_000 }, async () => {
  const dir = mkdtempSync(join(tmpdir(), 'wunderdocker-'));
  const daemon = await DockerDaemon.start(join(dir, 'engine'));
  after(async () => {
    await daemon.stop();
    rmSync(dir, { recursive: true });
  });
  const docker = new TestDocker(daemon.host, 1, 'shop');
  await docker.appImage('v1');

  /** A runtime that watches, with one container in service. */
  async function watched(t: { after: (fn: () => Promise<void>) => void }, host = daemon.host) {
    const runtime = open(host, 'shop');
    t.after(async () => {
      runtime.close();
      await docker.removeContainers();
    });
    const changes = new Changes(runtime);
    await changes.until(() => changes.seen.includes(null), 'the connection');
    const info = await launch(runtime);
    return {
      runtime,
      changes,
      info,
      recovered: async (since: number) => {
        await changes.until(() => changes.seen.slice(since).includes(null), 'the return of the engine');
        assert.equal(runtime.problem, null);
      },
    };
  }

  test('by hanging is noticed, costs nobody a wait, and is forgotten when it goes on', async (t) => {
    const { runtime, changes, info, recovered } = await watched(t);
    const since = changes.seen.length;
    process.kill(daemon.pid, 'SIGSTOP');
    try {
      // Begun before anybody can know.
      const begun = runtime.inspect(info.id);
      await assert.rejects(begun, { code: 'runtime_unavailable' });
      assert.match(await untilProblem(runtime), /^Docker at unix:\/\/\S+ does not answer\.$/);
      await assertUnavailable(runtime, info.id, /does not answer/);
      assert.match(await get(info, '/'), /"version":"v1"/);
    } finally {
      process.kill(daemon.pid, 'SIGCONT');
    }
    await recovered(since);
    assert.deepEqual(await runtime.list(), [info]);
  });

  test('by stopping is noticed, and its containers are found again when it is back', async (t) => {
    const { runtime, changes, info, recovered } = await watched(t);
    const since = changes.seen.length;
    await daemon.halt('SIGTERM');
    try {
      assert.match(await untilProblem(runtime), GONE);
      await assertUnavailable(runtime, info.id, GONE);
      assert.match(await get(info, '/'), /"version":"v1"/);
    } finally {
      await daemon.resume();
    }
    await recovered(since);
    assert.deepEqual(await runtime.list(), [info]);
    await runtime.stop(info.id, 10_000);
    assert.equal((await runtime.inspect(info.id))?.exitCode, 0);
  });

  test('by a kill -9 is noticed, and its containers are found again when it is back', async (t) => {
    const { runtime, changes, info, recovered } = await watched(t);
    const since = changes.seen.length;
    await daemon.halt('SIGKILL');
    try {
      await untilProblem(runtime);
      await assertUnavailable(runtime, info.id, GONE);
    } finally {
      await daemon.resume();
    }
    await recovered(since);
    assert.deepEqual(await runtime.list(), [info]);
  });

  test('in the middle of a stop breaks the stop off', async (t) => {
    const { runtime, changes, info, recovered } = await watched(t);
    const id = await create(runtime);
    await runtime.start(id);
    const since = changes.seen.length;
    process.kill(daemon.pid, 'SIGSTOP');
    const stopping = runtime.stop(info.id, 600_000);
    await assert.rejects(stopping, { code: 'runtime_unavailable', message: /does not answer/ });
    process.kill(daemon.pid, 'SIGCONT');
    await recovered(since);
  });

  test('to answer a create leaves no container when the answer is lost', async (t) => {
    const path = join(dir, 'gate.sock');
    const gate = await Gate.toSocket(t, daemon.host.slice('unix://'.length), path);
    const { runtime, info } = await watched(t, `unix://${path}`);
    let lost = 0;
    gate.answer = (asked) => {
      if (!asked.startsWith('POST /containers/create')) return 'pass';
      lost++;
      return 'cut';
    };
    await assert.rejects(create(runtime), { code: 'runtime_unavailable', message: /closed the connection/ });
    assert.equal(lost, 1);
    assert.deepEqual(await docker.containerNames(), [`shop-v1-${info.id.slice(0, 8)}`]);
  });

  test('while an answer is on its way leaves no container once it is back', async (t) => {
    const path = join(dir, 'gate.sock');
    const gate = await Gate.toSocket(t, daemon.host.slice('unix://'.length), path);
    const { runtime, changes, info, recovered } = await watched(t, `unix://${path}`);
    const since = changes.seen.length;
    let hangs = false;
    gate.answer = (asked) => {
      // From the creation on, for everybody.
      hangs ||= asked.startsWith('POST /containers/create');
      return hangs ? 'hold' : 'pass';
    };
    await assert.rejects(create(runtime), { code: 'runtime_unavailable', message: /does not answer/ });
    gate.answer = () => 'pass';
    await recovered(since);
    const wanted = `shop-v1-${info.id.slice(0, 8)}`;
    await changes.until(async () => (await docker.containerNames()).join() === wanted, 'the removal of the stray');
  });

  test('after the launch was given up leaves no container', async (t) => {
    const path = join(dir, 'gate.sock');
    const gate = await Gate.toSocket(t, daemon.host.slice('unix://'.length), path);
    const { runtime, info } = await watched(t, `unix://${path}`);
    const given = new AbortController();
    gate.answer = (asked) => {
      if (asked.startsWith('POST /containers/create')) given.abort();
      return 'pass';
    };
    await assert.rejects(create(runtime, given.signal), { code: 'launch_failed', message: /broken off/ });
    assert.deepEqual(await docker.containerNames(), [`shop-v1-${info.id.slice(0, 8)}`]);
  });
});

test('an engine that was never there is named, by socket and by port', async (t) => {
  const port = await freePort();
  const hosts = [
    ['unix:///no/such/docker.sock', /^Docker at unix:\/\/\/no\/such\/docker\.sock is not there\.$/],
    [`tcp://127.0.0.1:${port}`, /^Docker at tcp:\/\/127\.0\.0\.1:\d+ refuses connections\.$/],
  ] as const;
  for (const [host, message] of hosts) {
    const runtime = open(host, 'shop');
    t.after(() => {
      runtime.close();
    });
    await assertUnavailable(runtime, 'ab', message);
    assert.equal(runtime.problem, null);
    runtime.watch(() => {});
    assert.match(await untilProblem(runtime), message);
    await assertUnavailable(runtime, 'ab', message);
  }
});

test('an engine is reached by TCP as well', async (t) => {
  const socket = (process.env['DOCKER_HOST'] ?? '').slice('unix://'.length);
  const gate = await Gate.toSocket(t, socket);
  const runtime = open(`tcp://127.0.0.1:${gate.port}`, 'nobody-has-this');
  const changes = new Changes(runtime);
  t.after(() => {
    runtime.close();
  });
  await changes.until(() => changes.seen.includes(null), 'the connection');
  assert.deepEqual(await runtime.list(), []);
});

test('a DOCKER_HOST that can not be understood is refused', () => {
  for (const host of ['', 'docker', 'ssh://root@example.com', 'unix://relative', 'tcp://', 'http://127.0.0.1:2375']) {
    assert.throws(() => open(host, 'shop'), { name: 'RangeError', message: /unix:\/\/\/path or tcp:/ });
  }
});
