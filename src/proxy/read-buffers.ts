/** Bytes that are read from a container at a time. */
const READ_SIZE = 64 * 1024;
/** A body larger than this (bytes) is read into blocks of its own, which are handed on without being copied. */
const LARGE_BODY = 16 * 1024;

/**
 * Where all connections read to: what is read is used up, or copied, before the next one reads. A buffer for each read, as
 * Node makes them, costs more than the copy of a small response.
 */
const SHARED = Buffer.allocUnsafeSlow(READ_SIZE);

/**
 * Blocks for large bodies, to be used again as long as their bytes are with the kernel by the time that the next ones come. To
 * make new ones all the time has V8 collect its whole heap again and again, for the memory that it thinks it would free.
 */
const spareBlocks: Buffer[] = [];
const MOST_SPARE_BLOCKS = 32;

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
    this.own = this.next !== SHARED && 2 * bytes >= READ_SIZE;
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
    const more = inBody && (2 * bytes >= READ_SIZE || length > LARGE_BODY);
    if (more && (this.next === SHARED || this.#kept)) {
      this.next = spareBlocks.pop() ?? Buffer.allocUnsafeSlow(READ_SIZE);
    } else if (!more && this.next !== SHARED) {
      if (!this.#kept && spareBlocks.length < MOST_SPARE_BLOCKS) spareBlocks.push(this.next);
      this.next = SHARED;
    }
  }
}
