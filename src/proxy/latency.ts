import type { LatencyCounts } from '../worker-stats.ts';

/** Significant bits of a duration: a step to the next value is at most 1.6 %. */
const BITS = 6;
/** The longest duration that is told apart, in µs: some 71 minutes. */
const LONGEST = 2 ** 32 - 1;
const BUCKETS = (32 - BITS + 1) << BITS;

/**
 * Durations, counted in the buckets of an HDR histogram: linear within a power of two, exact below 128 µs. Counting is a
 * shift and an increment, because it is done several times for every request.
 */
export class Latency {
  readonly #counts = new Float64Array(BUCKETS);

  /** `ms` may have fractions; a negative one (a clock was set back) counts as none. */
  record(ms: number): void {
    const us = Math.min(LONGEST, Math.max(0, Math.round(ms * 1_000))) >>> 0;
    const exponent = exponentOf(us);
    const bucket = (exponent << BITS) + (us >>> exponent);
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + 1;
  }

  /** Each bucket that has any, by the middle of its range. */
  snapshot(): LatencyCounts {
    const counts: LatencyCounts = {};
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      const count = this.#counts[bucket] ?? 0;
      if (count > 0) counts[middleOf(bucket)] = count;
    }
    return counts;
  }
}

function exponentOf(us: number): number {
  return Math.max(0, 31 - BITS - Math.clz32(us));
}

function middleOf(bucket: number): number {
  const exponent = Math.max(0, (bucket >> BITS) - 1);
  const first = (bucket - (exponent << BITS)) * 2 ** exponent;
  return first + ((2 ** exponent) >> 1);
}
