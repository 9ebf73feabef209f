import { setTimeout as delay } from 'node:timers/promises';
import { byTurns, type Case, type Context, FAILED, type Measured } from './case.ts';
import { UPSTREAM } from './load-case.ts';
import { memoryBytes } from './process-tree.ts';
import type { Sample } from './statistics.ts';
import { withCleanup } from './session.ts';

const CONNECTIONS = 10_000;
/** What is needed for a moment only has been given back, or will not be, after so long (ms). */
const SETTLE = 2_000;
/** Every start is a new process: more rounds would tell nothing more. */
const MOST_ROUNDS = 3;

/** Memory of connections that are open and wait for their next request; what the kernel keeps for them is not in it. */
export const idleConnections: Case = {
  name: 'idle',
  title: `${CONNECTIONS.toLocaleString('en')} connections, idle after one request each`,
  metrics: [
    { key: 'perConnection', title: 'KiB/connection', digits: 2, compared: true },
    { key: 'empty', title: 'MiB without', digits: 1, compared: true },
    { key: 'total', title: 'MiB with', digits: 1, compared: true },
    { key: 'open', title: 'held', digits: 0, compared: false },
    { key: 'failed', title: FAILED.title, digits: 0, compared: false },
  ],
  measure,
};

async function measure(context: Context): Promise<Measured> {
  const rounds = Math.min(MOST_ROUNDS, context.rounds);
  const samples = await byTurns(context.contenders, rounds, async ({ subject, workers }) =>
    withCleanup(async (cleanup) => {
      const running = await subject.start(cleanup, { app: UPSTREAM, tls: null, workers });
      await delay(SETTLE);
      const empty = memoryBytes(running.pids());
      try {
        const { open, failed } = await context.load.hold(running.target, '/small', CONNECTIONS);
        await delay(SETTLE);
        const total = memoryBytes(running.pids());
        const sample: Sample = { empty: mib(empty), total: mib(total), open, failed, perConnection: null };
        if (empty !== null && total !== null && open > 0) sample['perConnection'] = (total - empty) / 1_024 / open;
        return sample;
      } finally {
        await context.load.release();
      }
    }),
  );
  return { contenders: context.contenders, samples, notes: [] };
}

function mib(bytes: number | null): number | null {
  return bytes === null ? null : bytes / 2 ** 20;
}
