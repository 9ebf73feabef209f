import type { ErrorCode } from '../errors.ts';
import { Allowance } from './allowance.ts';
import type { Client, Exchange } from './exchange.ts';
import type { ReceivedFields } from './http2-blocks.ts';
import { Http2Exchange, type StreamConnection } from './http2-exchange.ts';
import {
  ConnectionError,
  DEFAULT_WINDOW,
  H2_ERROR,
  type H2Error,
  MAX_STREAM_ID,
  MAX_WINDOW,
  rstStream,
  windowUpdate,
} from './http2-frames.ts';
import { areTrailers, type Http2Head, parseRequestFields, UNREADABLE } from './http2-head.ts';
import { OpenStreams } from './http2-open.ts';
import type { Http2Sender } from './http2-sender.ts';

/** Streams that a client may have open at once. */
export const MAX_STREAMS = 128;
/**
 * What a client may send before any of it was used, in bytes: of one request, and of all together. So no more waits here
 * for a disk that is busy; uploads get this much for each round trip.
 */
export const STREAM_WINDOW = 2 ** 20;
export const CONNECTION_WINDOW = 2 ** 20;

/**
 * Requests that a client may begin and then take back, at once and per second: each may have reached the application
 * (CVE-2023-44487). Streams that we reset because of what the client does count as well (CVE-2025-8671).
 */
const RESETS = { most: 200, perSecond: 20 };

/** Of a piece of a body for a stream that is gone, as a part of an idle frame. */
const COST_OF_LATE_DATA = 1 / 4;

const EMPTY = Buffer.alloc(0);

/** What the streams of a connection need of it. */
export interface StreamsHost {
  readonly client: Client;
  serve(exchange: Exchange): void;
  /** Answers what is not a valid request, or counts one that was over before it could be served. */
  refuse(exchange: Exchange, code: ErrorCode): void;
  /** The client has sent something that only costs time. Throws ConnectionError when that is too often. */
  spendIdleFrame(cost?: number): void;
  /** Whether one more stream may be served. */
  admitStream(): boolean;
  /** A stream was opened, */
  onStream(): void;
  /** … or has ended. */
  onStreamEnd(): void;
  /** A valid request was answered. */
  onAnswered(): void;
  /** No stream is open, and all responses are with the kernel. */
  onIdle(): void;
}

/** The streams of one connection (RFC 9113 section 5) and the windows for what they receive. */
export class Http2Streams implements StreamConnection {
  /** The highest stream that the client has opened. */
  lastId = 0;
  readonly #host: StreamsHost;
  readonly #sender: Http2Sender;
  readonly #resets = new Allowance(RESETS.most, RESETS.perSecond);
  readonly #open = new OpenStreams();
  /** Those that were opened by what is being read. */
  #fresh: Http2Exchange[] = [];
  /** Those whose response is written but not with the kernel yet, and where it ends. */
  readonly #answered: { exchange: Http2Exchange; end: number }[] = [];
  /** Streams above it are not served any more. */
  #finalId = MAX_STREAM_ID;
  /** What the client lets us send on each new stream, in bytes. */
  #sendWindow = DEFAULT_WINDOW;
  #receiveWindow = CONNECTION_WINDOW;
  #unreturned = 0;

  constructor(host: StreamsHost, sender: Http2Sender) {
    this.#host = host;
    this.#sender = sender;
  }

  get client(): Client {
    return this.#host.client;
  }

  get blocked(): boolean {
    return this.#sender.blocked;
  }

  get idle(): boolean {
    return this.#open.size === 0 && this.#answered.length === 0;
  }

  // What the client says ---------------------------------------------------------------------------------------------

  /** @param begunAt when their first byte came, by `performance.now()` */
  onFields(received: ReceivedFields, begunAt: number): void {
    const { streamId, endStream } = received;
    if (streamId > this.lastId) {
      this.lastId = streamId;
      if (streamId <= this.#finalId) this.#onRequest(received, begunAt);
      return;
    }
    const exchange = this.#open.get(streamId);
    // They may have been on their way when the stream ended.
    if (exchange === undefined) return this.#host.spendIdleFrame();
    if (exchange.requestEnded) return this.#reject(exchange, H2_ERROR.STREAM_CLOSED);
    if (endStream && areTrailers(received)) exchange.receive(EMPTY, true);
    else exchange.onBadTrailers();
  }

  #onRequest(received: ReceivedFields, begunAt: number): void {
    const { streamId, endStream } = received;
    if (this.#open.size >= MAX_STREAMS || !this.#host.admitStream()) {
      this.#host.spendIdleFrame();
      return this.#sender.send(rstStream(streamId, H2_ERROR.REFUSED_STREAM));
    }
    const head = parseRequestFields(received, this.client.scheme);
    // RFC 9113 section 8.1.1: no body is not what was announced.
    const bodiless = typeof head !== 'string' && endStream && (head.announced ?? 0) > 0;
    if (typeof head === 'string' || bodiless) {
      this.#host.spendIdleFrame();
      return this.refuse(streamId, endStream, typeof head === 'string' ? head : 'bad_request', begunAt);
    }
    this.#fresh.push(this.#add(streamId, head, endStream, begunAt));
    // Not at once: what is taken back in the same breath must not reach the application.
    if (this.#fresh.length === 1) setImmediate(() => this.#serveFresh());
  }

  #serveFresh(): void {
    for (const exchange of this.#fresh.splice(0)) {
      if (exchange.over) this.#host.refuse(exchange, 'client_closed');
      else this.#host.serve(exchange);
    }
  }

  /** Answers a request whose fields can't be read. */
  refuse(streamId: number, endStream: boolean, code: ErrorCode, begunAt: number): void {
    this.lastId = Math.max(this.lastId, streamId);
    this.#host.refuse(this.#add(streamId, UNREADABLE, endStream, begunAt), code);
  }

  #add(streamId: number, head: Http2Head, endStream: boolean, begunAt: number): Http2Exchange {
    const windows = { send: this.#sendWindow, receive: STREAM_WINDOW };
    const exchange = new Http2Exchange(this, streamId, head, endStream, windows, begunAt);
    this.#open.add(exchange);
    this.#host.onStream();
    return exchange;
  }

  onBody(streamId: number, data: Buffer, size: number, ended: boolean): void {
    this.#checkOpened(streamId);
    // RFC 9113 section 6.9.1: padding counts, and so does what comes for a stream that is gone.
    this.#receiveWindow -= size;
    if (this.#receiveWindow < 0) throw new ConnectionError(H2_ERROR.FLOW_CONTROL_ERROR, 'more than the window allows');
    const exchange = this.#open.get(streamId);
    if (exchange === undefined) {
      // A client may have much on its way when it learns that nobody wants it.
      this.#host.spendIdleFrame(COST_OF_LATE_DATA);
      return this.#return(size);
    }
    exchange.receiveWindow -= size;
    if (exchange.requestEnded || exchange.receiveWindow < 0) {
      this.#return(size);
      return this.#reject(exchange, exchange.requestEnded ? H2_ERROR.STREAM_CLOSED : H2_ERROR.FLOW_CONTROL_ERROR);
    }
    this.onConsumed(exchange, size - data.length);
    exchange.receive(data, ended);
  }

  /** RFC 9113 section 5.1: nothing but fields may come on a stream that the client has not opened. */
  #checkOpened(streamId: number): void {
    if (streamId <= this.lastId && streamId % 2 === 1) return;
    throw new ConnectionError(H2_ERROR.PROTOCOL_ERROR, 'there is no such stream');
  }

  onReset(streamId: number): void {
    this.#checkOpened(streamId);
    const exchange = this.#open.get(streamId);
    if (exchange === undefined) return this.#host.spendIdleFrame();
    this.#forget(exchange);
    exchange.onClientGone();
    this.#onEnded();
    this.#spendReset();
  }

  #spendReset(): void {
    if (!this.#resets.spend(1)) throw new ConnectionError(H2_ERROR.ENHANCE_YOUR_CALM, 'too many streams are reset');
  }

  /** Ends a stream whose client breaks the rules (RFC 9113 section 5.4.2). */
  #reject(exchange: Http2Exchange, code: H2Error): void {
    this.reset(exchange, code);
    exchange.onClientGone();
    this.#spendReset();
  }

  onWindow(streamId: number, increment: number): void {
    if (streamId === 0) {
      if (increment === 0) throw new ConnectionError(H2_ERROR.PROTOCOL_ERROR, 'a window is enlarged by nothing');
      if (this.#sender.enlargeWindow(increment)) return;
      throw new ConnectionError(H2_ERROR.FLOW_CONTROL_ERROR, 'the window is too large');
    }
    this.#checkOpened(streamId);
    const exchange = this.#open.get(streamId);
    if (exchange === undefined) return;
    if (increment === 0) return this.#reject(exchange, H2_ERROR.PROTOCOL_ERROR);
    exchange.sendWindow += increment;
    if (exchange.sendWindow > MAX_WINDOW) return this.#reject(exchange, H2_ERROR.FLOW_CONTROL_ERROR);
    this.#sender.push(exchange);
  }

  /** RFC 9113 section 6.9.2: a new initial window moves those of all open streams. */
  onInitialWindow(window: number): void {
    const by = window - this.#sendWindow;
    this.#sendWindow = window;
    for (const exchange of this.#open.all()) {
      exchange.sendWindow += by;
      if (exchange.sendWindow > MAX_WINDOW) {
        throw new ConnectionError(H2_ERROR.FLOW_CONTROL_ERROR, 'a window is too large');
      }
    }
    for (const exchange of this.#open.all()) this.#sender.push(exchange);
  }

  // What exchanges say -----------------------------------------------------------------------------------------------

  onConsumed(exchange: Http2Exchange, bytes: number): void {
    this.#return(bytes);
    if (exchange.requestEnded || this.#open.get(exchange.streamId) === undefined) return;
    exchange.unreturned += bytes;
    if (exchange.unreturned < STREAM_WINDOW / 2) return;
    exchange.receiveWindow += exchange.unreturned;
    this.#sender.send(windowUpdate(exchange.streamId, exchange.unreturned));
    exchange.unreturned = 0;
  }

  #return(bytes: number): void {
    this.#unreturned += bytes;
    if (this.#unreturned < CONNECTION_WINDOW / 2) return;
    this.#receiveWindow += this.#unreturned;
    this.#sender.send(windowUpdate(0, this.#unreturned));
    this.#unreturned = 0;
  }

  sendHeaders(exchange: Http2Exchange, fields: readonly string[], endStream: boolean): void {
    this.#sender.sendHeaders(exchange.streamId, fields, endStream);
  }

  push(exchange: Http2Exchange): void {
    this.#sender.push(exchange);
  }

  onAnswered(exchange: Http2Exchange): void {
    this.#forget(exchange);
    // RFC 9113 section 8.1: the rest of the request is not wanted, and the response is whole.
    if (!exchange.requestEnded) this.#sender.send(rstStream(exchange.streamId, H2_ERROR.NO_ERROR));
    if (exchange.head !== UNREADABLE) this.#host.onAnswered();
    this.#answered.push({ exchange, end: this.#sender.position });
  }

  reset(exchange: Http2Exchange, code: H2Error): void {
    this.#forget(exchange);
    this.#sender.send(rstStream(exchange.streamId, code));
    this.#onEnded();
  }

  #forget(exchange: Http2Exchange): void {
    if (!this.#open.delete(exchange.streamId)) return;
    this.#sender.forget(exchange);
    this.#host.onStreamEnd();
  }

  #onEnded(): void {
    if (this.idle) this.#host.onIdle();
  }

  // What the connection says -----------------------------------------------------------------------------------------

  /** More of what was sent is with the kernel. */
  onProgress(): void {
    const { flushed } = this.#sender;
    let first = this.#answered[0];
    if (first === undefined) return;
    for (; first !== undefined && first.end <= flushed; first = this.#answered[0]) {
      this.#answered.shift();
      first.exchange.onFlushed();
    }
    this.#onEnded();
  }

  /** Serves no stream from here on. */
  close(): void {
    this.#finalId = Math.min(this.#finalId, this.lastId);
  }

  checkDeadlines(now: number, writeTimeout: number): void {
    for (const exchange of this.#open.all()) exchange.checkDeadline(now, writeTimeout);
  }

  /** Breaks off what runs. */
  giveUp(code: ErrorCode): void {
    for (const exchange of this.#open.all()) exchange.giveUp(code);
  }

  /** The connection is lost: so are they. `failure` is why, when it is not the client that went away. */
  drop(failure: ErrorCode | null = null): void {
    for (const exchange of [...this.#open.all(), ...this.#answered.splice(0).map(({ exchange }) => exchange)]) {
      this.#forget(exchange);
      exchange.failure ??= failure;
      exchange.onClientGone();
    }
  }
}
