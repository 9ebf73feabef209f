/** So many are remembered: with a minute's life that is enough for 4,000 a second, and some 40 MB. */
const MOST = 250_000;

/**
 * Nonces that were used, over all workers of this machine, so that none is taken twice. Kept until the time up to which a
 * message with it could be fresh.
 */
export class Nonces {
  readonly #most: number;
  readonly #until = new Map<string, number>();
  #forgottenAt = 0;

  constructor(most = MOST) {
    this.#most = most;
  }

  /**
   * Returns whether `nonce` is used for the first time. When there is no room to remember it, it counts as used: better to
   * refuse than to be played with. Times are in ms since the epoch.
   */
  use(nonce: string, until: number, now: number): boolean {
    if (this.#until.has(nonce)) return false;
    if (this.#until.size >= this.#most) this.#forget(now);
    if (this.#until.size >= this.#most) return false;
    this.#until.set(nonce, until);
    this.#forgetOldest(now);
    return true;
  }

  get size(): number {
    return this.#until.size;
  }

  /** They come nearly in the order of their ends: two looks for each new one keep the map as small as it can be. */
  #forgetOldest(now: number): void {
    let looks = 2;
    for (const [nonce, until] of this.#until) {
      if (looks-- === 0 || until >= now) return;
      this.#until.delete(nonce);
    }
  }

  /** At most once a second: it looks at all. */
  #forget(now: number): void {
    if (Math.abs(now - this.#forgottenAt) < 1_000) return;
    this.#forgottenAt = now;
    for (const [nonce, until] of this.#until) if (until < now) this.#until.delete(nonce);
  }
}
