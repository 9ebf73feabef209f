import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FallbackBudget } from '../../src/proxy/fallback-budget.ts';

/** How many fail before no more are allowed. */
function drain(budget: FallbackBudget): number {
  let failed = 0;
  while (budget.allows && failed < 10_000) {
    budget.noteFailure();
    failed++;
  }
  return failed;
}

test('a quiet machine has ten a second, over ten seconds, shared by its workers', () => {
  assert.equal(drain(new FallbackBudget(1, () => 0)), 100);
  assert.equal(drain(new FallbackBudget(4, () => 0)), 25);
  assert.equal(drain(new FallbackBudget(64, () => 0)), 10, 'one a second for each at least');
});

test('a fifth of the requests of the last ten seconds comes to it', () => {
  const clock = { now: 5_000 };
  const budget = new FallbackBudget(1, () => clock.now);
  for (let i = 0; i < 1_000; i++) budget.noteRequest();
  assert.equal(drain(budget), 300);
  clock.now += 9_000;
  assert.equal(budget.allows, false, 'they all count for ten seconds');
  clock.now += 1_000;
  assert.equal(drain(budget), 100, 'then neither requests nor failures do');
});

test('what works is free: only failures use it up', () => {
  const budget = new FallbackBudget(1, () => 0);
  for (let i = 0; i < 5_000; i++) assert.ok(budget.allows);
});

test('in the long run as many fail as a fifth and the floor say', () => {
  const clock = { now: 123_456 };
  const budget = new FallbackBudget(2, () => clock.now);
  let failed = 0;
  for (let second = 0; second < 100; second++) {
    for (let i = 0; i < 50; i++) {
      budget.noteRequest();
      if (!budget.allows) continue;
      budget.noteFailure();
      failed++;
    }
    clock.now += 1_000;
  }
  // 50 requests a second make 10, and this worker's half of the floor is 5.
  assert.ok(failed >= 1_300 && failed <= 1_700, String(failed));
});
