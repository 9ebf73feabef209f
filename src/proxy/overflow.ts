import { Pieces } from './pieces.ts';
import type { Spool, SpoolFile } from './spool.ts';

/** Pieces are read from the disk in this size (bytes). */
const READ_SIZE = 64 * 1024;
/** So many bytes may wait for the disk before the container has to; none when the memory for all is used up. */
const MAX_UNWRITTEN = 256 * 1024;

/** What the buffer tells its owner. */
export interface OverflowOwner {
  /** `shift` has something again. */
  onReadable(): void;
  /** After `push` had returned false: it takes more now. */
  onRoom(): void;
  /** What was stored can't be had again. */
  onLost(cause: unknown): void;
}

/**
 * What a container gives faster than its client takes it, first in, first out:
 *
 *     push ─▶ [unwritten, memory] ─▶ [file] ─▶ [head, memory] ─▶ shift
 *
 * As long as memory allows, pieces go straight to the head. When the disk has no room they stay where they are, and
 * `push` says so: then it is the container that has to wait.
 */
export class OverflowBuffer {
  readonly #spool: Spool;
  readonly #owner: OverflowOwner;
  readonly #head = new Pieces();
  #file: SpoolFile | null = null;
  /** How far the file has been read. */
  #position = 0;
  readonly #unwritten = new Pieces();
  #writing = false;
  #reading = false;
  #noRoom = false;
  #full = false;
  #disposed = false;

  constructor(spool: Spool, owner: OverflowOwner) {
    this.#spool = spool;
    this.#owner = owner;
  }

  get empty(): boolean {
    return this.#head.empty && this.#unwritten.empty && this.#file === null;
  }

  /** Takes the piece in any case. Returns false when the next one should wait for `onRoom`. */
  push(chunk: Buffer): boolean {
    const direct = this.#file === null && this.#unwritten.empty;
    if (direct && this.#spool.takeMemory(this.#head.bytes, chunk.length)) {
      this.#head.push(chunk);
      return true;
    }
    this.#spool.holdMemory(chunk.length);
    this.#unwritten.push(chunk);
    if (!this.#writing && !this.#noRoom) void this.#write();
    this.#full = this.#noRoom || this.#unwritten.bytes > MAX_UNWRITTEN || this.#spool.exhausted;
    return !this.#full;
  }

  /** The next piece; null when there is none, or when `onReadable` will tell that it is here. */
  shift(): Buffer | null {
    const chunk = this.#head.shift();
    if (chunk !== undefined) {
      this.#spool.releaseMemory(chunk.length);
      return chunk;
    }
    if (this.#file !== null) {
      if (this.#position < this.#file.length) void this.#read(this.#file);
      else if (!this.#writing) this.#dropFile();
    }
    // Only what the disk had no room for can be at the front now.
    return this.#file === null && this.#noRoom ? this.#takeUnwritten() : null;
  }

  #takeUnwritten(): Buffer | null {
    const chunk = this.#unwritten.shift();
    if (chunk === undefined) return null;
    this.#spool.releaseMemory(chunk.length);
    if (this.#unwritten.empty) {
      // Nothing is left: the next overflow may try the disk again.
      this.#noRoom = false;
      this.#makeRoom();
    }
    return chunk;
  }

  #makeRoom(): void {
    if (!this.#full) return;
    this.#full = false;
    this.#owner.onRoom();
  }

  #dropFile(): void {
    this.#file?.close();
    this.#file = null;
    this.#position = 0;
  }

  async #write(): Promise<void> {
    this.#writing = true;
    this.#file ??= this.#spool.createFile();
    while (!this.#unwritten.empty && !this.#noRoom && !this.#disposed) {
      const { bytes } = this.#unwritten;
      const chunks = this.#unwritten.takeAll();
      try {
        await this.#file.append(chunks);
        this.#spool.releaseMemory(bytes);
        if (!this.#disposed) this.#makeRoom();
      } catch {
        if (this.#disposed) {
          this.#spool.releaseMemory(bytes);
        } else {
          this.#unwritten.putBack(chunks);
          this.#noRoom = true;
        }
      }
    }
    this.#writing = false;
    if (!this.#disposed) this.#owner.onReadable();
  }

  async #read(file: SpoolFile): Promise<void> {
    if (this.#reading) return;
    this.#reading = true;
    try {
      const chunk = await file.read(this.#position, READ_SIZE);
      this.#reading = false;
      if (this.#disposed) return;
      this.#position += chunk.length;
      this.#spool.holdMemory(chunk.length);
      this.#head.push(chunk);
      this.#owner.onReadable();
    } catch (cause) {
      this.#reading = false;
      if (!this.#disposed) this.#owner.onLost(cause);
    }
  }

  /** Gives everything back. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#spool.releaseMemory(this.#head.bytes + this.#unwritten.bytes);
    this.#head.takeAll();
    this.#unwritten.takeAll();
    this.#file?.close();
    this.#file = null;
  }
}
