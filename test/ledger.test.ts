import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Ledger, NO_STATS } from '../src/ledger.ts';
import type { TargetStats, WorkerStats } from '../src/worker-stats.ts';

function target(id: string, requests: number, inFlight = 0): TargetStats {
  const latency = { 1_000: requests };
  return { id, revision: id, inFlight, upgraded: 0, requests, seconds: 0, latency, statusCodes: { 200: requests } };
}

function stats(
  requests: number,
  since: [activeSince: number, requests: number],
  ...targets: TargetStats[]
): WorkerStats {
  return {
    ...NO_STATS,
    targets,
    requests,
    connectionsAccepted: requests,
    connectionsClosed: requests - 1,
    states: { ...NO_STATS.states, idle: 1 },
    statusCodes: { 200: requests },
    heapUsed: 10,
    cpuSeconds: requests,
    sinceSwitch: { activeSince: since[0], requests: since[1], seconds: since[1] },
  };
}

test('a report takes the place of the one before, and that of a worker that is gone stays', () => {
  const ledger = new Ledger();
  ledger.receive(1, stats(5, [7, 5], target('a', 5, 2)));
  ledger.receive(2, stats(10, [7, 10], target('a', 10)));
  ledger.receive(1, stats(6, [7, 6], target('a', 6, 1)));
  ledger.keep([2, 3]);
  ledger.keep([2, 3]);
  ledger.receive(3, stats(1, [7, 1], target('b', 1)));
  const totals = ledger.totals(7);
  assert.equal(totals.requests, 17);
  assert.deepEqual(totals.statusCodes, { 200: 17 });
  assert.deepEqual(
    totals.targets.toSorted((a, b) => a.id.localeCompare(b.id)),
    [target('a', 16), target('b', 1)],
  );
  assert.equal(totals.cpuSeconds, 17);
  assert.deepEqual(totals.sinceSwitch, { activeSince: 7, requests: 17, seconds: 17 });
});

test('what a worker had open ends with it: its connections are closed, its memory is free', () => {
  const ledger = new Ledger();
  ledger.receive(1, stats(5, [7, 5], target('a', 5, 3)));
  ledger.keep([]);
  const { states, connectionsAccepted, connectionsClosed, heapUsed, targets } = ledger.totals(7);
  assert.deepEqual(states, NO_STATS.states);
  assert.deepEqual(
    { connectionsAccepted, connectionsClosed, heapUsed },
    { connectionsAccepted: 5, connectionsClosed: 5, heapUsed: 0 },
  );
  assert.equal(targets[0]?.inFlight, 0);
});

test('counts since a switch leave out what workers counted before it, those that are gone included', () => {
  const ledger = new Ledger();
  ledger.receive(1, stats(5, [7, 5]));
  ledger.receive(2, stats(5, [7, 5]));
  ledger.keep([2]);
  ledger.receive(2, stats(8, [9, 3]));
  ledger.receive(3, stats(2, [9, 2]));
  assert.equal(ledger.totals(9).sinceSwitch.requests, 5);
  ledger.keep([3]);
  assert.equal(ledger.totals(9).sinceSwitch.requests, 5);
  assert.equal(ledger.totals(7).sinceSwitch.requests, 5);
  assert.equal(ledger.totals(11).sinceSwitch.requests, 0);
  assert.equal(ledger.totals(9).requests, 15);
});

test('a ledger goes on where another one stopped, after any number of workers', () => {
  let ledger = new Ledger();
  for (let worker = 1; worker <= 200; worker++) {
    ledger.receive(worker, stats(3, [worker, 3], target(`container-${worker}`, 3)));
    ledger.keep([worker]);
    ledger = new Ledger(JSON.parse(JSON.stringify(ledger.state)) as Ledger['state']);
  }
  const totals = ledger.totals(200);
  assert.equal(totals.requests, 600);
  assert.equal(totals.sinceSwitch.requests, 3);
  assert.ok(totals.targets.length <= 33, `${totals.targets.length} containers`);
  assert.equal(totals.targets.at(-1)?.id, 'container-200');
});
