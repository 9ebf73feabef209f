import assert from 'node:assert/strict';
import { test } from 'node:test';
import { expose, histogram } from '../../src/manager/prometheus.ts';
import { readExposition, sumOf } from '../support/exposition.ts';

test('whatever a label holds can be read back', () => {
  const value = 'a"b\\c\nd\\n{},= é';
  const text = expose([
    { name: 'x_total', help: 'a\\b\nc', type: 'counter', samples: [{ labels: { v: value }, value: 1 }] },
  ]);
  assert.deepEqual(readExposition(text), [{ name: 'x_total', labels: { v: value }, value: 1 }]);
});

test('a histogram is cumulative, and a duration on a bound is below it', () => {
  const samples = histogram({ 1_000: 2, 1_001: 3, 70_000_000: 1 }, 71.5, { a: 'b' });
  const read = readExposition(expose([{ name: 'd_seconds', help: 'h', type: 'histogram', samples }]));
  const upTo = (le: string) => sumOf(read, 'd_seconds_bucket', { le, a: 'b' });
  assert.deepEqual(['0.001', '0.0025', '60', '+Inf'].map(upTo), [2, 5, 5, 6]);
  assert.equal(sumOf(read, 'd_seconds_count'), 6);
  assert.equal(sumOf(read, 'd_seconds_sum'), 71.5);
});

test('a metric without a value is not mentioned', () => {
  assert.equal(expose([{ name: 'x', help: 'h', type: 'gauge', samples: [] }]), '');
});
