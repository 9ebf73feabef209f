/** A child that lived this long (ms) did not die of its own start. */
const STABLE = 5_000;
const LONGEST = 1_000;

/** When to start a dead child again: at once, later and later (to 1 s) when it dies young again and again. */
export class Respawn {
  #delay = 0;
  #startedAt = 0;
  #timer: NodeJS.Timeout | null = null;

  started(): void {
    this.#startedAt = performance.now();
  }

  /** Calls back in 0 to 1,000 ms. */
  schedule(start: () => void): void {
    const young = performance.now() - this.#startedAt < STABLE;
    const wait = young ? this.#delay : 0;
    this.#delay = young ? Math.min(LONGEST, this.#delay * 2 || 50) : 0;
    this.#timer = setTimeout(start, wait);
  }

  cancel(): void {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
  }
}
