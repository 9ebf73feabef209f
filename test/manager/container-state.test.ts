import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ContainerState, mayBecome, TRANSITIONS } from '../../src/manager/container-state.ts';

const ALL = Object.keys(TRANSITIONS) as ContainerState[];

/** As the state diagram in ARCHITECTURE.md says it, written down once more on purpose. */
const DIAGRAM = `
  starting ready, starting active, starting stopping, starting failed,
  ready active, ready starting, ready stopping, ready failed,
  active draining, active starting, active failed,
  draining active, draining ready, draining stopping, draining failed,
  stopping failed,
  failed starting, failed stopping`
  .split(',')
  .map((pair) => pair.trim());

test('a container changes its state along the diagram and in no other way', () => {
  for (const from of ALL) {
    for (const to of ALL) assert.equal(mayBecome(from, to), DIAGRAM.includes(`${from} ${to}`), `${from} → ${to}`);
  }
});

test('a container in service is never stopped without draining or failing first', () => {
  assert.equal(mayBecome('active', 'stopping'), false);
});

test('every state but the one in service can be ended', () => {
  for (const state of ALL.filter((each) => each !== 'active' && each !== 'stopping')) {
    assert.ok(mayBecome(state, 'stopping'), state);
  }
});
