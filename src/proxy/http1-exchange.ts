import type { Socket } from 'node:net';
import type { ErrorCode } from '../errors.ts';
import type {
  BodySink,
  BodySource,
  Client,
  Exchange,
  ExchangeOwner,
  Fields,
  RequestHead,
  ResponseHead,
} from './exchange.ts';
import { type BodyDecoder, ChunkedDecoder, LengthDecoder, MALFORMED, NEED_MORE } from './http1-body.ts';
import { fieldText, type Http1Head } from './http1-head.ts';
import { Trace } from './trace.ts';

/** What an exchange needs of its connection. */
export interface ExchangeConnection {
  readonly client: Client;
  /** The connection does not live on after the next response. */
  readonly retiring: boolean;
  /** Bytes that were received before somebody wanted them. */
  takeHeld(): Buffer | null;
  /** Bytes that belong to what comes after this exchange. */
  giveBack(rest: Buffer): void;
  /** The client does not keep up with what is written. */
  onBlocked(): void;
  /** The exchange is over and all of its response is with the kernel. */
  onExchangeEnd(keepAlive: boolean): void;
  /** Lets go of the socket for a tunnel. */
  hijack(): void;
  /** Breaks the connection in a way that can't be taken for an orderly end. */
  reset(): void;
}

/** Bodies up to this many bytes go out in one write with their head: cheaper than a vectored write. */
const ONE_WRITE = 16 * 1024;
const EMPTY = Buffer.alloc(0);

/** One request on a connection and its response. */
export class Http1Exchange implements Exchange, BodySource {
  readonly head: RequestHead;
  readonly startedAt = Date.now();
  readonly trace: Trace;
  readonly body: BodySource | null;
  readonly finished: Promise<void>;
  /** See BodySource. */
  readonly length: number | null;
  id = '';
  owner: ExchangeOwner | null = null;
  status = 0;
  over = false;
  failure: ErrorCode | null = null;
  readonly #connection: ExchangeConnection;
  readonly #socket: Socket;
  readonly #http10: boolean;
  readonly #withoutContent: boolean;
  #keepAlive: boolean;
  #continue: boolean;
  #decoder: BodyDecoder | null;
  #sink: BodySink | null = null;
  #chunked = false;
  /** Bytes of the response's body that are still to come; null when that is not known. */
  #left: number | null = 0;
  #finish: () => void;

  /** @param begunAt when its first byte came, by `performance.now()` */
  constructor(connection: ExchangeConnection, socket: Socket, head: Http1Head, begunAt: number) {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.finished = promise;
    this.#finish = resolve;
    this.#connection = connection;
    this.#socket = socket;
    this.head = head;
    this.#http10 = head.http10;
    this.trace = new Trace(head.http10 ? 'HTTP/1.0' : 'HTTP/1.1', begunAt);
    this.#withoutContent = head.method === 'HEAD';
    this.#keepAlive = head.keepAlive;
    this.#continue = head.expectsContinue;
    this.length = head.bodyLength;
    this.#decoder =
      head.bodyLength === 0
        ? null
        : head.bodyLength === null
          ? new ChunkedDecoder()
          : new LengthDecoder(head.bodyLength);
    this.body = this.#decoder === null ? null : this;
  }

  get client(): Client {
    return this.#connection.client;
  }

  // Reading ----------------------------------------------------------------------------------------------------------

  /** Takes bytes of the request's body. Returns false when they are not for it, or not yet. */
  receive(chunk: Buffer): boolean {
    const decoder = this.#decoder;
    const sink = this.#sink;
    if (decoder === null || sink === null) return false;
    this.#continue = false;
    const used = decoder.decode(chunk, (data) => {
      this.trace.bodyIn += data.length;
      if (!sink.onBodyData(data)) this.#socket.pause();
    });
    this.trace.bytesIn += used < 0 ? chunk.length : used;
    if (used === NEED_MORE) return true;
    this.#sink = null;
    if (used === MALFORMED) {
      this.close();
      sink.onBodyError('bad_request');
      return true;
    }
    this.#decoder = null;
    this.#connection.giveBack(chunk.subarray(used));
    sink.onBodyEnd();
    return true;
  }

  read(sink: BodySink): void {
    this.#sink = sink;
    const held = this.#connection.takeHeld();
    if (held !== null) this.receive(held);
    else if (this.#continue && !this.over) this.#socket.write('HTTP/1.1 100 Continue\r\n\r\n', 'latin1');
    this.#continue = false;
    if (this.#sink !== null) this.#socket.resume();
  }

  resume(): void {
    if (this.#sink !== null) this.#socket.resume();
  }

  // Writing ----------------------------------------------------------------------------------------------------------

  inform(status: number, reason: string, fields: Fields): void {
    // RFC 9110 section 15.2: a 1xx response must not be sent to an HTTP/1.0 client.
    if (this.over || this.status !== 0 || this.#http10) return;
    // Nobody depends on them, and a container that sends them without end must not fill our memory.
    if (this.#socket.writableNeedDrain) return;
    this.#socket.write(`${headText(status, reason, fields)}\r\n`, 'latin1');
  }

  reply(head: ResponseHead, body: Buffer): void {
    if (this.over) return;
    const text = this.#begin(head, body.length);
    const content = this.#left === 0 ? EMPTY : body;
    this.#left = 0;
    this.#count(content.length, content.length);
    if (content.length <= ONE_WRITE) return this.#writeLast(text + content.toString('latin1'));
    this.#socket.cork();
    this.#socket.write(text, 'latin1');
    this.#socket.write(content);
    this.#socket.uncork();
    this.#end();
  }

  start(head: ResponseHead): void {
    if (this.over) return;
    this.#socket.write(this.#begin(head, head.length), 'latin1');
  }

  /** Content that is written, and the bytes that it takes with its framing. */
  #count(content: number, framed: number): void {
    this.trace.bodyOut += content;
    this.trace.bytesOut += framed;
  }

  /** The head's text; sets how the body is delimited (RFC 9112 section 6.3). */
  #begin(head: ResponseHead, bodyLength: number | null): string {
    this.status = head.status;
    // An answer before the request's end: where the next request begins would be guesswork.
    if (this.#connection.retiring || this.#decoder !== null) this.#keepAlive = false;
    let text = headText(head.status, head.reason, head.fields);
    if (this.#withoutContent || head.status === 204 || head.status === 304) {
      this.#left = 0;
      if (head.length !== null && head.status !== 204) text += `Content-Length: ${head.length}\r\n`;
    } else if (bodyLength !== null) {
      this.#left = bodyLength;
      text += `Content-Length: ${bodyLength}\r\n`;
    } else {
      this.#left = null;
      this.#chunked = !this.#http10;
      if (this.#chunked) text += 'Transfer-Encoding: chunked\r\n';
      else this.#keepAlive = false;
    }
    if (!this.#keepAlive) text += 'Connection: close\r\n';
    else if (this.#http10) text += 'Connection: keep-alive\r\n';
    this.trace.bytesOut += text.length + 2;
    return `${text}\r\n`;
  }

  write(chunk: Buffer): boolean {
    if (this.over || chunk.length === 0) return true;
    const ready = this.#writeFramed(chunk);
    if (!ready) this.#connection.onBlocked();
    return ready;
  }

  /** Node takes a write off its count at once when the kernel has taken all of it. Of TLS it is not known. */
  get flushed(): boolean {
    return this.client.scheme === 'http' && this.#socket.writableLength === 0;
  }

  #writeFramed(chunk: Buffer): boolean {
    if (this.#left !== null) {
      // What goes beyond the announced length would be read as the next response.
      const allowed = Math.min(chunk.length, this.#left);
      this.#left -= allowed;
      this.#count(allowed, allowed);
      return allowed === 0 ? true : this.#socket.write(chunk.subarray(0, allowed));
    }
    const size = this.#chunked ? `${chunk.length.toString(16)}\r\n` : '';
    this.#count(chunk.length, chunk.length + (this.#chunked ? size.length + 2 : 0));
    if (!this.#chunked) return this.#socket.write(chunk);
    this.#socket.cork();
    this.#socket.write(size, 'latin1');
    this.#socket.write(chunk);
    const ready = this.#socket.write('\r\n', 'latin1');
    this.#socket.uncork();
    return ready;
  }

  end(trailers: Fields): void {
    if (this.over) return;
    if (this.#left !== null && this.#left > 0) return this.abort();
    if (!this.#chunked) return this.#end();
    const last = `0\r\n${fieldText(trailers)}\r\n`;
    this.#count(0, last.length);
    this.#writeLast(last);
  }

  #writeLast(text: string): void {
    if (this.client.scheme === 'http') {
      this.#socket.write(text, 'latin1');
      return this.#end();
    }
    // TLS is never done at once, and the empty write that tells when costs a sixth of a small request.
    this.#connection.onBlocked();
    this.#socket.write(text, 'latin1', (error) => {
      if (!error) this.#onFlushed();
    });
  }

  #end(): void {
    if (this.#socket.writableLength === 0) return this.#onFlushed();
    this.#connection.onBlocked();
    this.#socket.write(EMPTY, () => this.#onFlushed());
  }

  #onFlushed(): void {
    if (this.over) return;
    this.owner = null;
    this.over = true;
    this.#finish();
    this.#connection.onExchangeEnd(this.#keepAlive);
  }

  close(): void {
    this.#keepAlive = false;
  }

  switchProtocols(reason: string, fields: Fields): Socket {
    this.status = 101;
    const text = `${headText(101, reason, fields)}\r\n`;
    this.#count(0, text.length);
    this.#socket.write(text, 'latin1');
    this.#connection.hijack();
    this.owner = null;
    this.over = true;
    this.#finish();
    return this.#socket;
  }

  /** As `abort`, for a reason that is to be told. */
  giveUp(code: ErrorCode): void {
    if (this.over) return;
    this.failure = code;
    this.abort();
  }

  abort(): void {
    if (this.over) return;
    // Where only the connection's end tells the body's end, an orderly end would make it look whole.
    if (this.status !== 0 && this.#left === null && !this.#chunked) this.#connection.reset();
    else this.#socket.destroy();
    this.onClientGone();
  }

  /** The connection is gone, whoever broke it. */
  onClientGone(): void {
    if (this.over) return;
    this.over = true;
    if (this.status === 0) this.status = 499;
    const { owner } = this;
    this.owner = null;
    const sink = this.#sink;
    this.#sink = null;
    this.#finish();
    if (sink !== null) sink.onBodyError('client_closed');
    owner?.onClientGone();
  }
}

function headText(status: number, reason: string, fields: Fields): string {
  return `HTTP/1.1 ${status} ${reason}\r\n${fieldText(fields)}`;
}
