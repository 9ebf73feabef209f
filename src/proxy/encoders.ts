import { availableParallelism } from 'node:os';
import type { Transform } from 'node:stream';
import * as zlib from 'node:zlib';
import type { Coding } from '../worker-config.ts';
import type { Spool } from './spool.ts';

const {
  Z_SYNC_FLUSH,
  BROTLI_OPERATION_FLUSH,
  BROTLI_PARAM_QUALITY,
  BROTLI_PARAM_LGWIN,
  BROTLI_PARAM_SIZE_HINT,
  ZSTD_e_flush,
  ZSTD_c_compressionLevel,
  ZSTD_c_windowLog,
  ZSTD_c_hashLog,
  ZSTD_c_chainLog,
} = zlib.constants;

/*
 * Levels are chosen by measurement (bench/compression.ts; README has the figures): the last ones before a step up costs
 * about half as much processor time again, or more, for a few percent of the bytes.
 */
const GZIP_LEVEL = 4;
const BROTLI_QUALITY = 4;
const BROTLI_WINDOW = 18;
const ZSTD_LEVEL = 3;

/** Live responses are many, long, and small in each piece: less memory for each encoder. */
const LIVE_GZIP = { level: 6, windowBits: 13, memLevel: 6 };
const LIVE_BROTLI = { [BROTLI_PARAM_QUALITY]: 3, [BROTLI_PARAM_LGWIN]: 16 };
const LIVE_ZSTD = {
  [ZSTD_c_compressionLevel]: ZSTD_LEVEL,
  ...{ [ZSTD_c_windowLog]: 16, [ZSTD_c_hashLog]: 14, [ZSTD_c_chainLog]: 14 },
};

const KIB = 1_024;

/** Room for what an encoder gives at a time (bytes): when it is full, the encoder needs another turn. */
const OUTPUT = { live: 16 * KIB, other: 64 * KIB };

/** What an encoder in use adds to the process, measured and rounded up (bytes). */
const MEMORY: Record<Coding, { live: number; other: number }> = {
  gzip: { live: 160 * KIB, other: 512 * KIB },
  br: { live: 512 * KIB, other: 1_856 * KIB },
  zstd: { live: 512 * KIB, other: 1_600 * KIB },
};

/** The part of the memory for all bodies that encoders may have. */
const SHARE = 1 / 2;

/** Of libuv's four threads one is left to the spool; and more than there are processors would only take turns. */
const PARALLEL = Math.min(3, availableParallelism());

/** When so many pieces wait for an encoder, compression costs more time than it saves. */
const MAX_WAITING = 100;

/** An encoder whose every write is flushed, and the memory that is counted for it. */
export interface Encoder {
  readonly stream: Transform;
  readonly memory: number;
}

/** All encoders of one worker: how much memory they take, and how many work at once. */
export class Encoders {
  readonly #spool: Spool;
  #memory = 0;
  #running = 0;
  readonly #waiting: ((done: () => void) => void)[] = [];

  constructor(spool: Spool) {
    this.#spool = spool;
  }

  /** Whether responses should rather go out as they are. */
  get overloaded(): boolean {
    return this.#waiting.length >= MAX_WAITING;
  }

  /** An encoder for a body that comes in pieces, to be given back with `close`; null when there is no memory for it. */
  open(coding: Coding, live: boolean): Encoder | null {
    const memory = MEMORY[coding][live ? 'live' : 'other'];
    const { limits, use } = this.#spool;
    if (this.#memory + memory > limits.totalMemory * SHARE) return null;
    if (use.memoryBytes + memory > limits.totalMemory) return null;
    this.#memory += memory;
    this.#spool.holdMemory(memory);
    return { stream: createEncoder(coding, live), memory };
  }

  /** Frees an encoder, whatever it was doing. */
  close({ stream, memory }: Encoder): void {
    stream.destroy();
    this.#memory -= memory;
    this.#spool.releaseMemory(memory);
  }

  /** Starts a piece of work when it is its turn; it must call `done` once. */
  run(work: (done: () => void) => void): void {
    if (this.#running === PARALLEL) {
      this.#waiting.push(work);
      return;
    }
    this.#running++;
    let open = true;
    work(() => {
      if (!open) return;
      open = false;
      this.#running--;
      const next = this.#waiting.shift();
      if (next !== undefined) this.run(next);
    });
  }
}

function createEncoder(coding: Coding, live: boolean): Transform {
  const chunkSize = OUTPUT[live ? 'live' : 'other'];
  switch (coding) {
    case 'gzip':
      return zlib.createGzip({ chunkSize, flush: Z_SYNC_FLUSH, ...(live ? LIVE_GZIP : { level: GZIP_LEVEL }) });
    case 'br':
      return zlib.createBrotliCompress({
        chunkSize,
        flush: BROTLI_OPERATION_FLUSH,
        params: live ? LIVE_BROTLI : brotli(0),
      });
    case 'zstd':
      return zlib.createZstdCompress({ chunkSize, flush: ZSTD_e_flush, params: live ? LIVE_ZSTD : ZSTD });
  }
}

const ZSTD = { [ZSTD_c_compressionLevel]: ZSTD_LEVEL };

/** `size` in bytes; 0: not known. */
function brotli(size: number): Record<number, number> {
  return {
    [BROTLI_PARAM_QUALITY]: BROTLI_QUALITY,
    [BROTLI_PARAM_LGWIN]: BROTLI_WINDOW,
    [BROTLI_PARAM_SIZE_HINT]: size,
  };
}

/**
 * A complete body with a coding, at once: for a body of 64 KiB that takes half a millisecond, and the way to another thread
 * and back as long again. Throws what zlib says.
 */
export function encodeWhole(coding: Coding, body: Buffer): Buffer {
  switch (coding) {
    case 'gzip':
      return zlib.gzipSync(body, { level: GZIP_LEVEL });
    case 'br':
      return zlib.brotliCompressSync(body, { params: brotli(body.length) });
    case 'zstd':
      return zlib.zstdCompressSync(body, { params: ZSTD, pledgedSrcSize: body.length });
  }
}
