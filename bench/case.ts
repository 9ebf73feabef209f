import type { Cleanup } from '../test/support/processes.ts';
import type { Load, LoadProcess } from './load.ts';
import { pairedRatio, quantile, type Ratio, rotated, type Sample } from './statistics.ts';
import type { App, Running, Subject } from './subject.ts';

/** A figure that a case measures. */
export interface Metric {
  key: string;
  title: string;
  /** After the comma. */
  digits: number;
  /** Whether it is shown next to its ratio to the reference. */
  compared: boolean;
}

export const RATE: Metric = { key: 'rate', title: 'req/s', digits: 0, compared: true };
export const CPU: Metric = { key: 'cpu', title: 'CPU µs/req', digits: 1, compared: true };
export const P50: Metric = { key: 'p50', title: 'p50 ms', digits: 2, compared: true };
export const P99: Metric = { key: 'p99', title: 'p99 ms', digits: 2, compared: true };
export const MEMORY: Metric = { key: 'memory', title: 'MiB', digits: 1, compared: true };
export const FAILED: Metric = { key: 'failed', title: 'failed', digits: 0, compared: false };

/** Who is measured, as what, next to whom. */
export interface Contender {
  name: string;
  subject: Subject;
  workers: number;
  /** Name of the contender that it is compared with. */
  reference: string | null;
}

/** What cases work with. */
export interface Context {
  contenders: Contender[];
  rounds: number;
  /** Of one window. */
  seconds: number;
  quick: boolean;
  load: LoadProcess;
  /** Starts a contender, or gives one that was started the same way and still runs. */
  running(contender: Contender, app: App, tls: boolean): Promise<Running>;
  /** For what a case starts by itself. */
  cleanup: Cleanup;
}

export interface Case {
  name: string;
  title: string;
  /** Without it, the case is part of the full run only. */
  quick?: boolean;
  tls?: boolean;
  /** A command without which it can't be measured. */
  needs?: string;
  metrics: Metric[];
  /** Measures all contenders by turns; those that can't do it are left out. */
  measure(context: Context): Promise<Measured>;
}

/** What a case brought: the samples of every contender, one a round. */
export interface Measured {
  contenders: Contender[];
  samples: Map<string, Sample[]>;
  /** Lines about what the figures mean. */
  notes: string[];
}

export interface Row {
  name: string;
  version: string;
  medians: Sample;
  ratios: Record<string, Ratio | null>;
  rounds: Sample[];
}

export interface CaseResult {
  name: string;
  title: string;
  metrics: Metric[];
  rows: Row[];
  notes: string[];
}

/** A load that a case puts on its contenders. */
export type LoadCase = Pick<Case, 'name' | 'title' | 'quick' | 'tls' | 'needs'> & { load: Load; coding?: string };

/** Lets every contender have its turn in every round, in an order that moves on from round to round. */
export async function byTurns(
  contenders: Contender[],
  rounds: number,
  measure: (contender: Contender) => Promise<Sample>,
): Promise<Map<string, Sample[]>> {
  const samples = new Map<string, Sample[]>(contenders.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const contender of rotated(contenders, round)) {
      samples.get(contender.name)?.push(await measure(contender));
    }
  }
  return samples;
}

/** Medians over the rounds, and the medians of the rounds' ratios. What failed is added up instead. */
export function resultOf({ name, title, metrics }: Case, { contenders, samples, notes }: Measured): CaseResult {
  const rows = contenders.map((contender): Row => {
    const rounds = samples.get(contender.name) ?? [];
    const reference = contender.reference === null ? [] : (samples.get(contender.reference) ?? []);
    const medians: Sample = {};
    const ratios: Row['ratios'] = {};
    for (const { key, compared } of metrics) {
      const values = rounds.map((round) => round[key] ?? null);
      medians[key] = compared || key !== FAILED.key ? quantile(values, 0.5) : sumOf(values);
      if (compared) ratios[key] = pairedRatio(rounds, reference, key);
    }
    return { name: contender.name, version: contender.subject.version, medians, ratios, rounds };
  });
  return { name, title, metrics, rows, notes };
}

function sumOf(values: (number | null)[]): number {
  return values.reduce<number>((sum, value) => sum + (value ?? 0), 0);
}
