import { BLOCK_SIZE, leaveBlock, takeBlock } from './blocks.ts';

/** A body larger than this (bytes) is read into blocks of its own, which are handed on without being copied. */
const LARGE_BODY = 16 * 1024;

/**
 * Where all connections read to: what is read is used up, or copied, before the next one reads. A buffer for each read, as
 * Node makes them, costs more than the copy of a small response.
 */
const SHARED = Buffer.allocUnsafeSlow(BLOCK_SIZE);

/** What one connection reads into. */
export class ReadBuffer {
  /** Where the next read goes. */
  next: Buffer = SHARED;
  /** Whether what was just read may be handed on without being copied; always, where the socket makes buffers of its own. */
  own = true;
  #kept = false;

  /** So many bytes have come: these. They are there until `used` is called. */
  filled(bytes: number): Buffer {
    // What is handed on must not take up much more than it is.
    this.own = this.next !== SHARED && 2 * bytes >= BLOCK_SIZE;
    this.#kept = false;
    return this.next.subarray(0, bytes);
  }

  /** Somebody has kept what was handed on. */
  keep(): void {
    this.#kept ||= this.own;
  }

  /**
   * Chooses where the next read goes.
   * @param inBody whether the last one was of a body, or of a head with the first part of one
   * @param length the body's, as announced
   */
  used(bytes: number, inBody: boolean, length: number): void {
    const more = inBody && (2 * bytes >= BLOCK_SIZE || length > LARGE_BODY);
    if (more && (this.next === SHARED || this.#kept)) {
      this.next = takeBlock();
    } else if (!more && this.next !== SHARED) {
      if (!this.#kept) leaveBlock(this.next);
      this.next = SHARED;
    }
  }
}
