import assert from 'node:assert/strict';
import { test } from 'node:test';
import { niceCeiling } from '../../src/web/chart.ts';
import { age, brief, bytes, count, duration, moment, percent, rate } from '../../src/web/format.ts';

/** Spaces that keep a number and its unit together, as plain ones. */
const plain = (text: string) => text.replace(/[\u00a0\u202f]/g, ' ');

const cases: [(value: number) => string, [number, string][]][] = [
  [
    count,
    [
      [0, '0'],
      [999, '999'],
      [1_000, '1 000'],
      [48_113_290, '48 113 290'],
    ],
  ],
  [
    bytes,
    [
      [0, '0 B'],
      [1_023, '1023 B'],
      [1_024, '1.0 KiB'],
      [150_000, '146 KiB'],
      [5e12, '4.5 TiB'],
    ],
  ],
  [
    duration,
    [
      [0.0004, '0 µs'],
      [0.25, '250 µs'],
      [1.5, '1.50 ms'],
      [42.42, '42.4 ms'],
      [999, '999 ms'],
      [2_500, '2.50 s'],
      [30_000, '30.0 s'],
      [60_000, '1 min'],
    ],
  ],
  [
    age,
    [
      [-5, '0 s'],
      [59_999, '59 s'],
      [60_000, '1 min'],
      [3_600_000, '1 h'],
      [5_400_000, '1 h 30 min'],
      [36_000_000, '10 h'],
      [172_800_000, '2 d'],
    ],
  ],
  [
    percent,
    [
      [0, '0 %'],
      [0.5, '50 %'],
      [0.0123, '1.2 %'],
      [0.0005, '0.05 %'],
      [0.00001, '0.001 %'],
    ],
  ],
  [
    rate,
    [
      [0, '0 req/s'],
      [0.1, '0.10 req/s'],
      [12.34, '12.3 req/s'],
      [4_321, '4 321 req/s'],
    ],
  ],
];

for (const [format, table] of cases) {
  test(`${format.name} writes a number with its unit`, () => {
    for (const [value, text] of table) assert.equal(plain(format(value)), text);
  });
}

test('what is told in brief keeps the begin and the end, which tell revisions apart', () => {
  assert.equal(brief('v42'), 'v42');
  assert.equal(brief('release-2026.03.14_a.60-'), 'release-2026.03.14_a.60-');
  assert.equal(brief('release-2026.03.14_feature-checkout-rework-9'), 'release-202…ut-rework-9');
  assert.equal(brief('🚀'.repeat(25)), `${'🚀'.repeat(11)}…${'🚀'.repeat(11)}`);
});

test('a moment can be read by people and by machines', () => {
  assert.equal(
    moment('2026-03-14T15:09:26.535Z').text,
    '<time datetime="2026-03-14T15:09:26Z" data-form="clock">15:09:26 UTC</time>',
  );
  assert.equal(
    moment('2026-03-14T15:09:26Z', 'day').text,
    '<time datetime="2026-03-14T15:09:26Z">2026-03-14 15:09 UTC</time>',
  );
  assert.equal(moment('<b>').text, '&lt;b&gt;');
});

test('an axis ends at a round number that is not below its values', () => {
  assert.deepEqual([0, 0.3, 1, 1.1, 4.9, 51, 999].map(niceCeiling), [1, 0.5, 1, 2, 5, 100, 1_000]);
});
