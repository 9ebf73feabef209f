import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Coding } from '../../src/worker-config.ts';
import { codingChooser } from '../../src/proxy/accept-encoding.ts';

const ALL: Coding[] = ['zstd', 'br', 'gzip'];

/** By RFC 9110 section 12.5.3. */
const CASES: [accept: string, chosen: Coding | null][] = [
  ['', null],
  ['gzip', 'gzip'],
  ['GZip', 'gzip'],
  ['x-gzip', 'gzip'],
  ['gzip, deflate, br, zstd', 'zstd'],
  ['gzip, deflate, br', 'br'],
  ['gzip, deflate', 'gzip'],
  ['deflate', null],
  ['compress, exi', null],
  ['*', 'zstd'],
  ['zstd;q=0, *', 'br'],
  ['*;q=0', null],
  ['*;q=0, gzip', 'gzip'],
  ['gzip;q=1.0, *;q=0.5', 'gzip'],
  ['br;q=0.9, gzip;q=0.91', 'gzip'],
  ['br;q=0.001', 'br'],
  ['br;q=0', null],
  ['br;q=0.000, gzip', 'gzip'],
  ['gzip;q=0.5, identity', null],
  ['gzip;q=0.5, identity;q=0.5', 'gzip'],
  ['identity', null],
  ['identity;q=0', null],
  ['identity;q=0, gzip;q=0.1', 'gzip'],
  ['identity;q=0.5, *;q=0', null],
  ['gzip ; q=0.5 ,\tbr\t;\tQ=1', 'br'],
  [', gzip,,', 'gzip'],
  ['gzip;q=2', null],
  ['gzip;q=1.001', null],
  ['gzip;q=0.1234', null],
  ['gzip;q=-1', null],
  ['gzip;q=', null],
  ['gzip;q', null],
  ['gzip;level=9', null],
  ['gzip br', null],
  ['gzip;q=0.5;q=1', null],
  ['"gzip"', null],
  ['gzip, bröt', null],
];

for (const [accept, chosen] of CASES) {
  test(`Accept-Encoding ${JSON.stringify(accept)} gets ${chosen ?? 'no coding'}`, () => {
    const choose = codingChooser(ALL);
    assert.equal(choose(accept), chosen);
    assert.equal(choose(accept), chosen, 'also when it is known');
  });
}

test('among equal weights the first one offered is chosen, and nothing that is not offered', () => {
  assert.equal(codingChooser(['gzip', 'br'])('zstd, br, gzip'), 'gzip');
  assert.equal(codingChooser(['gzip'])('zstd, br'), null);
  assert.equal(codingChooser(['br'])('*'), 'br');
});

test('a hostile value is read in a moment', () => {
  const choose = codingChooser(ALL);
  assert.equal(choose(`gzip;q=${'0'.repeat(16_000)}`), null);
  assert.equal(choose(`gzip${' '.repeat(16_000)};`), null);
  assert.equal(choose(`${'a,'.repeat(8_000)}gzip`), 'gzip');
});
