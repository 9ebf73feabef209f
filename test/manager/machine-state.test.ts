import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type MachineCircumstances, machineState } from '../../src/manager/machine-state.ts';

const WELL: MachineCircumstances = {
  stopping: false,
  serving: true,
  routed: true,
  engineUp: true,
  launching: false,
  draining: false,
};

/** From bad to good: what is named first covers what comes after it. */
const ORDER: [Partial<MachineCircumstances>, string][] = [
  [{ stopping: true }, 'stopping'],
  [{ serving: false }, 'no_workers'],
  [{ routed: false }, 'no_active_container'],
  [{ engineUp: false }, 'docker_down'],
  [{ launching: true }, 'deploying'],
  [{ draining: true }, 'draining'],
  [{}, 'ready'],
];

ORDER.forEach(([circumstance, state], at) => {
  test(`a machine is ${state} whatever less weighty is true as well`, () => {
    assert.equal(machineState({ ...WELL, ...circumstance }), state);
    const lesser = ORDER.slice(at + 1).map(([each]) => each);
    assert.equal(machineState(Object.assign({}, WELL, ...lesser, circumstance) as MachineCircumstances), state);
  });
});
