/**
 * What slow clients cost the fast ones.
 *
 * An application of two blocking workers (blocking-app.ts) is asked by 4 fast clients, alone and next to 40 slow ones (20
 * upload 64 KiB at 16 KiB/s, 20 read 512 KiB at 64 KiB/s). What counts is the share of their rate that the fast ones keep.
 */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { byTurns, type Case, type Context, type Measured } from './case.ts';
import { fastClients, SlowClients } from './slow-load.ts';
import type { Sample } from './statistics.ts';
import type { App } from './subject.ts';

const FAST = 4;
const SLOW = 40;
/** The slow ones are all under way, and the fast ones' first requests over, after so long (ms). */
const SETTLE = 2_500;

const app: App = { file: join(import.meta.dirname, 'blocking-app.ts'), env: { WORK: '5' } };

export const slowClients: Case = {
  name: 'slow-clients',
  title: `4 fast clients of a blocking application, alone and next to ${SLOW} slow ones`,
  metrics: [
    { key: 'kept', title: 'rate kept', digits: 3, compared: true },
    { key: 'alone', title: 'req/s alone', digits: 0, compared: false },
    { key: 'withSlow', title: `req/s with ${SLOW} slow`, digits: 0, compared: false },
    { key: 'p99Alone', title: 'p99 ms alone', digits: 0, compared: false },
    { key: 'p99WithSlow', title: 'p99 ms with', digits: 0, compared: false },
    { key: 'slowAnswered', title: 'slow ones answered', digits: 0, compared: false },
    { key: 'failed', title: 'failed', digits: 0, compared: false },
  ],
  measure,
};

async function measure(context: Context): Promise<Measured> {
  const { contenders, rounds, seconds } = context;
  const addresses = new Map<string, string>();
  for (const contender of contenders) {
    const { target } = await context.running(contender, app, false);
    await fastClients(target.address, FAST, SETTLE);
    addresses.set(contender.name, target.address);
  }
  const samples = await byTurns(contenders, rounds, async ({ name }) => round(addresses.get(name) ?? '', seconds));
  return { contenders, samples, notes: [] };
}

async function round(address: string, seconds: number): Promise<Sample> {
  const alone = await fastClients(address, FAST, seconds * 1_000);
  const slow = new SlowClients(address, SLOW);
  try {
    await delay(SETTLE);
    const withSlow = await fastClients(address, FAST, seconds * 1_000);
    return {
      kept: alone.rate === 0 ? null : withSlow.rate / alone.rate,
      alone: alone.rate,
      withSlow: withSlow.rate,
      p99Alone: alone.p99,
      p99WithSlow: withSlow.p99,
      slowAnswered: slow.answered,
      failed: alone.failed + withSlow.failed,
    };
  } finally {
    await slow.stop();
    // Until the application has done with what the slow ones left behind.
    await fastClients(address, FAST, 1_000);
  }
}
