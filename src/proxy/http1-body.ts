import type { Fields } from './exchange.ts';
import { MAX_HEAD_BYTES, MAX_FIELDS, parseFieldLine } from './http1-head.ts';

/** Takes a body out of its framing. */
export interface BodyDecoder {
  /**
   * Hands the body's bytes in `chunk` to `emit`. Returns the number of bytes of `chunk` that belonged to the message once
   * it is complete, NEED_MORE before that, MALFORMED when the framing is broken.
   */
  decode(chunk: Buffer, emit: (data: Buffer) => void): number;
  /** Fields that came after the body. */
  readonly trailers: Fields;
}

export const NEED_MORE = -1;
export const MALFORMED = -2;

const NO_FIELDS: Fields = [];

/** A body of known length (RFC 9112 section 6.2). */
export class LengthDecoder implements BodyDecoder {
  readonly trailers: Fields = NO_FIELDS;
  #left: number;

  constructor(length: number) {
    this.#left = length;
  }

  decode(chunk: Buffer, emit: (data: Buffer) => void): number {
    if (chunk.length < this.#left) {
      this.#left -= chunk.length;
      if (chunk.length > 0) emit(chunk);
      return NEED_MORE;
    }
    const used = this.#left;
    this.#left = 0;
    if (used > 0) emit(chunk.subarray(0, used));
    return used;
  }
}

const TOKEN = "[!#$%&'*+\\-.^_`|~0-9A-Za-z]+";
const QUOTED = '"(?:[\\t\\x20\\x21\\x23-\\x5b\\x5d-\\x7e\\x80-\\xff]|\\\\[\\t\\x20-\\x7e\\x80-\\xff])*"';
/**
 * A chunk's size and extensions, without the "bad whitespace" that the grammar would let pass. Thirteen hex digits stay
 * exact in a double.
 */
const SIZE_LINE = new RegExp(`^([0-9A-Fa-f]{1,13})(?:;${TOKEN}(?:=(?:${TOKEN}|${QUOTED}))?)*$`);
/** Longest line with a chunk's size and extensions. */
const MAX_SIZE_LINE = 1_024;

type ChunkedState = 'size' | 'data' | 'data-cr' | 'data-lf' | 'trailer';

/** The chunked coding (RFC 9112 section 7.1). Chunk extensions are checked and dropped. */
export class ChunkedDecoder implements BodyDecoder {
  readonly trailers: string[] = [];
  #state: ChunkedState = 'size';
  /** What has come of a line that is not complete yet. */
  #line = '';
  #left = 0;
  #trailerBytes = 0;

  decode(chunk: Buffer, emit: (data: Buffer) => void): number {
    let at = 0;
    while (at < chunk.length) {
      switch (this.#state) {
        case 'data': {
          const data = chunk.subarray(at, at + this.#left);
          at += data.length;
          this.#left -= data.length;
          if (this.#left === 0) this.#state = 'data-cr';
          emit(data);
          break;
        }
        case 'data-cr':
          if (chunk[at++] !== 0x0d) return MALFORMED;
          this.#state = 'data-lf';
          break;
        case 'data-lf':
          if (chunk[at++] !== 0x0a) return MALFORMED;
          this.#state = 'size';
          break;
        case 'size':
        case 'trailer': {
          const plain = this.#state === 'size' ? this.#startPlainChunk(chunk, at) : at;
          if (plain > at) {
            at = plain;
            break;
          }
          const lineFeed = chunk.indexOf(0x0a, at);
          const end = lineFeed === -1 ? chunk.length : lineFeed;
          this.#line += chunk.toString('latin1', at, end);
          if (this.#line.length > (this.#state === 'size' ? MAX_SIZE_LINE : MAX_HEAD_BYTES)) return MALFORMED;
          if (lineFeed === -1) return NEED_MORE;
          at = lineFeed + 1;
          const line = this.#line;
          this.#line = '';
          if (!line.endsWith('\r')) return MALFORMED;
          const text = line.slice(0, -1);
          if (this.#state === 'trailer' && text === '') return at;
          if (!(this.#state === 'size' ? this.#startChunk(text) : this.#addTrailer(text))) return MALFORMED;
          break;
        }
      }
    }
    return NEED_MORE;
  }

  /**
   * The short way for what nearly all chunks begin with: up to six hex digits and a line end, in one piece. Returns where
   * the data begins, or `at` when it has to be looked at more closely.
   */
  #startPlainChunk(chunk: Buffer, at: number): number {
    if (this.#line !== '') return at;
    let size = 0;
    for (let i = at; i < at + 7; i++) {
      const digit = hexDigit(chunk[i]);
      if (digit !== -1) {
        size = size * 16 + digit;
        continue;
      }
      if (i === at || size === 0 || chunk[i] !== 0x0d || chunk[i + 1] !== 0x0a) return at;
      this.#left = size;
      this.#state = 'data';
      return i + 2;
    }
    return at;
  }

  #startChunk(line: string): boolean {
    const match = SIZE_LINE.exec(line);
    if (match === null) return false;
    this.#left = Number.parseInt(match[1] ?? '', 16);
    this.#state = this.#left === 0 ? 'trailer' : 'data';
    return true;
  }

  #addTrailer(line: string): boolean {
    this.#trailerBytes += line.length;
    if (this.#trailerBytes > MAX_HEAD_BYTES || this.trailers.length >= 2 * MAX_FIELDS) return false;
    return parseFieldLine(line, this.trailers, []);
  }
}

/** The value of a hex digit's code; -1 for anything else. */
function hexDigit(code: number | undefined): number {
  if (code === undefined) return -1;
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const lower = code | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}
