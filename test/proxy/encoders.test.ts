import assert from 'node:assert/strict';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { Encoders, encodeWhole } from '../../src/proxy/encoders.ts';
import { Spool } from '../../src/proxy/spool.ts';
import { CODINGS, decode } from './support/codings.ts';
import { testData } from './support/data.ts';

const MIB = 2 ** 20;

function encodersWith(totalMemory: number): { encoders: Encoders; spool: Spool } {
  const spool = new Spool({ directory: tmpdir(), bodyMemory: MIB, totalMemory, totalDisk: MIB });
  return { encoders: new Encoders(spool), spool };
}

test('a whole body can be had back from each coding', () => {
  for (const coding of CODINGS) {
    for (const size of [0, 1, 16_383, 16_384, 16_385, 65_536, 1_000_000]) {
      const body = testData(size);
      assert.ok(decode(coding, encodeWhole(coding, body)).equals(body), `${coding} ${size}`);
    }
  }
});

test('the memory of encoders is counted, limited to half of all, and given back', async () => {
  const { encoders, spool } = encodersWith(20 * MIB);
  for (const coding of CODINGS) {
    for (const live of [false, true]) {
      const open = [];
      for (let encoder = encoders.open(coding, live); encoder !== null; encoder = encoders.open(coding, live)) {
        open.push(encoder);
        assert.ok(open.length <= 100, 'there is no limit');
      }
      assert.ok(open.length >= 5, `${open.length} ${coding}`);
      assert.ok(spool.use.memoryBytes <= 10 * MIB);
      assert.equal(spool.use.memoryBytes, open.length * (open[0]?.memory ?? 0));
      const closed = open.map(({ stream }) => once(stream, 'close'));
      for (const encoder of open) encoders.close(encoder);
      await Promise.all(closed);
      assert.equal(spool.use.memoryBytes, 0);
    }
  }
});

test('there is no encoder when bodies have used up the memory', () => {
  const { encoders, spool } = encodersWith(4 * MIB);
  spool.holdMemory(4 * MIB - 1_000);
  assert.equal(encoders.open('gzip', true), null);
  spool.releaseMemory(4 * MIB - 1_000);
  const encoder = encoders.open('gzip', true);
  assert.ok(encoder);
  encoders.close(encoder);
});

test('some work at once, the others in their order, and too many are told apart', () => {
  const { encoders } = encodersWith(MIB);
  const begun: number[] = [];
  const ends: (() => void)[] = [];
  for (let i = 0; i < 200; i++) {
    encoders.run((done) => {
      begun.push(i);
      ends.push(done);
    });
  }
  const parallel = begun.length;
  assert.ok(parallel >= 1 && parallel <= 3, `${parallel} at once`);
  assert.ok(encoders.overloaded);
  for (let i = 0; i < 200; i++) {
    assert.equal(begun.length, Math.min(200, i + parallel));
    ends[i]?.();
    // Whoever ends twice takes nobody's place.
    ends[i]?.();
  }
  assert.deepEqual(
    begun,
    Array.from({ length: 200 }, (_, i) => i),
  );
  assert.ok(!encoders.overloaded);
});
