import { build } from 'hdr-histogram-js';
import type { LatencyCounts } from '../worker-stats.ts';

/** All durations are in ms. */
export interface Percentiles {
  Count: number;
  Mean: number;
  P50: number;
  P90: number;
  P99: number;
  P999: number;
  Max: number;
}

/** Latency for `/status`. */
export interface LatencySummary extends Percentiles {
  /** How many took at most `UpTo` and more than the entry before; each bound is twice the last. */
  Histogram: { UpTo: number; Count: number }[];
}

const NONE: Percentiles = { Count: 0, Mean: 0, P50: 0, P90: 0, P99: 0, P999: 0, Max: 0 };

/** The longest duration that is told apart, in µs: somewhat more than workers count. */
const HIGHEST = 2 ** 33;

/** With the whole distribution. */
export function summarize(counts: LatencyCounts): LatencySummary {
  const buckets = new Map<number, number>();
  for (const [us, count] of Object.entries(counts)) {
    const bound = 2 ** Math.ceil(Math.log2(Math.max(1, Number(us))));
    buckets.set(bound, (buckets.get(bound) ?? 0) + count);
  }
  const sorted = [...buckets].toSorted(([a], [b]) => a - b);
  return { ...percentiles(counts), Histogram: sorted.map(([bound, Count]) => ({ UpTo: ms(bound), Count })) };
}

/** The distribution in a few figures. */
export function percentiles(counts: LatencyCounts): Percentiles {
  const entries = Object.entries(counts);
  if (entries.length === 0) return NONE;
  const histogram = build({
    lowestDiscernibleValue: 1,
    highestTrackableValue: HIGHEST,
    numberOfSignificantValueDigits: 2,
  });
  for (const [us, count] of entries) histogram.recordValueWithCount(Math.min(HIGHEST, Number(us)), count);
  // A percentile is told as the upper end of its bucket, which may lie beyond the longest.
  const at = (percentile: number) => ms(Math.min(histogram.getValueAtPercentile(percentile), histogram.maxValue));
  return {
    Count: histogram.totalCount,
    Mean: ms(histogram.mean),
    P50: at(50),
    P90: at(90),
    P99: at(99),
    P999: at(99.9),
    Max: ms(histogram.maxValue),
  };
}

/** What has been counted since `before`. */
export function countsSince(now: Record<string, number>, before: Record<string, number>): Record<string, number> {
  const since: Record<string, number> = {};
  for (const [key, count] of Object.entries(now)) {
    const more = count - (before[key] ?? 0);
    if (more > 0) since[key] = more;
  }
  return since;
}

function ms(us: number): number {
  return Math.round(us) / 1_000;
}
