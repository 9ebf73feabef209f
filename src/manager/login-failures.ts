import type { Context } from 'koa';
import { WunderproxyError } from '../errors.ts';

/** So many wrong tokens in a row an address may try; then one more each `REFILL` ms. */
const BURST = 20;
const REFILL = 3_000;

/** Addresses that are remembered at the most; the one that failed longest ago is forgotten first. */
const REMEMBERED = 10_000;

/**
 * Slows down who guesses tokens, by client address. An address that has used up its tries is refused unseen, also with
 * the right token: else it could go on guessing.
 */
export class LoginFailures {
  readonly #byAddress = new Map<string, { tries: number; at: number }>();
  readonly #now: () => number;

  /** `now`: ms of a clock that never goes back. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Throws `too_many_attempts`. */
  check(context: Context): void {
    if (this.#left(addressOf(context)) < 1) throw new WunderproxyError('too_many_attempts');
  }

  add(context: Context): void {
    const address = addressOf(context);
    const tries = Math.max(0, this.#left(address) - 1);
    this.#byAddress.delete(address);
    this.#byAddress.set(address, { tries, at: this.#now() });
    if (this.#byAddress.size <= REMEMBERED) return;
    for (const oldest of this.#byAddress.keys()) {
      this.#byAddress.delete(oldest);
      return;
    }
  }

  #left(address: string): number {
    const known = this.#byAddress.get(address);
    return known ? Math.min(BURST, known.tries + (this.#now() - known.at) / REFILL) : BURST;
  }
}

/** An IPv6 client has at least a /64 to choose addresses from. */
function addressOf(context: Context): string {
  const address = (context.req.socket.remoteAddress ?? 'unix').replace(/^::ffff:(?=\d+\.)/, '');
  if (!address.includes(':')) return address;
  const [head = '', tail] = address.split('%')[0]?.split('::') ?? [];
  const groups = head.split(':').filter(Boolean);
  const filled = tail === undefined ? groups : [...groups, ...Array<string>(8 - groups.length).fill('0')];
  return filled.slice(0, 4).join(':');
}
