import assert from 'node:assert/strict';
import { test } from 'node:test';
import { renewalTime, retryDelay } from '../../src/manager/acme-schedule.ts';

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

test('a certificate of 90 days is renewed 30 days before its end, within an hour', () => {
  const validity = { notBefore: 1_000 * DAY, notAfter: 1_090 * DAY };
  const orderedAt = 1_000 * DAY + 60 * MINUTE;
  assert.equal(renewalTime(validity, orderedAt, orderedAt, 0), 1_060 * DAY);
  assert.equal(renewalTime(validity, null, orderedAt, 1), 1_060 * DAY + 60 * MINUTE);
});

test('a certificate of minutes is renewed in its last third too', () => {
  assert.equal(renewalTime({ notBefore: 0, notAfter: 300_000 }, 0, 1_000, 0), 200_000);
  assert.equal(renewalTime({ notBefore: 0, notAfter: 300_000 }, null, 1_000, 1), 203_000);
});

test('a machine whose clock is a year ahead orders once in 30 days, and one behind it is not misled', () => {
  const validity = { notBefore: 1_000 * DAY, notAfter: 1_090 * DAY };
  const ahead = 1_365 * DAY;
  assert.equal(renewalTime(validity, ahead, ahead, 0), 1_395 * DAY);
  assert.equal(renewalTime(validity, ahead, 1_001 * DAY, 0), 1_060 * DAY);
});

test('after each failure the wait doubles, from two minutes to a day', () => {
  const middle = (failures: number) => Math.round(retryDelay(failures, 0.5, 0) / MINUTE);
  assert.deepEqual([1, 2, 3, 4, 10, 11, 1_000].map(middle), [2, 4, 8, 16, 1_024, 1_440, 1_440]);
});

test('no more than five tries fall into the first hour', () => {
  let at = 0;
  let tries = 1;
  for (let failures = 1; failures < 10; failures++) {
    at += retryDelay(failures, 0, 0);
    if (at < 55 * MINUTE) tries++;
  }
  assert.equal(tries, 5);
});

test('an authority that wants to be left alone is, for a week at most', () => {
  assert.equal(retryDelay(1, 0.5, 5 * 60 * MINUTE), 5 * 60 * MINUTE);
  assert.equal(retryDelay(1, 0.5, 1_000 * DAY), 7 * DAY);
  assert.equal(retryDelay(11, 0.5, MINUTE), DAY);
});
