/** The middle of the numbers (the mean of the two in the middle, if there are two); null without any. */
export function median(numbers: readonly (number | null)[]): number | null {
  return quantile(numbers, 0.5);
}

/**
 * The value that `share` (0–1) of the numbers lie below, interpolated between its neighbours. What is null is left out;
 * null when nothing remains.
 */
export function quantile(numbers: readonly (number | null)[], share: number): number | null {
  const sorted = numbers.filter((number) => number !== null).sort((a, b) => a - b);
  const at = (sorted.length - 1) * share;
  const low = sorted[Math.floor(at)];
  const high = sorted[Math.ceil(at)];
  if (low === undefined || high === undefined) return null;
  return low + (high - low) * (at - Math.floor(at));
}

/** What was measured in one window, by metric; null: it could not be. */
export type Sample = Record<string, number | null>;

/** A ratio to the reference: the median over the rounds, and the quartiles around it. */
export interface Ratio {
  median: number;
  low: number;
  high: number;
}

/**
 * The ratios of a metric in the same rounds, so that drift of the machine cancels out. Null when no round has both, or
 * when the reference is zero.
 */
export function pairedRatio(samples: readonly Sample[], reference: readonly Sample[], metric: string): Ratio | null {
  const ratios = samples.map((sample, round) => {
    const own = sample[metric] ?? null;
    const other = reference[round]?.[metric] ?? null;
    return own === null || other === null || other === 0 ? null : own / other;
  });
  const [low = null, middle = null, high = null] = [0.25, 0.5, 0.75].map((share) => quantile(ratios, share));
  return low === null || middle === null || high === null ? null : { median: middle, low, high };
}

/** The items of a round: all of them, starting one further each time, so that none always follows the same one. */
export function rotated<T>(items: readonly T[], round: number): T[] {
  const start = items.length === 0 ? 0 : round % items.length;
  return [...items.slice(start), ...items.slice(0, start)];
}
