/** Pieces smaller than this (bytes) are joined with their neighbours … */
const SMALL = 4 * 1024;
/** … into blocks of this size (bytes). */
const BLOCK = 16 * 1024;

const TAKEN = Buffer.alloc(0);

/**
 * Bytes that wait, first in, first out. What each piece costs must not depend on how many wait, nor may it be many times
 * its bytes: an application that writes letter by letter makes a million of them from one mebibyte. So small ones are
 * joined.
 */
export class Pieces {
  bytes = 0;
  #list: Buffer[] = [];
  /** Those before this have been taken. */
  #first = 0;
  /** What the last piece is the beginning of, while it can still grow. */
  #block: Buffer | null = null;

  get empty(): boolean {
    return this.#list.length === 0;
  }

  push(chunk: Buffer): void {
    this.bytes += chunk.length;
    const at = this.#list.length - 1;
    const last = this.#list[at];
    if (last === undefined || chunk.length >= SMALL || !this.#makeGrowing(last, chunk.length)) {
      this.#block = null;
      this.#list.push(chunk);
    } else if (this.#block !== null) {
      chunk.copy(this.#block, last.length);
      this.#list[at] = this.#block.subarray(0, last.length + chunk.length);
    }
  }

  /** Whether the last piece stands at the beginning of a block that has room for so many bytes. */
  #makeGrowing(last: Buffer, more: number): boolean {
    if (this.#block !== null) return last.length + more <= BLOCK;
    if (last.length >= SMALL) return false;
    this.#block = Buffer.allocUnsafeSlow(BLOCK);
    last.copy(this.#block);
    return true;
  }

  shift(): Buffer | undefined {
    const chunk = this.#list[this.#first];
    if (chunk === undefined) return undefined;
    this.bytes -= chunk.length;
    // Not Array.shift: it moves all that follow.
    this.#list[this.#first++] = TAKEN;
    if (this.#first === this.#list.length) this.takeAll();
    return chunk;
  }

  takeAll(): Buffer[] {
    const all = this.#first === 0 ? this.#list : this.#list.slice(this.#first);
    this.#list = [];
    this.#first = 0;
    this.#block = null;
    this.bytes = 0;
    return all;
  }

  /** Puts what was taken before all others. */
  putBack(chunks: readonly Buffer[]): void {
    this.#list = [...chunks, ...this.#list.slice(this.#first)];
    this.#first = 0;
    for (const chunk of chunks) this.bytes += chunk.length;
  }
}
