import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { openLog } from '../../../src/access-log-file.ts';
import { until } from '../../support/deployments.ts';
import { TestWorker, type WorkerOptions } from './worker.ts';

/** A line of an access log. */
export type Line = Record<string, string | number | boolean | null | undefined>;

export interface Logged {
  worker: TestWorker;
  /** Resolves once there are so many lines. */
  lines: (count: number) => Promise<Line[]>;
}

/** In their order; `total` is their sum. */
export const STAGES = ['receive', 'queue', 'connect', 'firstByte', 'upstream', 'send'];

/** A worker with an access log in a file. */
export async function startLogged(t: TestContext, options: WorkerOptions): Promise<Logged> {
  const folder = mkdtempSync(join(tmpdir(), 'access-'));
  const path = join(folder, 'access.log');
  const fd = openLog(path);
  t.after(() => {
    closeSync(fd);
    rmSync(folder, { recursive: true, force: true });
  });
  const worker = await TestWorker.start(t, { ...options, accessLog: fd });
  const read = () => readFileSync(path, 'utf8').split('\n').slice(0, -1);
  const lines = async (count: number) => {
    const all = await until(
      async () => Promise.resolve(read()),
      (seen) => seen.length >= count,
    );
    assert.equal(all.length, count);
    return all.map((line) => JSON.parse(line) as Line);
  };
  return { worker, lines };
}

/** Within what is lost to rounding. */
export function assertStagesAddUp(line: Line): void {
  const sum = STAGES.reduce((ms, stage) => ms + Number(line[stage] ?? 0), 0);
  assert.ok(Math.abs(sum - Number(line['total'])) < 0.01, `${sum} instead of ${line['total']}`);
}
