import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { test } from 'node:test';
import { Crowd, type Place } from '../../src/proxy/crowd.ts';

test('whoever has joined and not left is there, once', () => {
  const crowd = new Crowd<number>();
  const there = new Map<number, Place<number>>();
  for (let i = 0; i < 5_000; i++) {
    const leaving = [...there.keys()][randomInt(there.size + 1)];
    if (leaving === undefined || randomInt(2) === 0) {
      there.set(i, crowd.join(i));
    } else {
      const place = there.get(leaving) ?? null;
      there.delete(leaving);
      assert.equal(crowd.leave(place), true);
      assert.equal(crowd.leave(place), false);
    }
    assert.equal(crowd.size, there.size);
  }
  assert.deepEqual(
    [...crowd].toSorted((a, b) => a - b),
    [...there.keys()],
  );
  assert.equal(crowd.leave(null), false);
});

test('who leaves or comes while others have their turn has none', () => {
  const crowd = new Crowd<string>();
  const places = new Map(['a', 'b', 'c', 'd', 'e'].map((name) => [name, crowd.join(name)]));
  const seen: string[] = [];
  for (const name of crowd) {
    seen.push(name);
    crowd.leave(places.get(name) ?? null);
    if (name === 'b') crowd.leave(places.get('c') ?? null);
    if (name === 'd') crowd.join('f');
  }
  assert.deepEqual(seen, ['a', 'b', 'd', 'e']);
  assert.deepEqual([...crowd], ['f']);
});
