import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addCounts } from '../../src/ledger.ts';
import { countsSince, summarize } from '../../src/manager/latency.ts';
import { Latency } from '../../src/proxy/latency.ts';

test('percentiles of a known distribution are right to 2 %', () => {
  const latency = new Latency();
  for (let ms = 1; ms <= 1_000; ms++) latency.record(ms);
  const summary = summarize(latency.snapshot());
  assert.equal(summary.Count, 1_000);
  const expected = { Mean: 500.5, P50: 500, P90: 900, P99: 990, P999: 999, Max: 1_000 };
  for (const [name, value] of Object.entries(expected)) {
    const seen = summary[name as keyof typeof expected];
    assert.ok(Math.abs(seen - value) / value < 0.02, `${name}: ${seen} instead of ${value}`);
  }
  assert.equal(
    summary.Histogram.reduce((sum, { Count }) => sum + Count, 0),
    1_000,
  );
});

test('microseconds, hours and a clock that was set back are counted', () => {
  const latency = new Latency();
  for (const ms of [0.004, 36_000_000, -5]) latency.record(ms);
  const summary = summarize(latency.snapshot());
  assert.equal(summary.Count, 3);
  assert.equal(summary.P50, 0.004);
  assert.ok(summary.Max > 3_500_000);
});

test('no percentile is longer than the longest', () => {
  const latency = new Latency();
  for (const ms of [157.3, 12.1, 157.3]) latency.record(ms);
  const { P99, P999, Max } = summarize(latency.snapshot());
  assert.deepEqual([P99, P999], [Max, Max]);
});

test('nothing counted is nothing summarized', () => {
  assert.equal(summarize({}).Count, 0);
});

test('counts of workers add up, and what came since is their difference', () => {
  const sum = addCounts({ 200: 5 }, { 200: 2, 404: 1 });
  assert.deepEqual(sum, { 200: 7, 404: 1 });
  assert.deepEqual(countsSince(sum, { 200: 7 }), { 404: 1 });
});

test('every duration up to the longest is counted, within 0.8 % of what it was', () => {
  for (let us = 0; us < 2 ** 32; us = Math.ceil(us * 1.01) + 1) {
    const latency = new Latency();
    latency.record(us / 1_000);
    const [[seen = '', count] = []] = Object.entries(latency.snapshot());
    assert.equal(count, 1, `${us} µs`);
    assert.ok(Math.abs(Number(seen) - us) <= us * 0.008, `${us} µs became ${seen}`);
  }
});
