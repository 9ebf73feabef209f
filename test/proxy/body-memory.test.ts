import assert from 'node:assert/strict';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { BLOCK_SIZE } from '../../src/proxy/blocks.ts';
import { BodyMemory } from '../../src/proxy/body-memory.ts';
import { Spool } from '../../src/proxy/spool.ts';
import { testData } from './support/data.ts';
import { Random, seedOfRun } from './support/random.ts';

const MOST = 5 * BLOCK_SIZE + 1_000;
const LIMITS = { directory: tmpdir(), bodyMemory: MOST, totalMemory: 10 * MOST, totalDisk: 0 };
const source = testData(2 * MOST);

test('however a body is cut, it is in memory as it came, within the limit, and the accounts are exact', () => {
  const seed = seedOfRun();
  for (let i = 0; i < 1_000; i++) {
    const random = new Random(seed + i);
    const spool = new Spool(LIMITS);
    const borders = [0, 1, 4_096, BLOCK_SIZE, 3 * BLOCK_SIZE, MOST].flatMap((size) => [size - 1, size, size + 1]);
    const length = Math.max(0, random.chance(0.5) ? random.pick(borders) : random.between(0, MOST + 50_000));
    const body = source.subarray(0, length);
    const memory = new BodyMemory(spool, random.chance(0.5) ? length : null);
    let added = 0;
    for (const piece of random.split(body, 30)) {
      if (!memory.add(piece)) break;
      added += piece.length;
      assert.ok(spool.use.memoryBytes >= added && spool.use.memoryBytes <= MOST, `PROPERTY_SEED=${seed + i}`);
      assert.ok(spool.use.memoryBytes <= 2 * added + BLOCK_SIZE, `PROPERTY_SEED=${seed + i}`);
    }
    assert.ok(added === length || length > MOST, `PROPERTY_SEED=${seed + i}: ${added} of ${length}`);
    assert.ok(Buffer.concat(memory.pieces()).equals(body.subarray(0, added)), `PROPERTY_SEED=${seed + i}`);
    memory.release();
    assert.equal(spool.use.memoryBytes, 0, `PROPERTY_SEED=${seed + i}`);
  }
});

function filled(spool: Spool, text: string): BodyMemory {
  const memory = new BodyMemory(spool, null);
  assert.ok(memory.add(Buffer.alloc(3 * BLOCK_SIZE, text)));
  return memory;
}

function contentOf(memory: BodyMemory): Set<string> {
  return new Set(Buffer.concat(memory.pieces()).toString('latin1'));
}

test('blocks are used again, but not as long as somebody writes them', () => {
  const spool = new Spool(LIMITS);
  const first = filled(spool, 'a');
  const pieces = first.pieces();
  const text = () => new Set(Buffer.concat(pieces).toString('latin1'));
  first.lend();
  first.lend();
  first.release();
  first.giveBack();
  const second = filled(spool, 'b');
  assert.deepEqual(text(), new Set('a'));
  first.giveBack();
  const third = filled(spool, 'c');
  assert.deepEqual(contentOf(second), new Set('b'));
  assert.deepEqual(contentOf(third), new Set('c'));
  assert.deepEqual(text(), new Set('c'), "its blocks are the third one's now");
  first.release();
  const fourth = filled(spool, 'd');
  assert.deepEqual(
    [contentOf(second), contentOf(third), contentOf(fourth)],
    [new Set('b'), new Set('c'), new Set('d')],
  );
});

test('a chunk that is the whole body is kept as it is, and is never used for another', () => {
  const spool = new Spool(LIMITS);
  const chunk = Buffer.allocUnsafeSlow(BLOCK_SIZE).fill('x');
  const memory = new BodyMemory(spool, BLOCK_SIZE);
  assert.ok(memory.add(chunk));
  assert.equal(memory.pieces()[0], chunk);
  memory.release();
  filled(spool, 'y');
  assert.equal(chunk[0], 'x'.charCodeAt(0));
});
