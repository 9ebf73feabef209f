import type { Socket } from 'node:net';
import type { ErrorCode } from '../errors.ts';
import type { BodySource, Client, Exchange, ExchangeOwner, Fields, RequestHead, ResponseHead } from './exchange.ts';
import { lowerCaseName } from './http1-head.ts';
import { H2_ERROR, type H2Error } from './http2-frames.ts';
import type { Http2Head } from './http2-head.ts';
import { Http2RequestBody } from './http2-request-body.ts';
import { Pieces } from './pieces.ts';
import { Trace } from './trace.ts';

/** What an exchange needs of its connection. */
export interface StreamConnection {
  readonly client: Client;
  /** The client does not take what is written. */
  readonly blocked: boolean;
  sendHeaders(exchange: Http2Exchange, fields: readonly string[], endStream: boolean): void;
  /** The exchange has something to send: takes it, as far as the client lets it. */
  push(exchange: Http2Exchange): void;
  /** Bytes of a request's body have been used: the client may send as many more. */
  onConsumed(exchange: Http2Exchange, bytes: number): void;
  /** All of the response has been written; `onFlushed` is to be called when the kernel has it. */
  onAnswered(exchange: Http2Exchange): void;
  /** The stream is of no further use. */
  reset(exchange: Http2Exchange, code: H2Error): void;
}

/** A piece of a response on its way out. */
export interface OutgoingData {
  chunk: Buffer;
  /** Nothing comes after it, not even trailers. */
  last: boolean;
}

const EMPTY = Buffer.alloc(0);
/** Who takes fewer bytes than this in the write timeout is not reading. */
const PROGRESS = 1_024;

/** One stream (RFC 9113 section 5): a request and its response. It ends with the response, whether the request did or not. */
export class Http2Exchange implements Exchange {
  readonly streamId: number;
  readonly head: RequestHead;
  readonly startedAt = Date.now();
  readonly trace: Trace;
  readonly finished: Promise<void>;
  id = '';
  owner: ExchangeOwner | null = null;
  status = 0;
  over = false;
  readonly flushed = false;
  failure: ErrorCode | null = null;
  /** What the client lets us send on this stream, in bytes; negative when it has taken back some of it. */
  sendWindow: number;
  /** What the client may still send on this stream, in bytes. */
  receiveWindow: number;
  /** Of what it has sent, the bytes that were used and not yet given back. */
  unreturned = 0;
  readonly #body: Http2RequestBody | null;
  readonly #connection: StreamConnection;
  readonly #withoutContent: boolean;
  #continue: boolean;

  readonly #queue = new Pieces();
  /** What is left of the piece that is being sent. */
  #current: Buffer = EMPTY;
  /** Bytes of the response's body that are still to come; null when that is not known. */
  #left: number | null = null;
  /** `write` has returned false. */
  #blocked = false;
  #ending = false;
  #trailers: string[] = [];
  /** END_STREAM is written. */
  #answered = false;
  /** Since when (ms by `performance.now()`) the client has not taken what there is; 0 when there is nothing. */
  #waitingSince = 0;
  #progress = 0;
  #finish: () => void;

  /** @param begunAt when the first byte of its fields came, by `performance.now()` */
  constructor(
    connection: StreamConnection,
    streamId: number,
    head: Http2Head,
    requestEnded: boolean,
    windows: { send: number; receive: number },
    begunAt: number,
  ) {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.finished = promise;
    this.#finish = resolve;
    this.#connection = connection;
    this.streamId = streamId;
    this.head = head;
    this.trace = new Trace('HTTP/2', begunAt);
    this.sendWindow = windows.send;
    this.receiveWindow = windows.receive;
    this.#withoutContent = head.method === 'HEAD';
    this.trace.bytesIn = sizeOf(head.fields) + head.method.length + head.target.length;
    this.#continue = head.expectsContinue;
    this.#body = requestEnded ? null : new Http2RequestBody(head.announced, this);
  }

  get client(): Client {
    return this.#connection.client;
  }

  get body(): BodySource | null {
    return this.#body;
  }

  /** The client has sent all of the request. */
  get requestEnded(): boolean {
    return this.#body?.ended ?? true;
  }

  // Reading ----------------------------------------------------------------------------------------------------------

  /** Bytes of the request's body; they count as used when somebody has taken them. */
  receive(data: Buffer, ended: boolean): void {
    this.#continue = false;
    this.trace.bodyIn += data.length;
    this.trace.bytesIn += data.length;
    this.#body?.receive(data, ended);
  }

  /** What comes after the body is not valid. */
  onBadTrailers(): void {
    this.#body?.onBadTrailers();
  }

  /** Somebody wants the body. */
  onWanted(): void {
    if (this.#continue && !this.over) this.#connection.sendHeaders(this, [':status', '100'], false);
    this.#continue = false;
  }

  onConsumed(bytes: number): void {
    this.#connection.onConsumed(this, bytes);
  }

  // Writing ----------------------------------------------------------------------------------------------------------

  inform(status: number, _reason: string, fields: Fields): void {
    if (this.over || this.status !== 0 || this.#connection.blocked) return;
    this.#connection.sendHeaders(this, [':status', String(status), ...inLowerCase(fields)], false);
  }

  reply(head: ResponseHead, body: Buffer): void {
    if (this.over) return;
    const ended = this.#begin(head, body.length);
    if (ended) return;
    this.#left = 0;
    this.#ending = true;
    this.#queue.push(body);
    this.#push();
  }

  start(head: ResponseHead): void {
    if (!this.over) this.#begin(head, head.length);
  }

  /** Returns whether the head is all there is. */
  #begin(head: ResponseHead, bodyLength: number | null): boolean {
    // RFC 9110 section 15: what is no status code is to be taken for a server's error; RFC 9113 has no way to say it.
    this.status = head.status > 599 ? 502 : head.status;
    const fields = [':status', String(this.status), ...inLowerCase(head.fields)];
    const empty = this.#withoutContent || this.status === 204 || this.status === 205 || this.status === 304;
    const length = empty ? head.length : bodyLength;
    if (length !== null && this.status !== 204 && this.status !== 205) fields.push('content-length', String(length));
    this.#left = empty ? 0 : bodyLength;
    const ended = this.#left === 0;
    this.trace.bytesOut += sizeOf(fields);
    this.#connection.sendHeaders(this, fields, ended);
    if (ended) this.#onAnswered();
    return ended;
  }

  write(chunk: Buffer): boolean {
    if (this.over || this.#answered || chunk.length === 0) return true;
    // What goes beyond the announced length would make the response malformed.
    const allowed = this.#left === null ? chunk.length : Math.min(chunk.length, this.#left);
    if (this.#left !== null) this.#left -= allowed;
    if (allowed === 0) return true;
    this.#queue.push(chunk.subarray(0, allowed));
    this.#push();
    this.#blocked = this.hasData;
    return !this.#blocked;
  }

  end(trailers: Fields): void {
    if (this.over || this.#answered) return;
    if (this.#left !== null && this.#left > 0) return this.abort();
    this.#ending = true;
    this.#trailers = inLowerCase(trailers);
    this.#push();
  }

  #push(): void {
    this.#connection.push(this);
    if (this.#waitingSince === 0 && this.hasMore) {
      this.#waitingSince = performance.now();
      this.#progress = 0;
    }
  }

  /** Bytes of the body wait to be sent. */
  get hasData(): boolean {
    return this.#current.length > 0 || !this.#queue.empty;
  }

  /** There is something to send that has not been taken. */
  get hasMore(): boolean {
    return this.hasData || (this.#ending && !this.#answered);
  }

  /** Whether something can be sent now: bytes need a window, an end does not. */
  get sendable(): boolean {
    return this.hasData ? this.sendWindow > 0 : this.#ending && !this.#answered;
  }

  /** At most so many bytes of what is to be sent next; the caller writes them. Call `onSent` after it has. */
  take(most: number): OutgoingData {
    if (this.#current.length === 0) this.#current = this.#queue.shift() ?? EMPTY;
    const chunk = this.#current.subarray(0, most);
    this.#current = this.#current.subarray(chunk.length);
    const complete = this.#left === 0 || (this.#ending && this.#left === null);
    return { chunk, last: complete && !this.hasData && this.#trailers.length === 0 };
  }

  /** What `take` gave is on its way. */
  onSent({ chunk, last }: OutgoingData): void {
    if (last) this.#onAnswered();
    else if (this.#ending && !this.hasData && this.#trailers.length > 0) this.#sendTrailers();
    this.#progress += chunk.length;
    this.trace.bodyOut += chunk.length;
    this.trace.bytesOut += chunk.length;
    if (!this.hasMore) {
      this.#waitingSince = 0;
    } else if (this.#waitingSince !== 0 && this.#progress >= PROGRESS) {
      this.#waitingSince = performance.now();
      this.#progress = 0;
    }
    if (!this.#blocked || this.hasData) return;
    this.#blocked = false;
    this.owner?.onDrain();
  }

  #sendTrailers(): void {
    this.trace.bytesOut += sizeOf(this.#trailers);
    this.#connection.sendHeaders(this, this.#trailers, true);
    this.#onAnswered();
  }

  #onAnswered(): void {
    this.#answered = true;
    this.#body?.drop();
    this.#connection.onAnswered(this);
  }

  /** The kernel has all of the response. */
  onFlushed(): void {
    if (this.over) return;
    this.over = true;
    this.owner = null;
    this.#finish();
  }

  /** Nothing: other streams of the connection are not concerned, and this one ends with its response. */
  close(): void {}

  switchProtocols(): Socket {
    throw new Error('HTTP/2 has no change of protocols: RequestHead.upgrade is always null');
  }

  // Ends -------------------------------------------------------------------------------------------------------------

  /** Ends it when the client has not taken anything for so long (ms). */
  checkDeadline(now: number, writeTimeout: number): void {
    if (this.#waitingSince !== 0 && now - this.#waitingSince >= writeTimeout) this.giveUp('write_timeout');
  }

  /** As `abort`, for a reason that is to be told. */
  giveUp(code: ErrorCode): void {
    if (this.over) return;
    this.failure = code;
    this.abort();
  }

  abort(): void {
    if (this.over) return;
    if (!this.#answered) this.#connection.reset(this, H2_ERROR.INTERNAL_ERROR);
    this.onClientGone();
  }

  /** The client has reset the stream, or the connection is gone. */
  onClientGone(): void {
    if (this.over) return;
    this.over = true;
    if (this.status === 0) this.status = 499;
    const sink = this.#body?.drop();
    this.#queue.takeAll();
    this.#current = EMPTY;
    this.#waitingSince = 0;
    const { owner } = this;
    this.owner = null;
    this.#finish();
    sink?.onBodyError('client_closed');
    owner?.onClientGone();
  }
}

/** Of names and values, in bytes; what HPACK makes of them is not counted. */
function sizeOf(fields: readonly string[]): number {
  return fields.reduce((bytes, text) => bytes + text.length, 0);
}

function inLowerCase(fields: Fields): string[] {
  return fields.map((text, i) => (i % 2 === 0 ? (lowerCaseName(text) ?? text.toLowerCase()) : text));
}
