import { WunderproxyError, type ErrorCode } from '../errors.ts';
import type { BodySink, BodySource } from './exchange.ts';

/** A request body that is complete: it can be sent, and sent again. */
export interface StoredBody {
  readonly length: number;
  readonly bytes: Buffer;
}

/** Reads a body to its end. Rejects with `body_too_large`, or what the client's protocol makes of a broken body. */
export function storeBody(source: BodySource, maxBytes: number): Promise<StoredBody> {
  return new Promise((resolve, reject) => {
    source.read(new Collector(maxBytes, resolve, reject));
  });
}

/** Blocks are this large (bytes); what arrives in smaller pieces is copied together. */
const BLOCK = 16 * 1024;

class Collector implements BodySink {
  readonly #maxBytes: number;
  readonly #resolve: (body: StoredBody) => void;
  readonly #reject: (error: WunderproxyError) => void;
  readonly #blocks: Buffer[] = [];
  #open: Buffer | null = null;
  #openLength = 0;
  #length = 0;
  #refused = false;

  constructor(maxBytes: number, resolve: (body: StoredBody) => void, reject: (error: WunderproxyError) => void) {
    this.#maxBytes = maxBytes;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  onBodyData(chunk: Buffer): boolean {
    if (this.#refused) return false;
    this.#length += chunk.length;
    if (this.#length > this.#maxBytes) {
      this.onBodyError('body_too_large');
      return false;
    }
    if (chunk.length >= BLOCK) {
      this.#seal();
      this.#blocks.push(chunk);
      return true;
    }
    for (let rest = chunk; rest.length > 0;) {
      this.#open ??= Buffer.allocUnsafeSlow(BLOCK);
      const copied = rest.copy(this.#open, this.#openLength);
      this.#openLength += copied;
      rest = rest.subarray(copied);
      if (this.#openLength === BLOCK) this.#seal();
    }
    return true;
  }

  #seal(): void {
    if (this.#open === null) return;
    this.#blocks.push(this.#open.subarray(0, this.#openLength));
    this.#open = null;
    this.#openLength = 0;
  }

  onBodyEnd(): void {
    if (this.#refused) return;
    this.#seal();
    const [only] = this.#blocks;
    const bytes = this.#blocks.length === 1 && only !== undefined ? only : Buffer.concat(this.#blocks);
    this.#resolve({ length: bytes.length, bytes });
  }

  onBodyError(code: ErrorCode): void {
    this.#refused = true;
    this.#blocks.length = 0;
    this.#open = null;
    this.#reject(new WunderproxyError(code));
  }
}
