import assert from 'node:assert/strict';
import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { NO_STATS } from '../../src/ledger.ts';
import type { WorkerStats } from '../../src/worker-stats.ts';
import { RecentFile } from '../../src/manager/recent-file.ts';
import { type Deploy, Recent } from '../../src/manager/recent.ts';
import { StateCopies } from '../../src/manager/state-copies.ts';
import { until } from '../support/deployments.ts';
import { memoryLog } from '../support/memory-log.ts';

const START = Date.parse('2026-01-01T00:00:00Z');

function totals(requests: number): WorkerStats {
  const latency = { 1_000: requests };
  const upstream = { requests, seconds: 0, latency };
  return { ...NO_STATS, requests, statusCodes: { 200: requests }, latency, upstream };
}

function at(seconds: number): Date {
  return new Date(START + seconds * 1_000);
}

function deploy(revision: string, seconds: number): Deploy {
  return { At: at(seconds).toISOString(), Event: 'switch', Revision: revision, Hash: 'h', Container: 'c', By: 'ann' };
}

function fileIn(t: TestContext): {
  file: () => RecentFile;
  path: string;
  lines: Record<string, unknown>[];
  read: () => string[];
} {
  const folder = mkdtempSync(join(tmpdir(), 'recent-'));
  // A write may be under way.
  t.after(() => rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 20 }));
  const { log, lines } = memoryLog();
  const copies = new StateCopies(folder, { store: 's', app: 'shop' }, log);
  const path = join(copies.directory, 'recent.jsonl');
  const read = () => (existsSync(path) ? readFileSync(path, 'utf8').trimEnd().split('\n') : []);
  return { file: () => new RecentFile(copies, log), path, lines, read };
}

test('an hour of slices is kept, each with what came in its ten seconds', () => {
  const recent = new Recent(START, null);
  for (let i = 1; i <= 400; i++) recent.take({ ...totals(i * 3), states: { ...NO_STATS.states, idle: i } }, at(i * 10));
  assert.equal(recent.slices.length, 360);
  const last = recent.slices.at(-1);
  assert.equal(last?.At, at(4_000).toISOString());
  assert.equal(last?.Seconds, 10);
  assert.equal(last?.Requests, 3);
  assert.deepEqual(last?.StatusCodes, { 200: 3 });
  assert.equal(last?.Latency.Count, 3);
  assert.equal(last?.ContainerLatency.Count, 3);
  assert.equal(last?.States.idle, 400);
});

test('the next manager goes on where the last slice ended: nothing is counted twice, nothing is left out', async (t) => {
  const { file, read } = fileIn(t);
  const first = new Recent(START, file());
  await first.load(at(0));
  first.take(totals(5), at(10));
  const mark = first.take(totals(9), at(20));
  first.note(deploy('v2', 21));
  const second = new Recent(mark, file());
  await until(
    async () => Promise.resolve(read()),
    (lines) => lines.length === 3,
  );
  await second.load(at(30));
  second.take(totals(30), at(40));
  assert.deepEqual(
    second.slices.map(({ Requests, Seconds }) => [Requests, Seconds]),
    [
      [5, 10],
      [4, 10],
      [21, 20],
    ],
  );
  assert.deepEqual(second.deploys.at(-1), deploy('v2', 21));
});

test('what is older than an hour, from the future, cut short or of another kind is not taken up', async (t) => {
  const { file, path, read } = fileIn(t);
  const writer = new Recent(START, file());
  await writer.load(at(0));
  writer.take(totals(1), at(10));
  writer.take(totals(2), at(3_000));
  writer.take(totals(3), at(20_000));
  await until(
    async () => Promise.resolve(read().length),
    (count) => count === 3,
  );
  appendFileSync(path, '{"Slice":{"At":"2026-01-01T01:00:00Z"}}\nnull\n{"Slice":{"At":"20');
  const reader = new Recent(START, file());
  await reader.load(at(4_000));
  assert.deepEqual(
    reader.slices.map(({ At }) => At),
    [at(3_000).toISOString()],
  );
  reader.note(deploy('v3', 4_001));
  await until(
    async () => Promise.resolve(read()),
    (lines) => lines.length === 2,
  );
  assert.deepEqual(
    read().map((line) => Object.keys(JSON.parse(line) as object)[0]),
    ['Slice', 'Deploy'],
  );
});

test('a file that can not be written is logged once, and tried again', async (t) => {
  const { file, path, lines, read } = fileIn(t);
  const folder = join(path, '..');
  writeFileSync(folder, 'in the way');
  const recent = new Recent(START, file());
  await recent.load(at(0));
  for (let i = 1; i <= 3; i++) recent.take(totals(i), at(i * 10));
  await until(
    async () => Promise.resolve(lines.length),
    (count) => count > 0,
  );
  assert.equal(recent.slices.length, 3);
  rmSync(folder);
  await until(
    async () => {
      recent.note(deploy('v2', 50));
      return Promise.resolve()
        .then(read)
        .catch(() => []);
    },
    (kept) => kept.length > 3,
  );
});
