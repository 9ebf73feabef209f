/** Something that may be done so often at once, and so often a second in the long run (a token bucket). */
export class Allowance {
  readonly #most: number;
  readonly #perSecond: number;
  #left: number;
  #at = performance.now();

  constructor(most: number, perSecond: number) {
    this.#most = most;
    this.#perSecond = perSecond;
    this.#left = most;
  }

  /** Returns false when it is used up. */
  spend(count: number): boolean {
    if (this.#left < count) {
      const now = performance.now();
      this.giveBack(((now - this.#at) / 1_000) * this.#perSecond);
      this.#at = now;
    }
    if (this.#left < count) return false;
    this.#left -= count;
    return true;
  }

  giveBack(count: number): void {
    this.#left = Math.min(this.#most, this.#left + count);
  }
}
