/** So slowly (bytes/s) a client may read … */
const RATE = 128 * 1024;
/** … and be so far behind (ms): the kernel has no more than some MiB for it. */
const BEHIND_AT_MOST = 30_000;

/**
 * When a slow client may have read what it was sent. What the kernel has not delivered by then is lost once something (a window
 * update, say) comes for a connection that is closed here, and nobody tells how much that is.
 */
export class SlowReader {
  /** By `performance.now()`. */
  doneAt = 0;
  #sent = 0;

  /** @param sent bytes that were ever sent to it */
  onSent(sent: number): void {
    const now = performance.now();
    const takes = ((sent - this.#sent) / RATE) * 1_000;
    this.doneAt = Math.min(Math.max(this.doneAt, now) + takes, now + BEHIND_AT_MOST);
    this.#sent = sent;
  }
}
