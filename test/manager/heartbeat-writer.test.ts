import assert from 'node:assert/strict';
import { symlinkSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { type Heartbeat, heartbeatKey, parseHeartbeat } from '../../src/manager/heartbeat.ts';
import { newInstance } from '../../src/machine.ts';
import { HeartbeatWriter } from '../../src/manager/heartbeat-writer.ts';
import type { ConfigStore } from '../../src/manager/store.ts';
import { until } from '../support/deployments.ts';
import { heartbeatOf, sharedStore } from '../support/fleet.ts';
import { memoryLog } from '../support/memory-log.ts';

const OWN = 'web1-00000001';
const NEVER = 300_000;

async function writing(t: TestContext, every = NEVER) {
  const shared = await sharedStore(t);
  const { log, lines } = memoryLog();
  const { Name, App, Version, Api, Proxy, Tls, StartedAt, Active, State, InFlight, Requests, ErrorsLastMinute } =
    heartbeatOf(OWN);
  const told = { Name, App, Version, Api, Proxy, Tls, StartedAt, Active, State, InFlight, Requests, ErrorsLastMinute };
  const make = (store: ConfigStore = shared.store, boot = newInstance()) => {
    const writer = new HeartbeatWriter({ machine: OWN, boot, store, every, log, content: () => told });
    t.after(async () => writer.stop());
    return writer;
  };
  const read = async () => {
    const object = await shared.store.read(heartbeatKey(OWN));
    return object && parseHeartbeat(OWN, object.bytes);
  };
  return { ...shared, told, lines, make, read };
}

const isThere = (found: Heartbeat | null) => found !== null;

test('a heartbeat says what there is to say, and each more than the one before', async (t) => {
  const { make, read, told } = await writing(t);
  const writer = make();
  writer.start();
  const first = (await until(read, isThere)) ?? assert.fail();
  const { Machine, At, Every, Boot, Sequence, ...rest } = first;
  assert.deepEqual(rest, told);
  assert.deepEqual([Machine, Every, Sequence], [OWN, 300, 1]);
  assert.ok(Math.abs(Date.now() - Date.parse(At)) < 60_000);
  assert.match(Boot, /^[0-9a-f]{16}$/);
  told.State = 'draining';
  writer.hurry();
  const second = await until(read, (found) => found?.Sequence === 2);
  assert.deepEqual([second?.State, second?.Boot], ['draining', Boot]);
  assert.equal(writer.problem, null);
});

test('a stop takes it out of the store', async (t) => {
  const { make, read } = await writing(t);
  const writer = make();
  writer.start();
  await until(read, isThere);
  await writer.stop();
  assert.equal(await read(), null);
});

test('a stop waits for a write that is under way, and for no store that hangs', async (t) => {
  const { make, read, store, lines } = await writing(t);
  const { promise: held, resolve: letGo } = Promise.withResolvers<void>();
  const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
  const slow = Object.assign(Object.create(store) as ConfigStore, {
    write: async (key: string, bytes: Buffer) => {
      begin();
      await held;
      await store.write(key, bytes);
    },
    remove: async (key: string) => store.remove(key),
  });
  const quick = make(slow);
  quick.start();
  await begun;
  const stopped = quick.stop();
  letGo();
  await stopped;
  assert.equal(await read(), null);

  const dead = Object.assign(Object.create(store) as ConfigStore, {
    remove: async () => new Promise<void>(() => {}),
    write: async (key: string, bytes: Buffer) => store.write(key, bytes),
  });
  const writer = make(dead);
  writer.start();
  await until(read, isThere);
  await writer.stop();
  assert.match(String(lines.at(-1)?.msg), /the heartbeat stays in the store/);
});

test('a store that fails is one line in the log, and is written to when it is back', async (t) => {
  const { make, read, folder, store, lines } = await writing(t, 1);
  await store.write('x', Buffer.alloc(0));
  // A link that leads to itself.
  symlinkSync('machines', join(folder, 'machines'));
  const writer = make();
  writer.start();
  await until(
    async () => writer.failures,
    (failures) => failures > 0,
  );
  assert.match(writer.problem ?? '', /failed to write machines\//);
  unlinkSync(join(folder, 'machines'));
  await until(read, isThere);
  await until(
    async () => writer.problem,
    (problem) => problem === null,
  );
  assert.deepEqual(
    lines.map(({ level, msg }) => [level, msg]),
    [
      ['warn', 'the heartbeat in the store fails: it is tried again'],
      ['info', 'the heartbeat in the store works again'],
    ],
  );
});

test('what its predecessor or anybody else left in its place is written over', async (t) => {
  for (const left of [
    'garbage',
    JSON.stringify(heartbeatOf(OWN, { Boot: 'before', Sequence: 99 })),
    'x'.repeat(70_000),
  ]) {
    const { make, read, store, lines } = await writing(t);
    await store.write(heartbeatKey(OWN), Buffer.from(left));
    const writer = make();
    writer.start();
    await until(
      async () => read().catch(() => null),
      (found) => found !== null && found.Boot !== 'before',
    );
    assert.deepEqual([writer.problem, lines], [null, []]);
  }
});

test('two that have one id both say so, and no more when one of them is gone', async (t) => {
  const { make, lines } = await writing(t, 1);
  const [one, two] = [make(), make()];
  one.start();
  two.start();
  const clash = new RegExp(
    `^Another machine has the id of this one, ${OWN}: web1 at http://10\\.0\\.0\\.1:8001\\. .*remove machine-id`,
  );
  for (const each of [one, two]) {
    await until(
      async () => each.problem,
      (problem) => problem !== null && clash.test(problem),
    );
  }
  await two.stop();
  await until(
    async () => one.problem,
    (problem) => problem === null,
  );
  const said = lines.filter(({ msg }) => clash.test(String(msg)));
  assert.equal(said.length, 2, 'one line each');
  assert.deepEqual([said[0]?.['level'], said[0]?.['api']], ['warn', 'http://10.0.0.1:8001']);
});

test('the last write of a process that was killed is no clash', async (t) => {
  const { make, read, beat, lines } = await writing(t);
  const writer = make();
  writer.start();
  await until(read, isThere);
  await beat(OWN, { Boot: 'killed', Sequence: 9 });
  writer.hurry();
  await until(read, (found) => found?.Sequence === 2);
  writer.hurry();
  await until(read, (found) => found?.Sequence === 3);
  assert.deepEqual([writer.problem, lines], [null, []]);
});

test('the next manager of the same program is no clash, however long the one before goes on', async (t) => {
  const { make, read, lines } = await writing(t, 1);
  const boot = newInstance();
  const [one, two] = [make(undefined, boot), make(undefined, boot)];
  one.start();
  await until(read, (found) => (found?.Sequence ?? 0) >= 2);
  two.start();
  await until(read, (found) => (found?.Sequence ?? 0) >= 4);
  assert.deepEqual([one.problem, two.problem, lines], [null, null, []]);
});

test('a clone that writes less often than this one is not forgotten in between', async (t) => {
  const { make, read, beat, lines } = await writing(t, 1);
  const writer = make();
  writer.start();
  const beats = async (more: number) => {
    const from = (await until(read, (found) => found?.Boot !== 'clone'))?.Sequence ?? 0;
    await until(read, (found) => found?.Boot !== 'clone' && (found?.Sequence ?? 0) >= from + more);
  };
  await until(read, isThere);
  for (const Sequence of [1, 2]) {
    await beat(OWN, { Boot: 'clone', Sequence, Every: 300, Name: 'copy', Api: null });
    await beats(4);
  }
  assert.match(writer.problem ?? '', /: copy at http:\/\/10\.0\.0\.1\. /);
  assert.equal(lines.length, 1);
});
