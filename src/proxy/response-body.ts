import { type ErrorCode, WunderproxyError } from '../errors.ts';
import type { Exchange, ExchangeOwner, Fields, ResponseHead } from './exchange.ts';
import { OverflowBuffer, type OverflowOwner } from './overflow.ts';
import type { Spool } from './spool.ts';

const EMPTY = Buffer.alloc(0);

/** The container's end of a response. */
export interface ResponseSource {
  pause(): void;
  resume(): void;
  /** Nobody wants the rest. */
  abort(): void;
  /** After the end: whether there were bytes beyond it. */
  readonly overran: boolean;
}

/** What takes a response's body as it comes. */
export interface ResponseSink {
  /** Returns whether the bytes are not needed any more; else the chunk is the sink's to keep. */
  onData(chunk: Buffer): boolean;
  onEnd(): void;
  /** There will be no end. */
  onFailure(error: WunderproxyError): void;
}

/** A container's response: filled by the dispatch stage as it arrives, emptied by `deliver`. */
export class UpstreamResponse {
  head: ResponseHead;
  /** See headers.ts: not to be buffered. */
  readonly live: boolean;
  readonly source: ResponseSource;
  readonly chunks: Buffer[] = [];
  trailers: Fields = [];
  ended = false;
  failure: ErrorCode | null = null;
  /** Until there is one, the body gathers in `chunks`. */
  delivery: ResponseSink | null = null;

  constructor(head: ResponseHead, live: boolean, source: ResponseSource) {
    this.head = head;
    this.live = live;
    this.source = source;
  }

  /** See ResponseSink. */
  push(chunk: Buffer): boolean {
    if (this.delivery !== null) return this.delivery.onData(chunk);
    this.chunks.push(chunk);
    return false;
  }

  /**
   * All of the body, when it has ended. It is not kept here: V8 may find out late that a response is over, and collects its
   * whole heap the more often the more memory hangs on what it has not looked at yet.
   */
  takeBody(): Buffer {
    const [first, ...others] = this.chunks.splice(0);
    if (first === undefined) return EMPTY;
    return others.length === 0 ? first : Buffer.concat([first, ...others]);
  }

  end(trailers: Fields): void {
    this.trailers = trailers;
    this.ended = true;
    this.delivery?.onEnd();
  }

  /** The container broke off, or it was cut. */
  fail(code: ErrorCode, cause?: unknown): void {
    this.failure = code;
    this.delivery?.onFailure(new WunderproxyError(code, { cause }));
  }
}

/**
 * Hands a response to the client: at once, then it returns null, or as the rest of it comes. Throws or rejects when it could
 * not be handed over whole; the client's connection is broken then, unless nothing was written yet.
 */
export function deliver(exchange: Exchange, response: UpstreamResponse, spool: Spool): Promise<void> | null {
  if (response.failure !== null) throw new WunderproxyError(response.failure);
  if (exchange.over) {
    response.source.abort();
    throw new WunderproxyError('client_closed');
  }
  if (response.ended && response.trailers.length === 0) {
    if (response.source.overran) throw new WunderproxyError('upstream_malformed');
    // Most responses are whole by the time that their head is looked at: they need only one write.
    exchange.reply(response.head, response.takeBody());
    return null;
  }
  return new Promise((resolve, reject) => new Delivery(exchange, response, spool, resolve, reject).start());
}

/**
 * A response on its way to a client that may be slower than the container: the container is never made to wait for the
 * client, unless the response is live or there is no room left.
 */
class Delivery implements ResponseSink, ExchangeOwner, OverflowOwner {
  readonly #exchange: Exchange;
  readonly #response: UpstreamResponse;
  readonly #spool: Spool;
  readonly #resolve: () => void;
  readonly #reject: (error: WunderproxyError) => void;
  /** The client has not taken what was written. */
  #blocked = false;
  /** Made when the client is seen to be slower. */
  #overflow: OverflowBuffer | null = null;

  constructor(
    exchange: Exchange,
    response: UpstreamResponse,
    spool: Spool,
    resolve: () => void,
    reject: (error: WunderproxyError) => void,
  ) {
    this.#exchange = exchange;
    this.#response = response;
    this.#spool = spool;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  start(): void {
    this.#exchange.owner = this;
    this.#response.delivery = this;
    this.#exchange.start(this.#response.head);
    for (const chunk of this.#response.chunks.splice(0)) this.onData(chunk);
    if (this.#response.ended) this.onEnd();
  }

  // The container's side ---------------------------------------------------------------------------------------------

  onData(chunk: Buffer): boolean {
    if (!this.#blocked && this.#overflow === null) {
      this.#blocked = !this.#exchange.write(chunk);
      if (this.#blocked && this.#response.live) this.#response.source.pause();
      return this.#exchange.flushed;
    }
    this.#overflow ??= new OverflowBuffer(this.#spool, this);
    if (!this.#overflow.push(chunk)) this.#response.source.pause();
    return false;
  }

  onEnd(): void {
    if (this.#overflow === null) this.#finish();
  }

  onFailure(error: WunderproxyError): void {
    this.#exchange.owner = null;
    this.#overflow?.dispose();
    this.#exchange.abort();
    this.#reject(error);
  }

  // The client's side ------------------------------------------------------------------------------------------------

  onDrain(): void {
    this.#blocked = false;
    if (this.#overflow !== null) this.#pump(this.#overflow);
    else if (this.#response.live) this.#response.source.resume();
  }

  #pump(overflow: OverflowBuffer): void {
    while (!this.#blocked) {
      const chunk = overflow.shift();
      if (chunk === null) break;
      this.#blocked = !this.#exchange.write(chunk);
    }
    if (!overflow.empty) return;
    overflow.dispose();
    this.#overflow = null;
    if (this.#response.live && !this.#blocked) this.#response.source.resume();
    if (this.#response.ended) this.#finish();
  }

  #finish(): void {
    this.#exchange.end(this.#response.trailers);
    this.#resolve();
  }

  onClientGone(): void {
    this.#overflow?.dispose();
    this.#response.source.abort();
    this.#reject(new WunderproxyError('client_closed'));
  }

  // The buffer's side ------------------------------------------------------------------------------------------------

  onReadable(): void {
    if (this.#overflow !== null) this.#pump(this.#overflow);
  }

  onRoom(): void {
    this.#response.source.resume();
  }

  onLost(cause: unknown): void {
    // First: the source would have it that the client went away.
    this.onFailure(new WunderproxyError('internal_error', { cause }));
    this.#response.source.abort();
  }
}
