import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import {
  byTurns,
  type Case,
  type Contender,
  type Context,
  CPU,
  FAILED,
  type LoadCase,
  type Measured,
  MEMORY,
  P50,
  P99,
  RATE,
} from './case.ts';
import type { Load, Target } from './load.ts';
import { cpuSeconds, memoryBytes } from './process-tree.ts';
import type { Sample } from './statistics.ts';
import type { App, Running } from './subject.ts';
import { ask, noProxy, speaksHttp2 } from './subjects.ts';

export const UPSTREAM: App = { file: join(import.meta.dirname, 'upstream.ts'), env: {} };

/** Between two looks at memory, in ms. */
const MEMORY_EVERY = 500;
const MIB = 2 ** 20;

/** A case in which every contender has the same load for a window each round. */
export function loadCase(spec: LoadCase): Case {
  return {
    ...spec,
    metrics: [RATE, CPU, P50, P99, MEMORY, FAILED],
    measure: async (context) => measureLoad(spec, context),
  };
}

async function measureLoad(spec: LoadCase, context: Context): Promise<Measured> {
  const { load, tls = false } = spec;
  const takingPart: [Contender, Running][] = [];
  const notes: string[] = [];
  const looked = await Promise.allSettled(
    context.contenders.map(async (contender) => {
      const lack = tls && !contender.subject.tls ? 'has no TLS' : null;
      const running = lack === null ? await context.running(contender, UPSTREAM, tls) : null;
      const why = running === null ? lack : await whyNot(spec, running.target);
      if (running !== null && why === null) takingPart.push([contender, running]);
      else notes.push(`${contender.name} ${why}: left out`);
    }),
  );
  const trouble = looked.find((each) => each.status === 'rejected');
  if (trouble !== undefined) throw trouble.reason;
  const byName = new Map(takingPart.map(([{ name }, running]) => [name, running]));
  const contenders = context.contenders.filter(({ name }) => byName.has(name));
  for (const { name } of contenders) {
    await context.load.load(load, (byName.get(name) as Running).target, warmUp(context));
  }
  notes.push(...(await ceiling(load, context)));
  const samples = await byTurns(contenders, context.rounds, async ({ name }) =>
    measureWindow(load, byName.get(name) as Running, context),
  );
  return { contenders, samples, notes };
}

/** Seconds of load until programs that compile as they run have done so; in a quick run most has been done before. */
function warmUp({ quick, seconds }: Context): number {
  return quick ? 0.3 : Math.max(3, seconds);
}

/** Why a contender can't take part, or null; throws when it answers wrongly. */
async function whyNot({ load, coding }: LoadCase, target: Target): Promise<string | null> {
  if (load.driver === 'h2load' && !(await speaksHttp2(target))) return 'does not speak HTTP/2';
  const head = (await ask(target, { path: '/head' })).body.toString();
  for (const name of ['for', 'proto', 'host']) {
    if (!new RegExp(`^x-forwarded-${name}:`, 'im').test(head)) return `does not send X-Forwarded-${name}`;
  }
  const { status, body, coding: got } = await ask(target, load);
  if (status !== 200) throw new Error(`${target.address}${load.path} answers with ${status}`);
  if (coding !== undefined) return got === coding ? null : `does not compress with ${coding}`;
  const expected = load.upload === undefined ? null : `${load.upload}\n`;
  if (expected !== null && body.toString() !== expected) return 'does not pass on all of a body';
  return got === null ? null : `compresses with ${got} unasked`;
}

/** What the application and the load generator could do without any proxy, in a note. */
async function ceiling(load: Load, context: Context): Promise<string[]> {
  if (load.driver === 'h2load' || context.quick) return [];
  const [reference] = context.contenders;
  if (reference === undefined) return [];
  const { target } = await context.running({ ...reference, name: noProxy.name, subject: noProxy }, UPSTREAM, false);
  const { rate } = await context.load.load(load, target, context.seconds);
  return [`ceiling: ${Math.round(rate).toLocaleString('en')} req/s without a proxy and without TLS`];
}

/** One window: the load, and what it cost the processes of the contender. */
export async function measureWindow(load: Load, running: Running, context: Context): Promise<Sample> {
  const stop = new AbortController();
  const peak = peakMemory(running, stop.signal);
  const before = cpuSeconds(running.pids());
  try {
    const { requests, rate, p50, p99, failed } = await context.load.load(load, running.target, context.seconds);
    const cpu = cpuSeconds(running.pids()) - before;
    stop.abort();
    return { rate, cpu: requests === 0 ? null : (cpu * 1e6) / requests, p50, p99, memory: await peak, failed };
  } finally {
    stop.abort();
  }
}

/** In MiB, as far as was seen; null when it can't be read. */
async function peakMemory(running: Running, signal: AbortSignal): Promise<number | null> {
  let most: number | null = null;
  for (;;) {
    const bytes = memoryBytes(running.pids());
    if (bytes !== null) most = Math.max(most ?? 0, bytes / MIB);
    if (signal.aborted) return most;
    await delay(MEMORY_EVERY, undefined, { signal }).catch(() => {});
  }
}
