import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Breaker, type Outcome } from '../../src/proxy/breaker.ts';

function withClock() {
  const clock = { now: 1_000 };
  const breaker = new Breaker(() => clock.now);
  const pass = (...outcomes: Outcome[]) => {
    for (const outcome of outcomes) {
      const leave = breaker.enter();
      assert.ok(leave, `shut before ${outcome}`);
      breaker.leave(leave, outcome);
    }
  };
  const fail = (times: number) => pass(...Array.from({ length: times }, () => 'failed' as const));
  return { clock, breaker, pass, fail };
}

test('five failures in a row open it, four and a success do not', () => {
  const { breaker, pass, fail } = withClock();
  fail(4);
  pass('ok');
  fail(4);
  assert.equal(breaker.state, 'closed');
  fail(1);
  assert.equal(breaker.state, 'open');
  assert.equal(breaker.enter(), null);
});

test('more than half of the last twenty open it, half do not', () => {
  const { breaker, pass } = withClock();
  for (let i = 0; i < 30; i++) pass('ok', 'failed');
  assert.equal(breaker.state, 'closed');
  pass('failed');
  assert.equal(breaker.state, 'open');
});

test('what says nothing about the other end changes nothing', () => {
  const { breaker, pass, fail } = withClock();
  fail(4);
  pass('unknown', 'unknown');
  assert.equal(breaker.state, 'closed');
  fail(1);
  assert.equal(breaker.state, 'open');
});

test('after a second one request tries, and closes it', () => {
  const { clock, breaker, fail } = withClock();
  fail(5);
  clock.now += 999;
  assert.equal(breaker.enter(), null);
  clock.now += 1;
  assert.equal(breaker.state, 'half-open');
  const trial = breaker.enter();
  assert.ok(trial);
  assert.equal(breaker.enter(), null, 'one at a time');
  breaker.leave(trial, 'ok');
  assert.equal(breaker.state, 'closed');
  fail(4);
  assert.equal(breaker.state, 'closed', 'what was before is forgotten');
});

test('each failed trial doubles the time, up to thirty seconds; a success begins anew', () => {
  const { clock, breaker, pass, fail } = withClock();
  fail(5);
  const waits: number[] = [];
  for (let i = 0; i < 7; i++) {
    const from = clock.now;
    while (breaker.state === 'open') clock.now += 100;
    waits.push(clock.now - from);
    fail(1);
  }
  assert.deepEqual(waits, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
  clock.now += 30_000;
  pass('ok');
  fail(5);
  clock.now += 1_000;
  assert.equal(breaker.state, 'half-open');
});

test('a trial of which nothing is known makes room for the next', () => {
  const { clock, breaker, pass, fail } = withClock();
  fail(5);
  clock.now += 1_000;
  pass('unknown', 'unknown', 'ok');
  assert.equal(breaker.state, 'closed');
});

test('what began before it opened says nothing any more', () => {
  const { clock, breaker, fail } = withClock();
  const [late, later] = [breaker.enter(), breaker.enter()];
  assert.ok(late && later);
  fail(5);
  breaker.leave(late, 'ok');
  assert.equal(breaker.state, 'open');
  clock.now += 1_000;
  const trial = breaker.enter();
  assert.ok(trial);
  breaker.leave(later, 'failed');
  assert.equal(breaker.state, 'half-open');
  breaker.leave(trial, 'ok');
  assert.equal(breaker.state, 'closed');
});
