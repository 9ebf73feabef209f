import { type ErrorCode, WunderproxyError } from '../errors.ts';
import type { Exchange, ExchangeOwner, Fields, ResponseHead } from './exchange.ts';

/** The container's end of a response. */
export interface ResponseSource {
  pause(): void;
  resume(): void;
  /** Nobody wants the rest. */
  abort(): void;
}

/** A container's response: filled by the dispatch stage as it arrives, emptied by `deliver`. */
export class UpstreamResponse {
  readonly head: ResponseHead;
  readonly source: ResponseSource;
  readonly chunks: Buffer[] = [];
  trailers: Fields = [];
  ended = false;
  failure: ErrorCode | null = null;
  delivery: Delivery | null = null;

  constructor(head: ResponseHead, source: ResponseSource) {
    this.head = head;
    this.source = source;
  }

  push(chunk: Buffer): void {
    if (this.delivery === null) this.chunks.push(chunk);
    else this.delivery.onData(chunk);
  }

  end(trailers: Fields): void {
    this.trailers = trailers;
    this.ended = true;
    this.delivery?.onEnd();
  }

  /** The container broke off, or it was cut. */
  fail(code: ErrorCode): void {
    this.failure = code;
    this.delivery?.onFailure(code);
  }
}

/**
 * Hands a response to the client. Rejects when it could not be handed over whole; the client's connection is broken then,
 * unless nothing was written yet.
 */
export async function deliver(exchange: Exchange, response: UpstreamResponse): Promise<void> {
  if (response.failure !== null) throw new WunderproxyError(response.failure);
  if (exchange.over) {
    response.source.abort();
    throw new WunderproxyError('client_closed');
  }
  if (response.ended && response.trailers.length === 0) {
    // Most responses are whole by the time that their head is looked at: they need only one write.
    const { chunks } = response;
    exchange.reply(response.head, chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks));
    return;
  }
  await new Promise<void>((resolve, reject) => new Delivery(exchange, response, resolve, reject).start());
}

/** A response on its way to a client that may be slower than the container. */
class Delivery implements ExchangeOwner {
  readonly #exchange: Exchange;
  readonly #response: UpstreamResponse;
  readonly #resolve: () => void;
  readonly #reject: (error: WunderproxyError) => void;

  constructor(
    exchange: Exchange,
    response: UpstreamResponse,
    resolve: () => void,
    reject: (error: WunderproxyError) => void,
  ) {
    this.#exchange = exchange;
    this.#response = response;
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

  onData(chunk: Buffer): void {
    if (!this.#exchange.write(chunk)) this.#response.source.pause();
  }

  onDrain(): void {
    this.#response.source.resume();
  }

  onEnd(): void {
    this.#exchange.end(this.#response.trailers);
    this.#resolve();
  }

  onFailure(code: ErrorCode): void {
    this.#exchange.owner = null;
    this.#exchange.abort();
    this.#reject(new WunderproxyError(code));
  }

  onClientGone(): void {
    this.#response.source.abort();
    this.#reject(new WunderproxyError('client_closed'));
  }
}
