import { WunderproxyError } from '../errors.ts';
import { compressedTrailers } from './compress-headers.ts';
import type { Encoder, Encoders } from './encoders.ts';
import type { ResponseHead } from './exchange.ts';
import { OverflowBuffer, type OverflowOwner } from './overflow.ts';
import { type ResponseSink, type ResponseSource, UpstreamResponse } from './response-body.ts';
import type { Spool } from './spool.ts';

/** An encoder is given so many bytes at a time: then it is another one's turn. */
const PIECE = 64 * 1024;

/** What a stream works with. */
export interface StreamContext {
  readonly encoder: Encoder;
  readonly encoders: Encoders;
  readonly spool: Spool;
}

/**
 * A response that is compressed as it comes:
 *
 *     container ─▶ input (memory, then disk) ─▶ encoder, on other threads ─▶ output ─▶ deliver
 *
 * The container waits neither for the client nor for the encoder, as long as there is room. Every piece is flushed: what
 * the container has given reaches the client even if more takes long. Only what waits meanwhile is joined.
 */
export class CompressedStream implements ResponseSink, ResponseSource, OverflowOwner {
  readonly output: UpstreamResponse;
  readonly #response: UpstreamResponse;
  readonly #encoder: Encoder;
  readonly #encoders: Encoders;
  readonly #spool: Spool;
  readonly #input: OverflowBuffer;
  /** Bytes that are with the encoder, or wait for their turn; null: none, and nothing is to be finished. */
  #encoding: number | null = null;
  #done: (() => void) | null = null;
  /** There is no room for more output. */
  #blocked = false;
  /** There is no room for more input. */
  #full = false;
  /** The container has been asked to wait. */
  #held = false;
  #taking = false;
  #finishing = false;
  #over = false;

  constructor(response: UpstreamResponse, head: ResponseHead, { encoder, encoders, spool }: StreamContext) {
    this.#response = response;
    this.#encoder = encoder;
    this.#encoders = encoders;
    this.#spool = spool;
    this.#input = new OverflowBuffer(spool, this);
    this.output = new UpstreamResponse(head, response.live, this);
    encoder.stream.on('data', (chunk: Buffer) => this.output.push(chunk));
    encoder.stream.on('end', () => this.#finish());
    encoder.stream.on('error', (cause) => this.onLost(cause));
  }

  start(): void {
    this.#response.delivery = this;
    for (const chunk of this.#response.chunks.splice(0)) this.onData(chunk);
    if (this.#response.ended) this.onEnd();
  }

  // The container's side ---------------------------------------------------------------------------------------------

  onData(chunk: Buffer): boolean {
    if (this.#over) return true;
    this.#full = !this.#input.push(chunk);
    this.#pump();
    return false;
  }

  onEnd(): void {
    this.#pump();
  }

  onFailure({ code, cause }: WunderproxyError): void {
    if (this.#over) return;
    this.#release();
    this.output.fail(code, cause);
  }

  /** A live response comes as fast as its client reads; of others the container is rid as soon as possible. */
  #throttle(): void {
    const busy = this.#blocked || this.#encoding !== null;
    const hold = this.#full || (this.#response.live && busy);
    if (hold === this.#held || this.#response.ended) return;
    this.#held = hold;
    if (hold) this.#response.source.pause();
    else this.#response.source.resume();
  }

  // The encoder's side -----------------------------------------------------------------------------------------------

  #pump(): void {
    // The input buffer tells of its room in the middle of giving a piece: nothing may overtake that piece.
    if (this.#taking || this.#over) return;
    if (this.#encoding === null && !this.#blocked && !this.#finishing) this.#next();
    this.#throttle();
  }

  #next(): void {
    this.#taking = true;
    const piece = this.#take();
    this.#taking = false;
    const last = this.#response.ended && this.#input.empty;
    if (piece === null && !last) return;
    this.#finishing = last;
    this.#encoding = piece?.length ?? 0;
    this.#spool.holdMemory(this.#encoding);
    this.#encoders.run((done) => {
      if (this.#over) return done();
      this.#done = done;
      const { stream } = this.#encoder;
      if (!last) stream.write(piece, () => this.#encoded());
      else if (piece === null) stream.end();
      else stream.end(piece);
    });
  }

  /** What waits, up to about the size of a piece. */
  #take(): Buffer | null {
    const chunks: Buffer[] = [];
    for (let bytes = 0; bytes < PIECE;) {
      const chunk = this.#input.shift();
      if (chunk === null) break;
      chunks.push(chunk);
      bytes += chunk.length;
    }
    if (chunks.length === 0) return null;
    return chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks);
  }

  #encoded(): void {
    if (this.#over) return;
    this.#settle();
    this.#pump();
  }

  #settle(): void {
    this.#spool.releaseMemory(this.#encoding ?? 0);
    this.#encoding = null;
    this.#done?.();
    this.#done = null;
  }

  #finish(): void {
    if (this.#over) return;
    this.#release();
    this.output.end(compressedTrailers(this.#response.trailers));
  }

  #release(): void {
    this.#over = true;
    this.#settle();
    this.#input.dispose();
    this.#encoders.close(this.#encoder);
  }

  // The client's side ------------------------------------------------------------------------------------------------

  pause(): void {
    this.#blocked = true;
    this.#pump();
  }

  resume(): void {
    this.#blocked = false;
    this.#pump();
  }

  abort(): void {
    if (this.#over) return;
    this.#release();
    this.#response.source.abort();
  }

  get overran(): boolean {
    return this.#response.source.overran;
  }

  // The input buffer's side ------------------------------------------------------------------------------------------

  onReadable(): void {
    this.#pump();
  }

  onRoom(): void {
    this.#full = false;
    this.#pump();
  }

  onLost(cause: unknown): void {
    if (this.#over) return;
    // First: the source would have it that the client went away.
    this.onFailure(new WunderproxyError('internal_error', { cause }));
    this.#response.source.abort();
  }
}
