/** Failed fallbacks may be so many of the requests of the last SPAN. */
const SHARE = 0.2;
/** And so many a second on this machine in any case, so that a quiet one may try. */
const FLOOR = 10;
/** In seconds. */
const SPAN = 10;

/**
 * Keeps a dead application from becoming a storm: what did not work elsewhere either may be a fifth of all requests, plus
 * a floor. Fallbacks that work are free, for otherwise four of five requests would fail when only one machine does.
 */
export class FallbackBudget {
  readonly #now: () => number;
  readonly #floor: number;
  readonly #requests = new Window();
  readonly #failures = new Window();

  /**
   * @param workers that share the machine's floor; each counts its own requests
   * @param now a steady clock, in ms
   */
  constructor(workers: number, now: () => number = () => performance.now()) {
    this.#floor = Math.max(1, FLOOR / workers) * SPAN;
    this.#now = now;
  }

  noteRequest(): void {
    this.#requests.add(this.#second());
  }

  noteFailure(): void {
    this.#failures.add(this.#second());
  }

  /** Whether another fallback may be tried. */
  get allows(): boolean {
    const second = this.#second();
    return this.#failures.sum(second) < this.#floor + SHARE * this.#requests.sum(second);
  }

  #second(): number {
    return Math.floor(this.#now() / 1_000);
  }
}

/** Events of the last SPAN, in seconds. */
class Window {
  readonly #counts = new Float64Array(SPAN);
  #second = 0;

  add(second: number): void {
    this.#advance(second);
    const at = second % SPAN;
    this.#counts[at] = (this.#counts[at] ?? 0) + 1;
  }

  sum(second: number): number {
    this.#advance(second);
    return this.#counts.reduce((sum, count) => sum + count, 0);
  }

  /** Clears what has become too old. */
  #advance(second: number): void {
    if (second === this.#second) return;
    const passed = Math.min(second - this.#second, SPAN);
    for (let i = 0; i < passed; i++) this.#counts[(second - i) % SPAN] = 0;
    this.#second = second;
  }
}
