import { WunderproxyError } from '../errors.ts';

/** How long one call of a store may take, in ms. */
export const STORE_LIMIT_MS = 5_000;

/** What a call that took too long rejects with. */
export class LimitExceeded extends Error {
  constructor(limitMs: number) {
    super(`no answer within ${limitMs / 1000} s`);
    this.name = 'LimitExceeded';
  }
}

/** What reading an object that is larger than it may be rejects with. */
export class TooLarge extends Error {
  constructor(limit: number) {
    super(`it has more than ${limit} bytes`);
    this.name = 'TooLarge';
  }
}

/**
 * Runs `act` for at most `limitMs`, then aborts its signal and rejects with LimitExceeded, whether `act` heeds the signal
 * or not: what it waits for (a name server, a credentials service, a dead network disk) may know nothing of signals.
 */
export async function withinLimit<T>(limitMs: number, act: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const { promise: expired, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    const error = new LimitExceeded(limitMs);
    controller.abort(error);
    reject(error);
  }, limitMs);
  try {
    return await Promise.race([act(controller.signal), expired]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * The error that every failure of a store becomes. `doing` is the operation (`read current.json`), `why` a few words
 * that are safe to show; the details belong into `cause`, which is only logged.
 */
export function storeUnavailable(store: string, doing: string, why: string, cause?: unknown): WunderproxyError {
  return new WunderproxyError('store_unavailable', {
    message: `The store ${store} failed to ${doing}: ${why}.`,
    cause,
  });
}
