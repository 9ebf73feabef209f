import type { Context } from 'koa';
import { networkOf, unmapped } from '../cidr.ts';
import { WunderproxyError } from '../errors.ts';

/** So many wrong tokens in a row an address may try; then one more each `REFILL` ms. */
const BURST = 20;
const REFILL = 3_000;

/** Addresses that are remembered at the most; the one that failed longest ago is forgotten first. */
const REMEMBERED = 10_000;

/**
 * Slows down who guesses tokens, by client address (of IPv6, by its /64). One that has used up its tries is refused
 * unseen, also with the right token: else it could go on guessing.
 */
export class LoginFailures {
  readonly #byNetwork = new Map<string, { tries: number; at: number }>();
  readonly #now: () => number;

  /** `now`: ms of a clock that never goes back. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Throws `too_many_attempts`. */
  check(context: Context): void {
    if (this.#left(networkOfClient(context)) < 1) throw new WunderproxyError('too_many_attempts');
  }

  add(context: Context): void {
    const network = networkOfClient(context);
    const tries = Math.max(0, this.#left(network) - 1);
    this.#byNetwork.delete(network);
    this.#byNetwork.set(network, { tries, at: this.#now() });
    if (this.#byNetwork.size <= REMEMBERED) return;
    for (const oldest of this.#byNetwork.keys()) {
      this.#byNetwork.delete(oldest);
      return;
    }
  }

  #left(network: string): number {
    const known = this.#byNetwork.get(network);
    return known ? Math.min(BURST, known.tries + (this.#now() - known.at) / REFILL) : BURST;
  }
}

function networkOfClient(context: Context): string {
  const { remoteAddress } = context.req.socket;
  return remoteAddress === undefined ? 'unix' : networkOf(unmapped(remoteAddress));
}
