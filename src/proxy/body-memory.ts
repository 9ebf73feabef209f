import { BLOCK_SIZE, leaveBlock, takeBlock } from './blocks.ts';
import type { Spool } from './spool.ts';

/** The first block (bytes); it is doubled as the body grows, so that announcing a length costs us nothing. */
const FIRST_BLOCK = 4 * 1024;

/** A body in memory, in as many blocks as it needs, which stand in the spool's accounts until it is released. */
export class BodyMemory {
  readonly #spool: Spool;
  readonly #announced: number | null;
  /** Only the first, until it is as large as a block, and the last may be smaller than BLOCK_SIZE. */
  #blocks: Buffer[] = [];
  /** What fits into them, and what there is, in bytes. */
  #capacity = 0;
  #length = 0;
  /** Where the next byte goes: blocks before this one are full. */
  #index = 0;
  #offset = 0;
  /** In the spool's accounts, in bytes. */
  #held = 0;
  /** The only block is a chunk of the client's: others may still have it. */
  #foreign = false;
  /** Writes that still read from it. */
  #lent = 0;
  #released = false;

  /** @param announced how many bytes are to come, if that is known */
  constructor(spool: Spool, announced: number | null) {
    this.#spool = spool;
    this.#announced = announced;
  }

  /** Adds all of it; or none of it and returns false, when there is no room in memory. */
  add(chunk: Buffer): boolean {
    // What the whole body is a part of must not take up much more.
    const whole = this.#length === 0 && chunk.length === this.#announced;
    if (whole && 2 * chunk.length >= chunk.buffer.byteLength) return this.#keep(chunk);
    if (!this.#makeRoom(this.#length + chunk.length)) return false;
    for (let taken = 0; taken < chunk.length;) {
      const block = this.#blocks[this.#index] ?? chunk;
      const copied = chunk.copy(block, this.#offset, taken);
      taken += copied;
      this.#offset += copied;
      if (this.#offset === block.length) {
        this.#index++;
        this.#offset = 0;
      }
    }
    this.#length += chunk.length;
    return true;
  }

  #keep(chunk: Buffer): boolean {
    if (!this.#hold(chunk.length)) return false;
    this.#foreign = true;
    this.#blocks = [chunk];
    this.#capacity = chunk.length;
    this.#length = chunk.length;
    this.#index = 1;
    return true;
  }

  #makeRoom(wanted: number): boolean {
    while (this.#capacity < wanted) {
      const [first] = this.#blocks;
      const growing = this.#blocks.length === 1 && first !== undefined && first.length < BLOCK_SIZE ? first : null;
      const before = growing?.length ?? 0;
      const size = this.#sizeFor(wanted - this.#capacity + before, before, first === undefined);
      if (!this.#hold(size - before)) return false;
      const block = size === BLOCK_SIZE ? takeBlock() : Buffer.allocUnsafeSlow(size);
      if (growing === null) {
        this.#blocks.push(block);
      } else {
        growing.copy(block, 0, 0, this.#length);
        this.#blocks[0] = block;
        this.#index = 0;
        this.#offset = this.#length;
      }
      this.#capacity += size - before;
    }
    return true;
  }

  /** How large the next block is, in the place of one of `before` bytes, when so many bytes are missing. */
  #sizeFor(missing: number, before: number, isFirst: boolean): number {
    const least = Math.min(missing, BLOCK_SIZE);
    let size = isFirst || before > 0 ? FIRST_BLOCK : BLOCK_SIZE;
    while (size < least) size *= 2;
    const room = this.#spool.limits.bodyMemory - this.#held + before;
    const most = Math.min(room, (this.#announced ?? Infinity) - this.#capacity + before);
    if (size <= most) return size;
    // A whole block can be used again.
    return 2 * most > BLOCK_SIZE && room >= BLOCK_SIZE ? BLOCK_SIZE : Math.max(most, least);
  }

  #hold(bytes: number): boolean {
    if (!this.#spool.takeMemory(this.#held, bytes)) return false;
    this.#held += bytes;
    return true;
  }

  /** All that was added, in order. */
  pieces(): readonly Buffer[] {
    const full = this.#blocks.slice(0, this.#index);
    const last = this.#blocks[this.#index];
    return last === undefined || this.#offset === 0 ? full : [...full, last.subarray(0, this.#offset)];
  }

  /** Somebody writes the pieces: they stay as they are until `giveBack`, even if they are released meanwhile. */
  lend(): void {
    this.#lent++;
  }

  giveBack(): void {
    this.#lent--;
    if (this.#released) this.#recycle();
  }

  /** It is not needed any more. */
  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.#spool.releaseMemory(this.#held);
    this.#recycle();
  }

  #recycle(): void {
    if (this.#lent > 0) return;
    if (!this.#foreign) for (const block of this.#blocks) if (block.length === BLOCK_SIZE) leaveBlock(block);
    this.#blocks = [];
    this.#index = 0;
    this.#offset = 0;
  }
}
