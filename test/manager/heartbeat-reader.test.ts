import assert from 'node:assert/strict';
import { renameSync, symlinkSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { heartbeatKey } from '../../src/manager/heartbeat.ts';
import { HeartbeatReader } from '../../src/manager/heartbeat-reader.ts';
import type { ConfigStore } from '../../src/manager/store.ts';
import { BEGIN, heartbeatOf, sharedStore } from '../support/fleet.ts';
import { memoryLog } from '../support/memory-log.ts';
import { unavailable } from './store.contract.ts';

const OWN = 'web1-00000001';
const WEB2 = 'web2-00000002';
const WEB3 = 'web3-00000003';
const SECOND = 1_000;
const HOUR = 3_600 * SECOND;
const DAY = 24 * HOUR;

/** A reader whose time is what the test says. */
async function reading(t: TestContext, watched: (store: ConfigStore) => ConfigStore = (store) => store) {
  const shared = await sharedStore(t);
  const { log, lines } = memoryLog();
  const time = { steady: 5_000, clock: BEGIN };
  const reader = new HeartbeatReader({
    store: watched(shared.store),
    machine: OWN,
    every: 10 * SECOND,
    log,
    steady: () => time.steady,
    clock: () => time.clock,
  });
  return {
    ...shared,
    reader,
    lines,
    time,
    /** Both clocks go on. */
    pass: (ms: number) => {
      time.steady += ms;
      time.clock += ms;
    },
    /** Polls every 10 s for so many ms. */
    watch: async (ms: number) => {
      for (let passed = 0; passed < ms; passed += 10 * SECOND) {
        time.steady += 10 * SECOND;
        time.clock += 10 * SECOND;
        await reader.poll();
      }
    },
    machines: () => reader.machines().toSorted((a, b) => (a.heartbeat.Machine < b.heartbeat.Machine ? -1 : 1)),
    seen: () =>
      reader
        .machines()
        .map(({ heartbeat: { Machine }, stale }) => `${Machine}${stale ? ' stale' : ''}`)
        .sort(),
  };
}

/** What of a store was read, by its keys. */
function noting(read: string[]): (store: ConfigStore) => ConfigStore {
  return (store) => {
    const noted = Object.create(store) as ConfigStore;
    noted.read = async (key, limit) => {
      read.push(key);
      return store.read(key, limit);
    };
    for (const name of ['entries', 'remove'] as const) noted[name] = store[name].bind(store) as never;
    return noted;
  };
}

describe('who is seen', () => {
  test('all others are, as they tell of themselves, and oneself is not', async (t) => {
    const { reader, beat, machines } = await reading(t);
    assert.deepEqual(machines(), []);
    await beat(OWN);
    await beat(WEB2, { State: 'draining' });
    await beat(WEB3);
    await reader.poll();
    assert.deepEqual(machines(), [
      { heartbeat: heartbeatOf(WEB2, { State: 'draining' }), stale: false, seenAt: BEGIN },
      { heartbeat: heartbeatOf(WEB3), stale: false, seenAt: BEGIN },
    ]);
  });

  test('a machine that takes its heartbeat with it is gone', async (t) => {
    const { reader, store, beat, seen } = await reading(t);
    await beat(WEB2);
    await reader.poll();
    await store.remove(heartbeatKey(WEB2));
    await reader.poll();
    assert.deepEqual(seen(), []);
  });

  test('only what has changed is read', async (t) => {
    const read: string[] = [];
    const { reader, store, beat } = await reading(t, noting(read));
    await beat(OWN);
    await beat(WEB2);
    await store.write(heartbeatKey(WEB3), Buffer.from('garbage'));
    await reader.poll();
    assert.deepEqual(read.splice(0).sort(), [heartbeatKey(WEB2), heartbeatKey(WEB3)]);
    await reader.poll();
    assert.deepEqual(read, []);
    await beat(WEB2, { Sequence: 2 });
    await reader.poll();
    assert.deepEqual(read, [heartbeatKey(WEB2)]);
    assert.equal(reader.machines()[0]?.heartbeat.Sequence, 2);
  });
});

describe('who is silent', () => {
  test('a machine is after 35 s without a change, and no more once there is one', async (t) => {
    const { reader, beat, watch, seen, time } = await reading(t);
    await beat(WEB2);
    await reader.poll();
    await watch(30 * SECOND);
    assert.deepEqual(seen(), [WEB2]);
    await watch(10 * SECOND);
    assert.deepEqual(seen(), [`${WEB2} stale`]);
    assert.equal(reader.machines()[0]?.seenAt, BEGIN);
    await beat(WEB2, { Sequence: 2 });
    await reader.poll();
    assert.deepEqual(seen(), [WEB2]);
    assert.equal(reader.machines()[0]?.seenAt, time.clock);
  });

  test('one with longer intervals has longer', async (t) => {
    const { reader, beat, watch, seen } = await reading(t);
    await beat(WEB2, { Every: 300 });
    await reader.poll();
    await watch(1_050 * SECOND);
    assert.deepEqual(seen(), [WEB2]);
    await watch(10 * SECOND);
    assert.deepEqual(seen(), [`${WEB2} stale`]);
  });

  test('one that dies after each beat is heard of by a reader that is slower than it', async (t) => {
    const { reader, beat, watch, seen } = await reading(t);
    await beat(WEB2, { Every: 1 });
    await reader.poll();
    await watch(30 * SECOND);
    assert.deepEqual(seen(), [WEB2]);
  });

  test('whatever clocks say, a machine that changes is not, and one that does not is', async (t) => {
    for (const jump of [-3 * HOUR, 3 * HOUR, 400 * DAY]) {
      const { reader, beat, watch, seen, time } = await reading(t);
      await beat(WEB2);
      await beat(WEB3, { At: '2020-01-01T00:00:00.000Z' });
      await reader.poll();
      time.clock += jump;
      await watch(20 * SECOND);
      assert.ok(seen().includes(WEB2), `${jump}`);
      await beat(WEB3, { At: '2020-01-01T00:00:10.000Z' });
      await watch(20 * SECOND);
      assert.deepEqual(
        seen().filter((each) => !each.endsWith('stale')),
        [WEB3],
        `${jump}`,
      );
    }
  });

  test('seen for the first time, one is whose last word is old by more than clocks may differ', async (t) => {
    const { reader, beat, machines, seen } = await reading(t);
    await beat(WEB2, { At: new Date(BEGIN - 94 * SECOND).toISOString() });
    await beat(WEB3, { At: new Date(BEGIN - 96 * SECOND).toISOString() });
    await reader.poll();
    assert.deepEqual(seen(), [WEB2, `${WEB3} stale`]);
    assert.deepEqual(
      machines().map(({ seenAt }) => seenAt),
      [BEGIN, BEGIN - 96 * SECOND],
    );
  });

  test('one whose clock is ahead is judged like any other', async (t) => {
    const { reader, beat, watch, seen } = await reading(t);
    await beat(WEB2, { At: new Date(BEGIN + 30 * DAY).toISOString() });
    await reader.poll();
    assert.deepEqual(seen(), [WEB2]);
    await watch(40 * SECOND);
    assert.deepEqual(seen(), [`${WEB2} stale`]);
  });

  test('a time in which the reader could not look is held against nobody', async (t) => {
    const { reader, beat, pass, watch, seen } = await reading(t);
    await beat(WEB2);
    await beat(WEB3, { At: '2026-03-14T12:00:00.000Z' });
    await reader.poll();
    pass(3_600 * SECOND);
    await reader.poll();
    assert.deepEqual(seen(), [WEB2, `${WEB3} stale`]);
    await watch(40 * SECOND);
    assert.deepEqual(seen(), [`${WEB2} stale`, `${WEB3} stale`]);
  });

  test('a store that fails changes nothing of what is known', async (t) => {
    const { reader, folder, beat, pass, seen } = await reading(t);
    await beat(WEB2);
    await reader.poll();
    renameSync(join(folder, 'machines'), join(folder, 'away'));
    // A link that leads to itself.
    symlinkSync('machines', join(folder, 'machines'));
    for (let n = 0; n < 6; n++) {
      pass(10 * SECOND);
      await assert.rejects(reader.poll(), unavailable(/list machines/));
      assert.deepEqual(seen(), [WEB2]);
    }
    unlinkSync(join(folder, 'machines'));
    renameSync(join(folder, 'away'), join(folder, 'machines'));
    await reader.poll();
    assert.deepEqual(seen(), [WEB2]);
  });
});

describe('what is left of a machine', () => {
  test('is shown for a day, and removed after a week', async (t) => {
    const { reader, store, beat, pass, watch, seen, lines } = await reading(t);
    await beat(WEB2);
    await reader.poll();
    await watch(40 * SECOND);
    pass(DAY - 41 * SECOND);
    assert.deepEqual(seen(), [`${WEB2} stale`]);
    pass(SECOND);
    assert.deepEqual(seen(), []);
    await watch(60 * SECOND);
    pass(6 * DAY - 120 * SECOND);
    await reader.poll();
    assert.equal((await store.entries('machines/', 9)).length, 1);
    await watch(120 * SECOND);
    assert.deepEqual(await store.entries('machines/', 9), []);
    assert.deepEqual(
      lines.map(({ msg, machine }) => [msg, machine]),
      [['a machine that is gone for a week is forgotten', WEB2]],
    );
  });

  test('is not removed at first sight, for the clock of who looks may be wrong', async (t) => {
    const { reader, store, beat, watch, seen } = await reading(t);
    await beat(WEB2, { At: '2020-01-01T00:00:00.000Z' });
    await reader.poll();
    assert.deepEqual(seen(), []);
    await watch(590 * SECOND);
    assert.equal((await store.entries('machines/', 9)).length, 1);
    await watch(20 * SECOND);
    assert.deepEqual(await store.entries('machines/', 9), []);
  });

  test('is not removed as long as it changes, whatever time it tells', async (t) => {
    const { reader, store, beat, watch, seen } = await reading(t);
    for (let n = 0; n < 40; n++) {
      await beat(WEB2, { At: '2020-01-01T00:00:00.000Z', Sequence: n });
      if (n === 0) await reader.poll();
      await watch(20 * SECOND);
      if (n > 0) assert.deepEqual(seen(), [WEB2]);
    }
    assert.equal((await store.entries('machines/', 9)).length, 1);
  });
});

describe('what somebody else has put there', () => {
  test('is passed over with one line for each key, however often it changes', async (t) => {
    const { reader, store, beat, watch, seen, lines } = await reading(t);
    await beat(WEB2);
    const key = heartbeatKey(WEB3);
    for (const content of ['', '{', '[]', 'null', JSON.stringify(heartbeatOf(WEB2)), 'x'.repeat(65_537)]) {
      await store.write(key, Buffer.from(content));
      await reader.poll();
      assert.deepEqual(seen(), [WEB2], content.slice(0, 10));
    }
    await store.write('machines/notes.txt', Buffer.from('hello'));
    await store.write(`machines/a/${WEB3}.json`, Buffer.from('hello'));
    await watch(20 * SECOND);
    assert.deepEqual(
      lines.map(({ key: named, level, why }) => [named, level, why]),
      [
        [key, 'warn', 'it is not JSON'],
        [`machines/a/${WEB3}.json`, 'warn', 'this is no name of a machine'],
        ['machines/notes.txt', 'warn', 'this is no name of a machine'],
      ],
    );
    await beat(WEB3);
    await reader.poll();
    assert.deepEqual(seen(), [WEB2, WEB3]);
  });

  test('an object that is far too large is not even asked for', async (t) => {
    const read: string[] = [];
    const { reader, store, lines } = await reading(t, noting(read));
    await store.write(heartbeatKey(WEB2), Buffer.alloc(2 ** 20, ' '));
    await reader.poll();
    assert.deepEqual(read, []);
    assert.match(String(lines[0]?.why), /more than 65536 bytes/);
  });

  test('a heartbeat that turns into garbage is not shown any more', async (t) => {
    const { reader, store, beat, seen } = await reading(t);
    await beat(WEB2);
    await reader.poll();
    await store.write(heartbeatKey(WEB2), Buffer.from('{"Machine":'));
    await reader.poll();
    assert.deepEqual(seen(), []);
  });

  test('of more than 200 the first 200 are looked at, and a line says so', async (t) => {
    const { reader, beat, seen, lines } = await reading(t);
    const ids = Array.from({ length: 203 }, (_, n) => `web-${(0x10000000 + n).toString(16)}`);
    for (const id of ids) await beat(id);
    await reader.poll();
    assert.deepEqual(seen(), ids.slice(0, 200));
    await reader.poll();
    assert.deepEqual(
      lines.map(({ why }) => why),
      ['there are more than 200: the rest is not looked at'],
    );
  });

  test('one object that can not be read hides no other', async (t) => {
    const refusing = (store: ConfigStore) => {
      const noted = noting([])(store);
      noted.read = async (key, limit) => store.read(key === heartbeatKey(WEB2) ? 'machines/.hidden' : key, limit);
      return noted;
    };
    const { reader, beat, watch, seen, lines } = await reading(t, refusing);
    await beat(WEB2);
    await beat(WEB3);
    await reader.poll();
    await beat(WEB2, { Sequence: 2 });
    await beat(WEB3, { Sequence: 2 });
    await watch(10 * SECOND);
    assert.deepEqual(seen(), [WEB3]);
    assert.deepEqual(
      lines.map(({ key }) => key),
      [heartbeatKey(WEB2)],
    );
    await assert.rejects(reader.poll(), unavailable(/machines\/\.hidden/));
  });
});
