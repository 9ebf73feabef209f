import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Pieces } from '../../src/proxy/pieces.ts';
import { testData } from './support/data.ts';

const MIB = 1024 * 1024;

function drain(pieces: Pieces): Buffer[] {
  const all: Buffer[] = [];
  for (let piece = pieces.shift(); piece !== undefined; piece = pieces.shift()) all.push(piece);
  return all;
}

test('a mebibyte that comes byte by byte waits in few pieces, and comes out as it went in', () => {
  const data = testData(MIB);
  const pieces = new Pieces();
  for (let i = 0; i < MIB; i++) pieces.push(data.subarray(i, i + 1));
  assert.equal(pieces.bytes, MIB);
  const all = drain(pieces);
  assert.ok(all.length <= MIB / 4_096, `${all.length} pieces`);
  assert.ok(Buffer.concat(all).equals(data));
  assert.equal(pieces.bytes, 0);
  assert.ok(pieces.empty);
});

test('what was taken out stays as it was while more comes in', () => {
  const data = testData(64 * 1024);
  const pieces = new Pieces();
  const out: Buffer[] = [];
  // Sizes on both sides of what is joined, taken out at every step of a block's growth.
  const sizes = [1, 2, 4_095, 4_096, 3, 5_000, 1, 1, 4_000];
  let at = 0;
  for (let step = 0; at < data.length; step++) {
    const size = sizes[step % sizes.length] ?? 1;
    pieces.push(data.subarray(at, at + size));
    at += size;
    if (step % 3 !== 0) continue;
    const piece = pieces.shift();
    if (piece !== undefined) out.push(piece);
  }
  assert.ok(Buffer.concat([...out, ...drain(pieces)]).equals(data));
});

test('what is put back comes before what has come since', () => {
  const pieces = new Pieces();
  pieces.push(Buffer.from('a'));
  pieces.push(Buffer.from('b'));
  const taken = pieces.takeAll();
  assert.ok(pieces.empty);
  pieces.push(Buffer.from('c'));
  pieces.putBack(taken);
  pieces.push(Buffer.from('d'));
  assert.equal(pieces.bytes, 4);
  assert.equal(Buffer.concat(drain(pieces)).toString(), 'abcd');
});
