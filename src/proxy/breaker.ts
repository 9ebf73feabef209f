/** So many failures in a row open it. */
const IN_A_ROW = 5;
/** More than half of so many last outcomes being failures open it. */
const WINDOW = 20;
/** It stays open for so long (ms) at first, and twice as long each time that the trial fails. */
const OPEN_FIRST = 1_000;
const OPEN_AT_MOST = 30_000;

/** A leave to try, to be given back with the outcome. */
export interface Pass {
  readonly generation: number;
}

/** `unknown`: it says nothing about the other end. */
export type Outcome = 'ok' | 'failed' | 'unknown';

/**
 * Keeps requests from where they only fail (a circuit breaker):
 *
 *     closed ──failures──▶ open ──time──▶ half-open ──trial ok──▶ closed
 *                            ▲                └──trial failed──▶ open, for twice as long
 *
 * Half-open, one request at a time may try. What comes back from before the last change says nothing any more.
 */
export class Breaker {
  readonly #now: () => number;
  #generation = 0;
  /** The last outcomes, true for a failure; the oldest first. */
  #recent: boolean[] = [];
  #inRow = 0;
  /** By the clock; null: it is closed. */
  #openUntil: number | null = null;
  #openFor = OPEN_FIRST;
  #trial = false;

  /** @param now a steady clock, in ms */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  get state(): 'closed' | 'open' | 'half-open' {
    if (this.#openUntil === null) return 'closed';
    return this.#now() < this.#openUntil ? 'open' : 'half-open';
  }

  /** Whether `enter` would let one in. */
  get passable(): boolean {
    const { state } = this;
    return state === 'closed' || (state === 'half-open' && !this.#trial);
  }

  /** Null: not now. */
  enter(): Pass | null {
    if (!this.passable) return null;
    if (this.#openUntil !== null) this.#trial = true;
    return { generation: this.#generation };
  }

  leave(pass: Pass, outcome: Outcome): void {
    if (pass.generation !== this.#generation) return;
    if (this.#openUntil !== null) return this.#endTrial(outcome);
    if (outcome === 'unknown') return;
    const failed = outcome === 'failed';
    this.#inRow = failed ? this.#inRow + 1 : 0;
    this.#recent = [...this.#recent.slice(1 - WINDOW), failed];
    const failures = this.#recent.filter(Boolean).length;
    if (this.#inRow >= IN_A_ROW || failures > WINDOW / 2) this.#open();
  }

  #endTrial(outcome: Outcome): void {
    this.#trial = false;
    if (outcome === 'unknown') return;
    if (outcome === 'failed') {
      this.#openFor = Math.min(2 * this.#openFor, OPEN_AT_MOST);
      return this.#open();
    }
    this.#generation++;
    this.#openUntil = null;
    this.#openFor = OPEN_FIRST;
  }

  #open(): void {
    this.#generation++;
    this.#openUntil = this.#now() + this.#openFor;
    this.#inRow = 0;
    this.#recent = [];
  }
}
