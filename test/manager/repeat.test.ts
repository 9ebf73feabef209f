import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { Repeat } from '../../src/manager/repeat.ts';
import { memoryLog } from '../support/memory-log.ts';

const NEVER = 3_600_000;

/** Something to be repeated of which each turn can be awaited. */
function repeated(t: TestContext, options: { every?: number; gap?: number }, act: (turn: number) => Promise<void>) {
  const { log, lines } = memoryLog();
  const waiting: { turn: number; resolve: () => void }[] = [];
  let turn = 0;
  const repeat = new Repeat(
    async () => {
      turn++;
      const now = turn;
      try {
        await act(now);
      } finally {
        for (const each of waiting) if (each.turn <= now) setImmediate(each.resolve);
      }
    },
    { every: NEVER, gap: 0, ...options, what: 'the work', log },
  );
  t.after(async () => repeat.stop());
  return {
    repeat,
    lines,
    turns: () => turn,
    /** Resolves when so many are over. */
    async until(count: number): Promise<void> {
      if (turn >= count) return;
      await new Promise<void>((resolve) => waiting.push({ turn: count, resolve }));
    },
  };
}

test('it begins at once, and again after its time', async (t) => {
  const { repeat, until } = repeated(t, { every: 1 }, async () => {});
  repeat.start();
  await until(3);
  assert.deepEqual([repeat.failures, repeat.problem], [0, null]);
});

test('a hurry does not wait for the time, and several at once are one', async (t) => {
  const { repeat, until, turns } = repeated(t, {}, async () => {});
  repeat.start();
  await until(1);
  for (let n = 0; n < 5; n++) repeat.hurry();
  await until(2);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(turns(), 2);
});

test('a hurry while one is under way brings another', async (t) => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const { repeat, until } = repeated(t, {}, async (turn) => (turn === 1 ? promise : undefined));
  repeat.start();
  repeat.hurry();
  resolve();
  await until(2);
});

test('hurries keep their distance', async (t) => {
  const begins: number[] = [];
  const { repeat, until } = repeated(t, { gap: 60 }, async () => void begins.push(performance.now()));
  repeat.start();
  for (let turn = 1; turn < 4; turn++) {
    await until(turn);
    repeat.hurry();
  }
  await until(4);
  const gaps = begins.slice(1).map((at, n) => at - (begins[n] ?? 0));
  // Timers of Node may be a millisecond early.
  assert.ok(
    gaps.every((gap) => gap >= 58),
    gaps.join(' '),
  );
});

test('failures in a row are one line in the log, and so is their end', async (t) => {
  const { repeat, until, lines } = repeated(t, { every: 1 }, async (turn) => {
    if (turn < 4) throw new Error(`no ${turn}`);
  });
  repeat.start();
  await until(3);
  assert.equal(repeat.problem, 'no 3');
  await until(4);
  assert.deepEqual([repeat.failures, repeat.problem], [3, null]);
  assert.deepEqual(
    lines.map(({ level, msg, why }) => [level, msg, why]),
    [
      ['warn', 'the work fails: it is tried again', 'no 1'],
      ['info', 'the work works again', undefined],
    ],
  );
});

test('a stop waits for what is under way, and nothing comes after it', async (t) => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const { repeat, turns } = repeated(t, { every: 1 }, async () => promise);
  repeat.start();
  let stopped = false;
  const stop = repeat.stop().then(() => (stopped = true));
  await new Promise((next) => setImmediate(next));
  assert.equal(stopped, false);
  resolve();
  await stop;
  repeat.hurry();
  await new Promise((next) => setTimeout(next, 20));
  assert.equal(turns(), 1);
});

test('one that was never started can be stopped', async (t) => {
  const { repeat, turns } = repeated(t, {}, async () => {});
  await repeat.stop();
  assert.equal(turns(), 0);
});
