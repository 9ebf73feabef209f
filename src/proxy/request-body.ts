import { type ErrorCode, WunderproxyError } from '../errors.ts';
import { BodyMemory } from './body-memory.ts';
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
/** Pieces are read from the disk in this size (bytes). */
const READ_SIZE = 64 * 1024;

/** A request body that is complete. It can be sent, and sent again, until it is released. */
export class StoredBody {
  readonly length: number;
  #memory: BodyMemory | null;
  #file: SpoolFile | null;

  constructor(length: number, memory: BodyMemory | null, file: SpoolFile | null) {
    this.length = length;
    this.#memory = memory;
    this.#file = file;
  }

  /** All of it; null when it is on disk, or released. */
  get memory(): BodyMemory | null {
    return this.#memory;
  }

  /** What is on disk, from this position on: at most READ_SIZE bytes, at least one. Rejects when it can't be read. */
  async read(position: number): Promise<Buffer> {
    if (this.#file === null) throw new Error('the body is not on disk any more');
    return this.#file.read(position, READ_SIZE);
  }

  release(): void {
    this.#memory?.release();
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
  /** The body so far; null when it is on disk. */
  #memory: BodyMemory | null;
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
    this.#memory = new BodyMemory(context.spool, source.length);
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
    if (this.#file === null && this.#memory?.add(chunk) === true) return true;
    this.#pending.push(chunk);
    this.#context.spool.holdMemory(chunk.length);
    this.#file ??= this.#context.spool.createFile();
    if (!this.#writing) void this.#write();
    return false;
  }

  /** Moves everything to the disk; the client waits meanwhile. */
  async #write(): Promise<void> {
    const { spool } = this.#context;
    this.#writing = true;
    while (!this.#pending.empty && !this.#over) {
      const { bytes } = this.#pending;
      const chunks = this.#pending.takeAll();
      try {
        await this.#file?.append([...(this.#memory?.pieces() ?? []), ...chunks]);
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
    this.#memory?.release();
    this.#memory = null;
  }

  onBodyEnd(): void {
    this.#ended = true;
    if (!this.#writing && !this.#over) this.#finish();
  }

  #finish(): void {
    this.#over = true;
    this.#context.sweeper.forget(this.#watch);
    this.#resolve(new StoredBody(this.#length, this.#memory, this.#file));
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
