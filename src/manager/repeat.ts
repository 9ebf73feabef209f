import { messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import { pause } from './health.ts';

/** After failures in a row it takes longer and longer, up to so many times the usual. */
const LONGEST_BACKOFF = 3;
/** While it fails, a hurry waits so many times longer than usual. */
const PATIENCE = 10;

/** How something is to be repeated. */
export interface RepeatOptions {
  /** From one to the next in ms, a tenth more or less at random, so that machines do not go in step. */
  every: number;
  /** In ms: so long at least from the beginning of one to that of the next, however it is hurried. */
  gap: number;
  /** What it is, in log lines: `the heartbeat`. */
  what: string;
  log: Logger;
}

/**
 * Does something again and again, one at a time, and at once when it is hurried. A failure is logged when it is the first
 * in a row, and so is its end.
 */
export class Repeat {
  readonly #act: () => Promise<void>;
  readonly #options: RepeatOptions;
  readonly #stopping = new AbortController();
  #wake = new AbortController();
  #running: Promise<void> = Promise.resolve();
  #failuresInRow = 0;
  /** All that ever failed. */
  failures = 0;
  /** Why the last one failed; null: it did not. */
  problem: string | null = null;

  constructor(act: () => Promise<void>, options: RepeatOptions) {
    this.#act = act;
    this.#options = options;
  }

  start(): void {
    this.#running = this.#run();
  }

  /** The next one is now. What is under way does not count as it. */
  hurry(): void {
    this.#wake.abort();
  }

  /** No further one. Resolves when none is under way. Never rejects. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#wake.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { every, gap } = this.#options;
    while (!this.#stopping.signal.aborted) {
      const began = performance.now();
      this.#wake = new AbortController();
      await this.#once();
      const failing = this.#failuresInRow > 0;
      const least = failing ? gap * PATIENCE : gap;
      const usual = every * Math.min(Math.max(1, this.#failuresInRow), LONGEST_BACKOFF) * (0.9 + 0.2 * Math.random());
      await pause(least - (performance.now() - began), this.#stopping.signal);
      await pause(usual - (performance.now() - began), this.#wake.signal);
    }
  }

  async #once(): Promise<void> {
    const { what, log } = this.#options;
    try {
      await this.#act();
      if (this.problem !== null) log.info(`${what} works again`);
      this.problem = null;
      this.#failuresInRow = 0;
    } catch (error) {
      this.failures++;
      this.#failuresInRow++;
      if (this.problem === null) log.warn({ why: messageOf(error) }, `${what} fails: it is tried again`);
      this.problem = messageOf(error);
    }
  }
}
