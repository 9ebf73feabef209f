import type { Deploy, RecentSlice } from '../manager/recent.ts';
import type { Status } from '../manager/status.ts';

/** The charts' time axis: an hour in steps of 30 s. */
export const STEP = 30_000;
export const STEPS = 120;

/** Status classes from the bottom of the stack to its top. */
export const CLASSES = ['2xx', '3xx', '1xx', '4xx', '5xx'] as const;
export type StatusClass = (typeof CLASSES)[number];

/** Connection states from the bottom of the stack to its top. */
export const STATES = ['active', 'idle', 'new', 'hijacked'] as const;

/** A deployment on the time axis. */
export interface Mark {
  /** Ms since the epoch. */
  at: number;
  revision: string;
  event: Deploy['Event'];
  by: string;
}

/** One step of the time axis; rates are per second. Null: nothing is known of that time. */
export interface Step {
  rates: Record<StatusClass, number>;
  states: Status['States'];
  p50: number;
  p90: number;
  p99: number;
  /** Of the containers' own time. */
  ownP99: number;
}

/** The last hour as the charts show it. */
export interface Hour {
  /** Ms since the epoch. */
  from: number;
  to: number;
  steps: (Step | null)[];
  marks: Mark[];
  /** Finished requests of the hour by status code. */
  codes: Record<string, number>;
}

export function classOf(code: string): StatusClass {
  const name = `${code[0]}xx` as StatusClass;
  return CLASSES.includes(name) ? name : '5xx';
}

/** How many requests with codes of this class; without a class, of all. */
export function countOf(codes: Record<string, number>, ofClass?: StatusClass): number {
  let sum = 0;
  for (const [code, count] of Object.entries(codes)) if (!ofClass || classOf(code) === ofClass) sum += count;
  return sum;
}

export function hourOf(status: Status, now: number): Hour {
  const to = Math.ceil(now / STEP) * STEP;
  const from = to - STEPS * STEP;
  const parts: RecentSlice[][] = Array.from({ length: STEPS }, () => []);
  const codes: Record<string, number> = {};
  for (const slice of status.Recent) {
    // A slice is named by its end.
    parts[Math.floor((Date.parse(slice.At) - 1 - from) / STEP)]?.push(slice);
    for (const [code, count] of Object.entries(slice.StatusCodes)) codes[code] = (codes[code] ?? 0) + count;
  }
  return { from, to, steps: parts.map(stepOf), marks: marksOf(status, from), codes };
}

function stepOf(slices: RecentSlice[]): Step | null {
  const last = slices.at(-1);
  if (!last) return null;
  const rates = { '1xx': 0, '2xx': 0, '3xx': 0, '4xx': 0, '5xx': 0 };
  const seconds = slices.reduce((sum, { Seconds }) => sum + Seconds, 0);
  for (const { StatusCodes } of slices) {
    for (const [code, count] of Object.entries(StatusCodes)) rates[classOf(code)] += count / seconds;
  }
  const worst = (name: 'P50' | 'P90' | 'P99') => Math.max(...slices.map(({ Latency }) => Latency[name]));
  const ownP99 = Math.max(...slices.map(({ ContainerLatency }) => ContainerLatency.P99));
  return { rates, states: last.States, p50: worst('P50'), p90: worst('P90'), p99: worst('P99'), ownP99 };
}

function marksOf({ Deploys }: Status, from: number): Mark[] {
  return Deploys.map(({ At, Event, By, Revision }) => {
    return { at: Date.parse(At), revision: Revision, event: Event, by: By };
  }).filter(({ at }) => at >= from);
}
