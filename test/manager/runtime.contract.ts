import assert from 'node:assert/strict';
import { request } from 'node:http';
import { after, afterEach, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { WunderproxyError } from '../../src/errors.ts';
import type { LaunchConfig } from '../../src/manager/launch-config.ts';
import type { ContainerInfo, ContainerRuntime, CreateRequest } from '../../src/manager/runtime.ts';
import { Changes } from '../support/changes.ts';

/** What the contract suite needs of a runtime's tests. */
export interface RuntimeFixture {
  runtime: ContainerRuntime;
  /** A second runtime on the same engine, as a manager has that takes over from one that crashed. */
  successor(): ContainerRuntime;
  /** A config that runs test/support/app/server.js with these settings. */
  config(settings?: Record<string, string>, containerConfig?: Record<string, unknown>): LaunchConfig;
  /** Config of a container that runs a command which does not exist. */
  withoutCommand(): LaunchConfig;
  close(): Promise<void>;
}

const HASH = 'd41d8cd98f00b204e9800998ecf8427e';

/** Holds an implementation of ContainerRuntime to what src/manager/runtime.ts says. */
export function runtimeContract(name: string, open: () => Promise<RuntimeFixture>): void {
  describe(`${name} as a container runtime`, { timeout: 300_000 }, async () => {
    const fixture = await open();
    const { runtime } = fixture;
    const changes = new Changes(runtime);
    after(() => fixture.close());
    afterEach(async () => {
      for (const { id } of await runtime.list()) await runtime.remove(id);
    });

    const create = (config: LaunchConfig, more: Partial<CreateRequest> = {}) =>
      runtime.create({
        hash: HASH,
        config,
        environment: {},
        signal: new AbortController().signal,
        onProgress: () => {},
        ...more,
      });
    /** A container that answers requests. */
    const launch = async (settings: Record<string, string> = {}, more: Partial<CreateRequest> = {}) => {
      const id = await create(fixture.config(settings), more);
      await runtime.start(id);
      await untilItAnswers(await inspect(id));
      return id;
    };
    const inspect = async (id: string): Promise<ContainerInfo> => {
      const info = await runtime.inspect(id);
      assert.ok(info);
      return info;
    };

    test('a created container is marked launching and does not run', async () => {
      const id = await create(fixture.config());
      const info = await inspect(id);
      assert.deepEqual(
        { ...info, image: '' },
        {
          id,
          hash: HASH,
          revision: 'v1',
          image: '',
          mark: 'launching',
          running: false,
          exitCode: null,
          lastExit: null,
          address: null,
          startedAt: null,
        },
      );
      assert.deepEqual(await runtime.list(), [info]);
    });

    test('a started container answers at its address', async () => {
      const before = Date.now();
      const id = await launch({ VERSION: 'seven' });
      const info = await inspect(id);
      assert.equal(info.running, true);
      assert.equal(info.exitCode, null);
      assert.match(await get(info, '/'), /"version":"seven"/);
      const startedAt = Date.parse(info.startedAt ?? '');
      assert.ok(startedAt >= before - 1_000 && startedAt <= Date.now() + 1_000, info.startedAt ?? 'null');
    });

    test('starting a container that runs changes nothing', async () => {
      const id = await launch();
      const before = await inspect(id);
      await runtime.start(id);
      assert.deepEqual(await inspect(id), before);
    });

    test('two containers of one config run side by side', async () => {
      const [one, two] = [await launch({ VERSION: 'one' }), await launch({ VERSION: 'two' })];
      assert.match(await get(await inspect(one), '/'), /"version":"one"/);
      assert.match(await get(await inspect(two), '/'), /"version":"two"/);
      assert.deepEqual((await runtime.list()).map(({ id }) => id).sort(), [one, two].sort());
    });

    test('marks are kept by the engine, also for a manager that takes over', async () => {
      const id = await launch();
      const successor = fixture.successor();
      for (const mark of ['launched', 'superseded', 'launched', 'launched', 'launching'] as const) {
        await runtime.mark(id, mark);
        assert.equal((await inspect(id)).mark, mark);
        assert.deepEqual(await successor.list(), await runtime.list());
      }
      assert.match(await get(await inspect(id), '/'), /"version"/);
      successor.close();
    });

    test("the config's environment wins over the one for all containers", async () => {
      const environment = { SHARED: 'from everybody', VERSION: 'nobody sees this', EQUALS: 'a=b=c' };
      const id = await launch({ VERSION: 'own' }, { environment });
      const info = await inspect(id);
      assert.equal(await get(info, '/env?name=SHARED'), 'from everybody');
      assert.equal(await get(info, '/env?name=VERSION'), 'own');
      assert.equal(await get(info, '/env?name=EQUALS'), 'a=b=c');
    });

    test('a container that exits is reported, with its exit code and without an address', async () => {
      const id = await launch();
      const info = await inspect(id);
      const since = changes.seen.length;
      await get(info, '/exit?code=7');
      await changes.untilContainer(id, (now) => now?.running === false, 'its exit');
      assert.ok(changes.seen.slice(since).includes(id));
      const { running, exitCode, lastExit, address } = await inspect(id);
      assert.deepEqual({ running, exitCode, address }, { running: false, exitCode: 7, address: null });
      assert.deepEqual(lastExit, { status: 7, outOfMemory: false });
    });

    test('a container that exits as it starts is reported, with what it said', async () => {
      const id = await create(fixture.config({ EXIT_CODE: '3' }));
      await runtime.start(id);
      await changes.untilContainer(id, (now) => now?.exitCode === 3, 'its exit');
      assert.deepEqual(await runtime.logs(id, 50), ['exiting with status 3']);
    });

    test('a stopped container may finish, and is killed when it does not', async () => {
      const [willing, stubborn] = [await launch(), await launch({ IGNORE_TERM: '1' })];
      await runtime.stop(willing, 20_000);
      assert.equal((await inspect(willing)).exitCode, 0);
      await runtime.stop(stubborn, 500);
      assert.equal((await inspect(stubborn)).exitCode, 137);
      assert.match((await runtime.logs(stubborn, 1)).join(), /"term"/);
      await runtime.stop(stubborn, 500);
    });

    test('a removed container is gone at once, and that is reported', async () => {
      const id = await launch();
      await runtime.remove(id);
      assert.equal(await runtime.inspect(id), null);
      assert.deepEqual(await runtime.list(), []);
      await changes.until(() => changes.seen.includes(id), 'the removal');
    });

    test('a container that is gone counts as stopped, marked and removed, but can not be started', async () => {
      const id = await create(fixture.config());
      await Promise.all([runtime.remove(id), runtime.remove(id)]);
      await runtime.remove(id);
      await runtime.stop(id, 1_000);
      await runtime.mark(id, 'launched');
      assert.equal(await runtime.inspect(id), null);
      assert.deepEqual(await runtime.logs(id, 10), []);
      await assert.rejects(runtime.start(id), { code: 'launch_failed' });
    });

    test('a command that does not exist fails the start, by its name', async () => {
      const id = await create(fixture.withoutCommand());
      await assert.rejects(runtime.start(id), { code: 'launch_failed', message: /no-such-command/ });
      assert.equal((await inspect(id)).running, false);
    });

    test('logs hold the last lines of both streams, cut and safe to print', async () => {
      const id = await launch();
      const info = await inspect(id);
      const say = (text: string, to = 'stdout') => get(info, `/log?to=${to}&text=${encodeURIComponent(text)}`);
      await say('first');
      await say('\u001b[31mred\u001b[0m \u0007bell \u009b2Jcleared', 'stderr');
      await say('é'.repeat(2_400));
      const logs = await untilLogged(
        runtime,
        id,
        (lines) => lines.filter((line) => line.includes('complete')).length === 3,
      );
      assert.ok(logs.includes('first'), 'stdout is there');
      assert.ok(logs.includes('red bell cleared'), JSON.stringify(logs));
      assert.deepEqual(
        logs.find((line) => line.startsWith('éé')),
        'é'.repeat(2_048),
      );
      assert.deepEqual(await runtime.logs(id, 2), logs.slice(-2));
    });

    test('a log is followed from its last lines on, as lines end, until the container exits', async () => {
      const id = await launch();
      const info = await inspect(id);
      await get(info, '/log?text=before');
      await untilLogged(runtime, id, (lines) => lines.includes('before'));
      const lines = runtime.follow(id, 1_000, new AbortController().signal);
      const next = async (wanted: string) => {
        for await (const line of { [Symbol.asyncIterator]: () => ({ next: () => lines.next() }) }) {
          if (line === wanted) return;
        }
        assert.fail(`it ended without ${wanted}`);
      };
      await next('before');
      await get(info, '/log?to=stderr&text=after');
      await next('after');
      await get(info, `/log?text=${encodeURIComponent('\u001b[2Jclean')}`);
      await next('clean');
      await runtime.stop(id, 10_000);
      while (!(await lines.next()).done);
    });

    test('who follows the log of a silent container, or of one that is gone, is not held', async () => {
      const id = await launch();
      const given = new AbortController();
      const lines = runtime.follow(id, 1_000, given.signal);
      assert.equal((await lines.next()).done, false);
      const rest = (async () => {
        while (!(await lines.next()).done);
      })();
      given.abort();
      await rest;
      await runtime.remove(id);
      assert.deepEqual(await runtime.follow(id, 10, new AbortController().signal).next(), {
        done: true,
        value: undefined,
      });
    });

    test('an aborted create leaves nothing', async () => {
      const reason = new WunderproxyError('shutting_down');
      await assert.rejects(create(fixture.config(), { signal: AbortSignal.abort(reason) }), reason);
      const given = new AbortController();
      const created = create(fixture.config(), { signal: given.signal });
      given.abort();
      await assert.rejects(created, { code: 'launch_failed' });
      assert.deepEqual(await runtime.list(), []);
    });

    test('a manager that takes over sees, stops and removes what its predecessor started', async () => {
      const id = await launch();
      const successor = fixture.successor();
      assert.deepEqual(await successor.inspect(id), await inspect(id));
      await successor.stop(id, 10_000);
      assert.equal((await inspect(id)).running, false);
      await successor.remove(id);
      assert.deepEqual(await runtime.list(), []);
      successor.close();
    });

    test('an engine that works is no problem', () => {
      assert.equal(runtime.problem, null);
    });
  });
}

/** A request on a connection of its own; resolves to the body. */
export async function get(info: ContainerInfo, path: string): Promise<string> {
  assert.ok(info.address, 'it has an address');
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const asked = request({ ...info.address, path, agent: false, timeout: 10_000 }, (response) => {
    let body = '';
    response.setEncoding('utf8');
    response.on('data', (text: string) => (body += text));
    response.on('end', () => {
      resolve(body);
    });
    response.on('error', reject);
  });
  asked.on('timeout', () => asked.destroy(new Error(`${path} was not answered`)));
  asked.on('error', reject);
  asked.end();
  return promise;
}

/** Health checks are not the runtime's: asks until the application listens. */
export async function untilItAnswers(info: ContainerInfo): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      await get(info, '/up');
      return;
    } catch (error) {
      if (tries === 400) throw error;
      await delay(50);
    }
  }
}

/** What a container writes takes its time to get into the engine's log. */
async function untilLogged(
  runtime: ContainerRuntime,
  id: string,
  holds: (lines: string[]) => boolean,
): Promise<string[]> {
  for (let tries = 0; ; tries++) {
    const lines = await runtime.logs(id, 100);
    if (holds(lines)) return lines;
    assert.ok(tries < 200, `not logged: ${JSON.stringify(lines)}`);
    await delay(50);
  }
}
