import { Random, seedOfRun } from './random.ts';

/** How much a property is tried. */
export interface CaseLimits {
  cases: number;
  /** All of them together, in ms. */
  time: number;
  /** So many run side by side. */
  lines: number;
}

/** No case takes so long unless it hangs (ms). */
const CASE_LIMIT_MS = 20_000;

/** The one case that `PROPERTY_CASE` names, or null for all. */
export function onlyCase(): number | null {
  const named = process.env['PROPERTY_CASE'];
  return named === undefined ? null : Number(named);
}

/**
 * Runs random cases side by side until there were enough of them or time is up; returns how often each kind occurred, as
 * `oneCase` tells. Rejects with what repeats the first failure: PROPERTY_SEED and PROPERTY_CASE.
 */
export async function runCases(
  { cases, time, lines }: CaseLimits,
  oneCase: (random: Random) => Promise<string>,
): Promise<Record<string, number>> {
  const seed = seedOfRun();
  const only = onlyCase();
  const counts: Record<string, number> = {};
  const end = performance.now() + time;
  let next = only ?? 0;
  const last = only ?? cases - 1;
  const line = async () => {
    while (next <= last && performance.now() < end) {
      const number = next++;
      try {
        const kind = await withLimit(oneCase(new Random(seed + number * 7_919)));
        counts[kind] = (counts[kind] ?? 0) + 1;
      } catch (cause) {
        next = Infinity;
        throw new Error(`failed with PROPERTY_SEED=${seed} PROPERTY_CASE=${number}`, { cause });
      }
    }
  };
  await Promise.all(Array.from({ length: lines }, line));
  return counts;
}

async function withLimit<T>(work: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error('it hangs')), CASE_LIMIT_MS);
  try {
    return await Promise.race([work, promise]);
  } finally {
    clearTimeout(timer);
  }
}
