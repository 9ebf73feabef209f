import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Ledger } from '../../src/ledger.ts';
import { Traffic } from '../../src/manager/traffic.ts';
import { type FromManager, NO_ROUTE } from '../../src/messages.ts';

const TARGET = { id: 'c1', hash: 'ab', revision: 'v1', address: { host: '127.0.0.1', port: 1 } };

function traffic(): { traffic: Traffic; sent: FromManager[] } {
  const sent: FromManager[] = [];
  return { sent, traffic: new Traffic(NO_ROUTE, [], new Ledger().state, (message) => void sent.push(message)) };
}

test('a route is told at once, and holds when all workers have acknowledged it', async () => {
  const { traffic: each, sent } = traffic();
  await each.whenRouted(60_000);
  const order: string[] = [];
  const directed = each.direct(TARGET, 7, []).then(() => order.push('directed'));
  const routed = each.whenRouted(60_000).then(() => order.push('routed'));
  assert.deepEqual(sent, [{ type: 'route', route: { version: 1, active: TARGET, activeSince: 7, draining: [] } }]);
  each.receiveRouted(0);
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(order, []);
  each.receiveRouted(1);
  await Promise.all([directed, routed]);
  assert.deepEqual(order, ['directed', 'routed']);
});

test('whoever waits for a route that is never acknowledged waits no longer than they like', async () => {
  const { traffic: each } = traffic();
  void each.direct(TARGET, 7, []);
  const begun = performance.now();
  await each.whenRouted(50);
  assert.ok(performance.now() - begun >= 45);
});
