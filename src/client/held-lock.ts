import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '../errors.ts';
import { CommandFailure, EXIT } from './exit-codes.ts';
import { type ManagerClient, Refusal, Unreachable } from './manager-client.ts';

/** How often (ms) a lock that somebody else has is asked for again. */
const ASK_AGAIN = 1_000;
/** From this share of its life on without a renewal, somebody else may soon take it over. */
const LOST_AFTER = 0.75;

export interface LockOptions {
  what: string;
  /** How long the lock outlives a deploy that was killed, in ms. */
  life: number;
  /** How long a lock that somebody else has is waited for, in ms. */
  wait: number;
  /** Ends the waiting. */
  signal: AbortSignal;
  /** Told once who is waited for. */
  onWait: (message: string) => void;
}

/** The deploy lock, held: renewed by way of any of the managers until it is released. */
export class HeldLock {
  readonly #managers: readonly ManagerClient[];
  readonly #options: LockOptions;
  readonly #token: string;
  readonly #lost = new AbortController();
  readonly #timer: NodeJS.Timeout;
  #renewing: Promise<void> | null = null;
  #renewedAt = performance.now();

  private constructor(managers: readonly ManagerClient[], options: LockOptions, token: string) {
    this.#managers = managers;
    this.#options = options;
    this.#token = token;
    this.#timer = setInterval(() => this.#onTime(), options.life / 3);
  }

  /** Throws CommandFailure (`locked`), Refusal, Unreachable. */
  static async take(managers: readonly ManagerClient[], options: LockOptions): Promise<HeldLock> {
    const token = randomBytes(24).toString('base64url');
    const deadline = performance.now() + options.wait;
    for (let tries = 0; ; tries++) {
      try {
        await askAny(managers, async (manager) => manager.lock('POST', bodyOf(token, options)));
        return new HeldLock(managers, options, token);
      } catch (error) {
        if (!(error instanceof Refusal) || error.code !== 'deploy_locked') {
          // It may have been taken all the same.
          await askAny(managers, async (manager) => manager.lock('DELETE', { Token: token })).catch(() => {});
          throw error;
        }
        const left = deadline - performance.now();
        if (left <= 0 || options.signal.aborted) throw new CommandFailure(EXIT.locked, error.message);
        if (tries === 0) options.onWait(error.message);
        await delay(Math.min(ASK_AGAIN, left), undefined, { signal: options.signal }).catch(() => {});
      }
    }
  }

  /** Aborts when somebody else may have it: from then on nothing more is to be changed. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** Renews it now, so that before a step it is known that nobody has taken it: this machine may have been asleep. */
  async confirm(): Promise<void> {
    await this.#renewing;
    if (!this.lost.aborted) await this.#renew();
  }

  /** Gives it back. Resolves to why that did not work, or null. */
  async release(): Promise<string | null> {
    clearInterval(this.#timer);
    await this.#renewing;
    if (this.lost.aborted) return null;
    try {
      await askAny(this.#managers, async (manager) => manager.lock('DELETE', { Token: this.#token }));
      return null;
    } catch (error) {
      return messageOf(error);
    }
  }

  #onTime(): void {
    if (performance.now() - this.#renewedAt > LOST_AFTER * this.#options.life)
      return this.#lose('it could not be renewed');
    this.#renewing ??= this.#renew().finally(() => {
      this.#renewing = null;
    });
  }

  async #renew(): Promise<void> {
    const began = performance.now();
    try {
      const body = { ...bodyOf(this.#token, this.#options), Renew: true };
      await askAny(this.#managers, async (manager) => manager.lock('POST', body));
      this.#renewedAt = began;
    } catch (error) {
      if (error instanceof Refusal && error.code === 'deploy_locked') this.#lose(error.message);
    }
  }

  #lose(why: string): void {
    clearInterval(this.#timer);
    this.#lost.abort(new Error(`The deploy lock is lost: ${why}`));
  }
}

function bodyOf(token: string, { what, life }: LockOptions): Record<string, unknown> {
  return { Token: token, What: what, Life: `${life}ms` };
}

/** By the first manager that answers: all have the same store. Throws the last failure. */
async function askAny(
  managers: readonly ManagerClient[],
  ask: (manager: ManagerClient) => Promise<void>,
): Promise<void> {
  let last: unknown;
  for (const manager of managers) {
    try {
      return await ask(manager);
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error;
      last = error;
    }
  }
  throw last;
}
