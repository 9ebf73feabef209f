import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  cutAfter,
  type Deployment,
  formatHistory,
  parseHistory,
  rollbackTarget,
  withDeployment,
} from '../../src/manager/history.ts';

function deployments(...hashes: string[]): Deployment[] {
  return hashes.map((Hash) => ({
    Revision: `r${Hash}`,
    DeployedAt: '2026-01-01T00:00:00.000Z',
    DeployedBy: 'me',
    Hash,
  }));
}

const [a, b] = deployments('a', 'b') as [Deployment, Deployment];

test('a deployment goes to the end, and the last ten are kept', () => {
  let history: Deployment[] = [];
  for (let i = 0; i < 12; i++) history = withDeployment(history, { ...a, Hash: String(i) });
  assert.deepEqual(
    history.map((each) => each.Hash),
    ['2', '3', '4', '5', '6', '7', '8', '9', '10', '11'],
  );
});

test('several machines that switch to the same config make one deployment', () => {
  const history = withDeployment([a], b);
  assert.deepEqual(withDeployment(history, { ...b, DeployedBy: 'another machine' }), [a, b]);
});

test('going back and forth is told in full', () => {
  assert.deepEqual(withDeployment([a, b], a), [a, b, a]);
});

const rollbacks: [string, string[], string | null, string | null, string | 'empty_history' | 'not_in_history'][] = [
  ['the one before', ['a', 'b', 'c'], 'c', null, 'b'],
  ['the one before, from the middle', ['a', 'b', 'c'], 'b', null, 'a'],
  ['another machine has rolled back already', ['a', 'b'], 'c', null, 'b'],
  ['a machine that has not deployed yet does not go forward', ['a', 'b'], 'a', null, 'empty_history'],
  ['nothing was ever deployed', [], null, null, 'empty_history'],
  ['only one deployment', ['a'], 'a', null, 'empty_history'],
  ['nothing in service, but a history', ['a', 'b'], null, null, 'b'],
  ['a hash', ['a', 'b', 'c'], 'c', 'a', 'a'],
  ['a hash that was never deployed', ['a', 'b'], 'b', 'x', 'not_in_history'],
];

for (const [what, history, active, hash, expected] of rollbacks) {
  test(`rollback: ${what}`, () => {
    if (expected.length === 1) {
      assert.equal(rollbackTarget(deployments(...history), active, hash).Hash, expected);
    } else {
      assert.throws(() => rollbackTarget(deployments(...history), active, hash), { code: expected });
    }
  });
}

test('after a rollback the history ends with the deployment that it went back to', () => {
  const hashes = cutAfter(deployments('a', 'b', 'a', 'c'), 'a').map((each) => each.Hash);
  assert.deepEqual(hashes, ['a', 'b', 'a']);
});

test('a history that can not be understood is never written over', () => {
  assert.throws(() => parseHistory(Buffer.from('[{"Revision":')), { code: 'store_unavailable' });
  assert.throws(() => parseHistory(Buffer.from('{"Hash":"x"}')), { code: 'store_unavailable' });
});

test('what another program added to an entry is kept', () => {
  const [entry] = parseHistory(Buffer.from(JSON.stringify([{ ...a, Ticket: 42 }])));
  assert.match(formatHistory(entry ? [entry] : []).toString(), /"Ticket": 42/);
});
