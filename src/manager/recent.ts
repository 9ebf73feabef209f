import type { LatencyCounts } from '../messages.ts';
import { countsSince, type LatencySummary, summarize } from './latency.ts';

/** Ten seconds of traffic. */
export interface RecentSlice {
  /** Its end, ISO 8601. */
  At: string;
  StatusCodes: Record<string, number>;
  Latency: LatencySummary;
}

/** Totals that only ever grow. */
export interface Grown {
  statusCodes: Record<string, number>;
  latency: LatencyCounts;
}

/** Length of a slice, in ms. */
export const SLICE = 10_000;
/** An hour. */
const SLICES = 360;

/** The last hour of traffic in slices of 10 s. */
export class Recent {
  readonly #slices: RecentSlice[] = [];
  #before: Grown | null = null;

  /** To be called every SLICE ms with the totals of the moment. The first call only sets the mark. */
  take(now: Grown, at: Date): void {
    if (this.#before) {
      this.#slices.push({
        At: at.toISOString(),
        StatusCodes: countsSince(now.statusCodes, this.#before.statusCodes),
        Latency: summarize(countsSince(now.latency, this.#before.latency)),
      });
      if (this.#slices.length > SLICES) this.#slices.shift();
    }
    this.#before = now;
  }

  get slices(): readonly RecentSlice[] {
    return this.#slices;
  }
}
