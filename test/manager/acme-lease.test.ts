import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { AcmeLease, type LeaseTimes } from '../../src/manager/acme-lease.ts';
import { memoryLog } from '../support/memory-log.ts';
import { openForTest } from './store.contract.ts';

const LONG: LeaseTimes = { beat: 60_000, stale: 300_000 };
/** For a holder that is to be taken for dead: it never beats before. */
const SHORT: LeaseTimes = { beat: 60_000, stale: 300 };

async function place(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), 'lease-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const settings = { bucket: `file://${directory}`, prefix: 'p', s3Endpoint: null, s3PathStyle: false };
  const { log, lines } = memoryLog();
  return {
    lines,
    file: join(directory, 'p/acme/lease.json'),
    lease: async (holder: string, times = LONG) => new AcmeLease(await openForTest(t, settings), holder, log, times),
  };
}

test('one at a time holds it, and gives it back', async (t) => {
  const { lease } = await place(t);
  const [one, two] = [await lease('one'), await lease('two')];
  const held = (await one.acquire()) ?? assert.fail();
  assert.equal(await two.acquire(), null);
  assert.equal(held.signal.aborted, false);
  await held.release();
  const next = (await two.acquire()) ?? assert.fail();
  assert.equal(await one.acquire(), null);
  await next.release();
});

test('of many that want it at once one gets it', async (t) => {
  const { lease } = await place(t);
  const leases = await Promise.all(Array.from({ length: 8 }, async (_, i) => lease(`machine ${i}`)));
  const held = await Promise.all(leases.map(async (each) => each.acquire()));
  const winners = held.filter((each) => each !== null);
  assert.equal(winners.length, 1);
  await winners[0]?.release();
});

test('a successor of the same name takes over at once', async (t) => {
  const { lease } = await place(t);
  const before = (await (await lease('machine')).acquire()) ?? assert.fail();
  const after = (await (await lease('machine')).acquire()) ?? assert.fail();
  await after.release();
  await before.release();
});

test('a holder that says nothing any more is replaced, but not before its time', async (t) => {
  const { lease, lines } = await place(t);
  const dead = (await (await lease('dead')).acquire()) ?? assert.fail();
  const heir = await lease('heir', SHORT);
  const began = performance.now();
  assert.equal(await heir.acquire(), null);
  let held = await heir.acquire();
  for (let tries = 0; held === null && tries < 200; tries++) {
    await delay(20);
    held = await heir.acquire();
  }
  assert.ok(held !== null);
  assert.ok(performance.now() - began >= SHORT.stale);
  assert.deepEqual(
    lines.map(({ level, holder }) => [level, holder]),
    [['warn', 'dead']],
  );
  // It comes back to life: what it would give back is not its own any more.
  await dead.release();
  assert.equal(await (await lease('third')).acquire(), null);
  await held.release();
});

test('a holder that lives keeps it for longer than a dead one would', async (t) => {
  const { lease } = await place(t);
  const held = (await (await lease('alive', { beat: 50, stale: 60_000 })).acquire()) ?? assert.fail();
  const other = await lease('other', { beat: 50, stale: 2_000 });
  for (const until = performance.now() + 3_000; performance.now() < until; await delay(50)) {
    assert.equal(await other.acquire(), null);
  }
  assert.equal(held.signal.aborted, false);
  await held.release();
});

test('a holder learns that it was replaced', async (t) => {
  const { lease, file } = await place(t);
  const held = (await (await lease('machine', { beat: 20, stale: 60_000 })).acquire()) ?? assert.fail();
  const lost = once(held.signal, 'abort');
  writeFileSync(file, JSON.stringify({ Holder: 'another', Beat: 1 }));
  await lost;
  await held.release();
  assert.equal((JSON.parse(readFileSync(file, 'utf8')) as { Holder: string }).Holder, 'another');
});

test("what stands in its place and is no lease is nobody's", async (t) => {
  const { lease, file } = await place(t);
  const first = (await (await lease('first')).acquire()) ?? assert.fail();
  await first.release();
  for (const text of ['', '{', '[]', '{"Holder":7,"Beat":"x"}']) {
    writeFileSync(file, text);
    const held = (await (await lease('machine')).acquire()) ?? assert.fail(text);
    await held.release();
  }
});
