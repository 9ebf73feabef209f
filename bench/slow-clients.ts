/**
 * `npm run bench:slow`: what slow clients cost the fast ones.
 *
 * An application of two blocking workers (blocking-app.ts) is asked by 4 fast clients, alone and next to 40 slow ones (20
 * upload 64 KiB at 16 KiB/s, 20 read 512 KiB at 64 KiB/s), by turns, through each proxy that is installed. What counts is
 * the share of their rate that the fast ones keep: the median over the rounds.
 *
 *     npm run bench:slow -- [--rounds N] [--seconds S] [--json FILE] [NAME …]
 */
import { writeFileSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { ListenText } from '../test/support/http.ts';
import type { Cleanup } from '../test/support/processes.ts';
import { fastClients, type Sample, SlowClients } from './slow-load.ts';
import { type App, type Subject, subjects } from './subjects.ts';

const FAST = 4;
const SLOW = 40;
/** The slow ones are all under way, and the fast ones' first requests over, after so long (ms). */
const SETTLE = 2_500;

interface Round {
  alone: Sample;
  withSlow: Sample;
  /** Of the slow clients' requests, answered in full. */
  slowAnswered: number;
}

interface Result {
  name: string;
  version: string;
  /** Medians over the rounds: requests per second, their ratio, ms. */
  alone: number;
  withSlow: number;
  kept: number;
  p99Alone: number | null;
  p99WithSlow: number | null;
  rounds: Round[];
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '6' },
    json: { type: 'string' },
  },
});
const rounds = Number(values.rounds);
const seconds = Number(values.seconds);
const app: App = { file: join(import.meta.dirname, 'blocking-app.ts'), env: { WORK: '5' } };

/** Runs what is to be done at the end even if something fails. */
async function withCleanup<T>(act: (cleanup: Cleanup) => Promise<T>): Promise<T> {
  const hooks: (() => Promise<void> | void)[] = [];
  try {
    return await act({ after: (hook) => hooks.push(hook) });
  } finally {
    for (const hook of hooks) await hook();
  }
}

async function measure(subject: Subject): Promise<Result> {
  return withCleanup(async (cleanup) => {
    const address = await subject.start(cleanup, app);
    await fastClients(address, FAST, SETTLE);
    const done: Round[] = [];
    for (let i = 0; i < rounds; i++) done.push(await round(address));
    const middle = (of: (each: Round) => number | null) => median(done.map(of));
    return {
      name: subject.name,
      version: subject.version,
      alone: middle(({ alone }) => alone.rate) ?? 0,
      withSlow: middle(({ withSlow }) => withSlow.rate) ?? 0,
      kept: middle(({ alone, withSlow }) => withSlow.rate / alone.rate) ?? 0,
      p99Alone: middle(({ alone }) => alone.p99),
      p99WithSlow: middle(({ withSlow }) => withSlow.p99),
      rounds: done,
    };
  });
}

async function round(address: ListenText): Promise<Round> {
  const alone = await fastClients(address, FAST, seconds * 1_000);
  const slow = new SlowClients(address, SLOW);
  await delay(SETTLE);
  const withSlow = await fastClients(address, FAST, seconds * 1_000);
  await slow.stop();
  // Until the application has done with what the slow ones left behind.
  await fastClients(address, FAST, 1_000);
  return { alone, withSlow, slowAnswered: slow.answered };
}

/** Those without a value are left out. */
function median(numbers: (number | null)[]): number | null {
  const sorted = numbers.filter((number) => number !== null).sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? null;
}

function table(results: Result[]): string {
  const ms = (value: number | null) => (value === null ? '–' : `${value.toFixed(0)} ms`);
  const rows = results.map((each) => [
    `${each.name} ${each.version}`.trim(),
    each.alone.toFixed(0),
    each.withSlow.toFixed(0),
    each.kept.toFixed(3),
    `${ms(each.p99Alone)} → ${ms(each.p99WithSlow)}`,
    String(each.rounds.reduce((sum, { withSlow }) => sum + withSlow.failed, 0)),
  ]);
  const head = ['through', 'alone (req/s)', 'with 40 slow (req/s)', 'kept', 'p99', 'failed'];
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

const chosen = subjects((line) => console.log(`# ${line}`)).filter(
  ({ name }) => positionals.length === 0 || positionals.includes(name),
);
const machine = `${availableParallelism()} × ${cpus()[0]?.model ?? 'unknown'}`;
console.log(`# ${new Date().toISOString().slice(0, 10)}, ${machine}; ${rounds} rounds of ${seconds} s each`);
const results: Result[] = [];
for (const subject of chosen) {
  results.push(await measure(subject));
  const { name, kept } = results[results.length - 1] as Result;
  console.log(`# ${name}: ${kept.toFixed(3)}`);
}
console.log(table(results));
if (values.json !== undefined) {
  const record = {
    at: new Date().toISOString(),
    machine,
    node: process.version,
    fast: FAST,
    slow: SLOW,
    seconds,
    results,
  };
  writeFileSync(values.json, `${JSON.stringify(record, null, 2)}\n`);
}
