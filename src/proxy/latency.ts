import type { LatencyCounts } from '../messages.ts';

/** Significant bits of a duration: the step to the next value is at most 1.6 %. */
const BITS = 6;

/** Durations, counted. Sparse and cheap to count into, because it is done for every request. */
export class Latency {
  readonly #counts = new Map<number, number>();

  /** `ms` may have fractions; a negative one (the clock was set back) counts as none. */
  record(ms: number): void {
    const value = rounded(Math.max(0, Math.round(ms * 1_000)));
    this.#counts.set(value, (this.#counts.get(value) ?? 0) + 1);
  }

  snapshot(): LatencyCounts {
    return Object.fromEntries(this.#counts);
  }
}

function rounded(us: number): number {
  const step = 2 ** Math.max(0, Math.floor(Math.log2(us + 1)) - BITS);
  return Math.floor(us / step) * step;
}
