import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Nonces } from '../src/nonces.ts';

test('a nonce is good once, until the time up to which it is kept', () => {
  const nonces = new Nonces();
  assert.equal(nonces.use('a', 60_000, 0), true);
  assert.equal(nonces.use('a', 60_000, 0), false);
  assert.equal(nonces.use('a', 120_000, 60_000), false);
  assert.equal(nonces.use('b', 60_000, 0), true);
});

test('what has had its time makes room by itself', () => {
  const nonces = new Nonces();
  for (let now = 0; now < 100_000; now += 100) assert.ok(nonces.use(`n${now}`, now + 1_000, now));
  assert.ok(nonces.size <= 12, String(nonces.size));
});

test('when there is no room a nonce counts as used, until there is', () => {
  const nonces = new Nonces(3);
  // The first of them lives the longest, so that it stands in the way of the others.
  assert.deepEqual(
    [90_000, 10_000, 20_000].map((until, i) => nonces.use(`n${i}`, until, 5_000)),
    [true, true, true],
  );
  assert.equal(nonces.use('x', 60_000, 5_000), false);
  assert.equal(nonces.use('x', 60_000, 15_000), true);
  assert.equal(nonces.use('y', 60_000, 15_500), false);
  assert.equal(nonces.size, 3);
});
