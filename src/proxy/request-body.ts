import { type ErrorCode, WunderproxyError } from '../errors.ts';
import type { Place } from './crowd.ts';
import type { BodySink, BodySource } from './exchange.ts';
import { Pieces } from './pieces.ts';
import type { Spool, SpoolFile } from './spool.ts';
import type { Sweeper, Watched } from './sweeper.ts';

/** What a request body may be, and how slowly it may come. */
export interface BodyLimits {
  /** In bytes. */
  readonly body: number;
  /** Bytes per second on average, once GRACE has passed. */
  readonly bodyRate: number;
  /** Between two pieces, in ms. */
  readonly bodyTimeout: number;
}

/** What the stage works with. */
export interface BodyContext {
  readonly limits: BodyLimits;
  readonly spool: Spool;
  readonly sweeper: Sweeper;
}

/** A body may be as slow as it likes for so long (ms): connections need a while to get going. */
const GRACE = 10_000;
/** First block in memory, in bytes; it is doubled as the body grows, so that announcing a length costs us nothing. */
const FIRST_BLOCK = 4 * 1024;
/** Pieces are read from the disk in this size (bytes). */
const READ_SIZE = 64 * 1024;

/** A request body that is complete. It can be sent, and sent again, until it is released. */
export class StoredBody {
  readonly length: number;
  readonly #spool: Spool;
  #memory: Buffer | null;
  #memoryHeld: number;
  #file: SpoolFile | null;

  /** @param memoryHeld what `memory` takes up in the spool's accounts, in bytes */
  constructor(length: number, spool: Spool, memory: Buffer | null, memoryHeld: number, file: SpoolFile | null) {
    this.length = length;
    this.#spool = spool;
    this.#memory = memory;
    this.#memoryHeld = memoryHeld;
    this.#file = file;
  }

  /** All of it; null when it is on disk, or released. */
  get memory(): Buffer | null {
    return this.#memory;
  }

  /** What is on disk, from this position on: at most READ_SIZE bytes, at least one. Rejects when it can't be read. */
  async read(position: number): Promise<Buffer> {
    if (this.#file === null) throw new Error('the body is not on disk any more');
    return this.#file.read(position, READ_SIZE);
  }

  release(): void {
    this.#spool.releaseMemory(this.#memoryHeld);
    this.#memoryHeld = 0;
    this.#memory = null;
    this.#file?.close();
    this.#file = null;
  }
}

/**
 * Reads a body to its end, into memory or onto disk. Rejects with `body_too_large`, `body_timeout`, `body_too_slow`,
 * `buffers_full`, or with what the client's protocol makes of a broken body; nothing is kept then.
 */
export function storeBody(source: BodySource, context: BodyContext): Promise<StoredBody> {
  return new Promise((resolve, reject) => new Collector(source, context, resolve, reject).start());
}

class Collector implements BodySink, Watched {
  readonly #source: BodySource;
  readonly #context: BodyContext;
  readonly #resolve: (body: StoredBody) => void;
  readonly #reject: (error: WunderproxyError) => void;
  readonly #startedAt = performance.now();
  #lastAt = this.#startedAt;
  #watch: Place<Watched> | null = null;
  #length = 0;
  /** The body so far, at the beginning of this block; null when it is on disk. */
  #memory: Buffer | null = null;
  /** What the block takes up in the spool's accounts. */
  #memoryHeld = 0;
  #file: SpoolFile | null = null;
  /** On their way to the disk. */
  readonly #pending = new Pieces();
  #writing = false;
  #ended = false;
  #over = false;

  constructor(
    source: BodySource,
    context: BodyContext,
    resolve: (body: StoredBody) => void,
    reject: (error: WunderproxyError) => void,
  ) {
    this.#source = source;
    this.#context = context;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  start(): void {
    this.#source.read(this);
    // Most bodies are here already, together with their head.
    if (!this.#over) this.#watch = this.#context.sweeper.watch(this);
  }

  onBodyData(chunk: Buffer): boolean {
    if (this.#over) return true;
    this.#length += chunk.length;
    this.#lastAt = performance.now();
    if (this.#length > this.#context.limits.body) {
      this.#fail('body_too_large');
      return true;
    }
    if (this.#file === null && this.#keepInMemory(chunk)) return true;
    this.#pending.push(chunk);
    this.#context.spool.holdMemory(chunk.length);
    this.#file ??= this.#context.spool.createFile();
    if (!this.#writing) void this.#write();
    return false;
  }

  /** Returns false when the body is too large for that. */
  #keepInMemory(chunk: Buffer): boolean {
    const { spool } = this.#context;
    const before = this.#length - chunk.length;
    const whole = before === 0 && this.#length === this.#source.length;
    if (whole && 2 * chunk.length >= chunk.buffer.byteLength) {
      if (!spool.takeMemory(0, chunk.length)) return false;
      this.#memory = chunk;
      this.#memoryHeld = chunk.length;
      return true;
    }
    if (this.#memory === null || this.#length > this.#memory.length) {
      const block = this.#blockFor(this.#length);
      if (!spool.takeMemory(this.#memoryHeld, block - this.#memoryHeld)) return false;
      const larger = Buffer.allocUnsafeSlow(block);
      this.#memory?.copy(larger, 0, 0, before);
      this.#memory = larger;
      this.#memoryHeld = block;
    }
    chunk.copy(this.#memory, before);
    return true;
  }

  #blockFor(length: number): number {
    let block = FIRST_BLOCK;
    while (block < length) block *= 2;
    return Math.min(block, this.#source.length ?? block, Math.max(length, this.#context.spool.limits.bodyMemory));
  }

  /** Moves everything to the disk; the client waits meanwhile. */
  async #write(): Promise<void> {
    const { spool } = this.#context;
    this.#writing = true;
    while (!this.#pending.empty && !this.#over) {
      const { bytes } = this.#pending;
      const chunks = this.#pending.takeAll();
      const inMemory = this.#memory?.subarray(0, this.#length - bytes);
      try {
        await this.#file?.append(inMemory === undefined ? chunks : [inMemory, ...chunks]);
      } catch {
        this.#fail('buffers_full');
      }
      spool.releaseMemory(bytes);
      this.#dropMemory();
    }
    this.#writing = false;
    if (this.#over) return;
    // The client could not go on while the disk was at work.
    this.#lastAt = performance.now();
    if (this.#ended) this.#finish();
    else this.#source.resume();
  }

  #dropMemory(): void {
    this.#context.spool.releaseMemory(this.#memoryHeld);
    this.#memory = null;
    this.#memoryHeld = 0;
  }

  onBodyEnd(): void {
    this.#ended = true;
    if (!this.#writing && !this.#over) this.#finish();
  }

  #finish(): void {
    this.#over = true;
    this.#context.sweeper.forget(this.#watch);
    const memory = this.#memory === null ? null : this.#memory.subarray(0, this.#length);
    this.#resolve(new StoredBody(this.#length, this.#context.spool, memory, this.#memoryHeld, this.#file));
  }

  onBodyError(code: ErrorCode): void {
    this.#fail(code);
  }

  #fail(code: ErrorCode): void {
    if (this.#over) return;
    this.#over = true;
    const { spool, sweeper } = this.#context;
    sweeper.forget(this.#watch);
    spool.releaseMemory(this.#pending.bytes);
    this.#pending.takeAll();
    // A write that is under way still reads from it.
    if (!this.#writing) this.#dropMemory();
    this.#file?.close();
    this.#reject(new WunderproxyError(code));
  }

  checkDeadline(now: number): void {
    const { bodyTimeout, bodyRate } = this.#context.limits;
    if (this.#writing) return;
    if (now - this.#lastAt >= bodyTimeout) return this.#fail('body_timeout');
    const elapsed = now - this.#startedAt;
    if (elapsed >= GRACE && (this.#length * 1_000) / elapsed < bodyRate) this.#fail('body_too_slow');
  }
}
