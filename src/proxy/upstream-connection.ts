import * as net from 'node:net';
import * as tls from 'node:tls';
import type { BodyMemory } from './body-memory.ts';
import type { Place } from './crowd.ts';
import type { Fields } from './exchange.ts';
import { MALFORMED, NEED_MORE } from './http1-body.ts';
import {
  framingOf,
  type Http1ResponseHead,
  MAX_RESPONSE_HEAD,
  mayBecomeResponseHead,
  parseResponseHead,
  type ResponseFraming,
} from './http1-response.ts';
import { ReadBuffer } from './read-buffers.ts';
import type { StoredBody } from './request-body.ts';
import type { Sweeper, Watched } from './sweeper.ts';
import {
  leavesNothingBehind,
  type OutgoingRequest,
  requestText,
  type ResponseHandler,
  type UpstreamFailure,
  type UpstreamTimeouts,
} from './upstream-request.ts';

/** What happens to a connection is told to who keeps it. */
export interface ConnectionKeeper {
  /** It can take another request. */
  onFree(connection: UpstreamConnection): void;
  /** It takes no more. */
  onGone(connection: UpstreamConnection): void;
}

/**
 * Idle connections without a hint from the container live so long (ms): some servers close theirs after 2 s, and a
 * request that meets a closing connection may be lost.
 */
const IDLE_WITHOUT_HINT = 1_000;
/** A `Keep-Alive: timeout=N` is used up to this margin (ms). */
const HINT_MARGIN = 1_000;
const IDLE_AT_MOST = 60_000;
/** Bodies up to this many bytes go out in one write with their head: cheaper than a vectored write. */
const ONE_WRITE = 16 * 1024;

const END_OF_HEAD = Buffer.from('\r\n\r\n');
const NEVER = Number.POSITIVE_INFINITY;

/** A connection to a container, for one request at a time (RFC 9112, without pipelining). */
export class UpstreamConnection implements Watched {
  readonly #timeouts: UpstreamTimeouts;
  readonly #sweeper: Sweeper;
  readonly #keeper: ConnectionKeeper;
  readonly #socket: net.Socket;
  #connected = false;
  #watch: Place<Watched> | null = null;
  #handler: ResponseHandler | null = null;
  #request: OutgoingRequest | null = null;
  /** All of the request is with the socket. */
  #sent = true;
  /** Whether any byte of an answer has come. */
  #heard = false;
  #head: Http1ResponseHead | null = null;
  #framing: ResponseFraming = 'none';
  /** What has come of a head that is not complete yet. */
  #partial: Buffer | null = null;
  readonly #reads = new ReadBuffer();
  #paused = false;
  /** When it has waited long enough in its present state, by `performance.now()`. */
  #deadline: number;
  #onWritable: (() => void) | null = null;
  /** Whether a request has been written to it. */
  used = false;

  /**
   * Starts to connect.
   * @param secure how the certificate is checked; null: plain HTTP
   * @param tunnel whether its socket may become a tunnel's
   */
  constructor(
    address: { host: string; port: number },
    secure: tls.ConnectionOptions | null,
    tunnel: boolean,
    timeouts: UpstreamTimeouts,
    sweeper: Sweeper,
    keeper: ConnectionKeeper,
  ) {
    this.#timeouts = timeouts;
    this.#sweeper = sweeper;
    this.#keeper = keeper;
    this.#deadline = NEVER;
    const { host, port } = address;
    // Half-open, so that a tunnel's two directions can end one after the other.
    const options = { host, port, noDelay: true, allowHalfOpen: true };
    const onread = {
      buffer: () => this.#reads.next,
      callback: (bytes: number) => {
        this.#onRead(bytes);
        return true;
      },
    };
    // TLS sockets have buffers of their own in any case.
    const flowing = tunnel || secure !== null;
    const socket =
      secure === null
        ? net.connect(flowing ? options : { ...options, onread })
        : tls.connect({ ...options, ...nameIn(host), ...secure });
    this.#socket = socket;
    const timer = setTimeout(() => this.#fail('upstream_connect_timeout'), timeouts.connect);
    socket.once(secure === null ? 'connect' : 'secureConnect', () => {
      clearTimeout(timer);
      this.#connected = true;
      this.#watch = sweeper.watch(this);
      this.#write();
    });
    if (flowing) socket.on('data', this.#onData);
    socket.on('end', this.#onEnd);
    socket.on('drain', this.#onDrain);
    socket.on('error', this.#onError);
    socket.once('close', () => {
      clearTimeout(timer);
      sweeper.forget(this.#watch);
      this.#fail('upstream_broken');
      keeper.onGone(this);
    });
  }

  /** Whether it could take a request. */
  get free(): boolean {
    return this.#connected && this.#handler === null && !this.#socket.destroyed && performance.now() < this.#deadline;
  }

  /** Sends a request, as soon as it is connected. There must be no other. */
  send(request: OutgoingRequest, handler: ResponseHandler): void {
    this.#request = request;
    this.#handler = handler;
    if (this.#connected) this.#write();
  }

  /** Ends it at once. Whoever waits for a response hears nothing more. */
  destroy(): void {
    this.#handler = null;
    this.#socket.destroy();
    this.#onWritable?.();
  }

  /** Nothing is read until `resume`, but for what is on its way already. */
  pause(): void {
    this.#paused = true;
    this.#deadline = NEVER;
    this.#socket.pause();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#deadline = performance.now() + this.#timeouts.responseIdle;
    this.#socket.resume();
  }

  checkDeadline(now: number): void {
    if (now < this.#deadline) return;
    this.#deadline = NEVER;
    if (this.#handler === null) this.destroy();
    else this.#fail(this.#head === null ? 'upstream_timeout' : 'upstream_stalled');
  }

  // Writing ----------------------------------------------------------------------------------------------------------

  #write(): void {
    const request = this.#request;
    if (request === null || this.#handler === null) return;
    this.#handler.onWrite();
    this.used = true;
    this.#sent = true;
    this.#heard = false;
    this.#head = null;
    this.#deadline = performance.now() + this.#timeouts.response;
    const { body } = request;
    const text = requestText(request);
    if (body === null) {
      this.#socket.write(text, 'latin1');
    } else if (body.memory === null) {
      this.#socket.write(text, 'latin1');
      this.#sent = false;
      void this.#writeStored(request, body);
    } else {
      this.#writeMemory(text, body.memory, body.length);
    }
  }

  #writeMemory(text: string, memory: BodyMemory, length: number): void {
    const pieces = memory.pieces();
    if (length <= ONE_WRITE) {
      this.#socket.write(
        pieces.reduce((all, piece) => all + piece.toString('latin1'), text),
        'latin1',
      );
      return;
    }
    memory.lend();
    this.#socket.cork();
    this.#socket.write(text, 'latin1');
    for (const piece of pieces.slice(0, -1)) this.#socket.write(piece);
    // When the kernel has all of it, or the socket is gone.
    this.#socket.write(pieces.at(-1) ?? '', () => memory.giveBack());
    this.#socket.uncork();
  }

  async #writeStored(request: OutgoingRequest, body: StoredBody): Promise<void> {
    try {
      for (let at = 0; at < body.length;) {
        const chunk = await body.read(at);
        if (this.#request !== request || this.#socket.destroyed) return;
        at += chunk.length;
        if (!this.#socket.write(chunk)) await new Promise<void>((resolve) => (this.#onWritable = resolve));
        if (this.#request !== request || this.#socket.destroyed) return;
        if (this.#head === null) this.#deadline = performance.now() + this.#timeouts.response;
      }
      this.#sent = true;
    } catch (error) {
      if (this.#request === request) this.#fail('internal_error', error as Error);
    }
  }

  readonly #onDrain = (): void => {
    const { response } = this.#timeouts;
    if (this.#handler !== null && this.#head === null) this.#deadline = performance.now() + response;
    const go = this.#onWritable;
    this.#onWritable = null;
    go?.();
  };

  // Reading ----------------------------------------------------------------------------------------------------------

  #onRead(bytes: number): void {
    this.#receive(this.#reads.filled(bytes));
    this.#reads.used(bytes, this.#head !== null, this.#head?.length ?? 0);
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#receive(chunk);
  };

  #receive(chunk: Buffer): void {
    // What nobody has asked for.
    if (this.#handler === null) return this.destroy();
    if (this.#head === null) this.#readHead(chunk, this.#handler);
    else this.#readBody(chunk);
  }

  #readHead(chunk: Buffer, handler: ResponseHandler): void {
    this.#heard = true;
    let data = this.#partial === null ? chunk : Buffer.concat([this.#partial, chunk]);
    this.#partial = null;
    while (this.#handler !== null && this.#head === null) {
      const end = data.indexOf(END_OF_HEAD);
      if (end === -1) {
        if (!mayBecomeResponseHead(data)) return this.#fail('upstream_malformed');
        if (data.length > 0) this.#partial = Buffer.from(data);
        return;
      }
      const head = end > MAX_RESPONSE_HEAD ? null : parseResponseHead(data.toString('latin1', 0, end));
      if (head === null) return this.#fail('upstream_malformed');
      data = data.subarray(end + END_OF_HEAD.length);
      if (head.status === 101) return this.#upgrade(head, data, handler);
      if (head.status >= 200) return this.#begin(head, data, handler);
      // Nobody has asked for 100. The time for the final head goes on: interim ones without end don't stretch it.
      if (head.status > 100) handler.onInterim(head);
    }
  }

  #begin(head: Http1ResponseHead, rest: Buffer, handler: ResponseHandler): void {
    this.#head = head;
    this.#framing = framingOf(head, this.#request?.method ?? '');
    this.#deadline = performance.now() + this.#timeouts.responseIdle;
    handler.onHead(head);
    if (this.#handler === null) return;
    // After HEAD it is the body, which some send all the same: harmless, since nothing follows it on this connection.
    if (this.#framing === 'none') this.#finish([], rest.length > 0 && this.#request?.method !== 'HEAD');
    else if (rest.length > 0) this.#readBody(rest);
  }

  #readBody(chunk: Buffer): void {
    if (!this.#paused) this.#deadline = performance.now() + this.#timeouts.responseIdle;
    const framing = this.#framing;
    if (framing === 'until-close' || framing === 'none') return this.#emit(chunk);
    const used = framing.decode(chunk, this.#emit);
    if (used === NEED_MORE || this.#handler === null) return;
    if (used === MALFORMED) this.#fail('upstream_malformed');
    else this.#finish(framing.trailers, used < chunk.length);
  }

  readonly #emit = (data: Buffer): void => {
    const chunk = this.#reads.own ? data : Buffer.from(data);
    if (this.#handler?.onData(chunk) !== true) this.#reads.keep();
  };

  #finish(trailers: Fields, overran: boolean): void {
    const handler = this.#handler;
    const head = this.#head;
    const request = this.#request;
    const whole = this.#sent && this.#socket.writableLength === 0 && request !== null && leavesNothingBehind(request);
    this.#handler = null;
    this.#request = null;
    this.#head = null;
    if (head?.keepAlive !== true || !whole || overran || this.#framing === 'until-close') {
      this.destroy();
    } else {
      if (this.#paused) this.#socket.resume();
      this.#paused = false;
      this.#deadline = performance.now() + idleTime(head);
      this.#keeper.onFree(this);
    }
    handler?.onEnd(trailers, overran);
  }

  #upgrade(head: Http1ResponseHead, rest: Buffer, handler: ResponseHandler): void {
    if (this.#request?.upgrade === null) return this.#fail('upstream_malformed');
    this.#handler = null;
    this.#sweeper.forget(this.#watch);
    const socket = this.#socket;
    socket.off('data', this.#onData).off('end', this.#onEnd).off('drain', this.#onDrain).pause();
    if (rest.length > 0) socket.unshift(rest);
    handler.onUpgrade(head, socket);
  }

  // Ends -------------------------------------------------------------------------------------------------------------

  readonly #onEnd = (): void => {
    if (this.#head !== null && this.#framing === 'until-close') this.#finish([], false);
    else if (this.#handler !== null) this.#fail('upstream_broken');
    else this.destroy();
  };

  readonly #onError = (error: NodeJS.ErrnoException): void => {
    if (this.#connected) this.#fail('upstream_broken', error);
    else this.#fail(error.code === 'ETIMEDOUT' ? 'upstream_connect_timeout' : 'upstream_refused', error);
  };

  #fail(code: UpstreamFailure, cause?: Error): void {
    const handler = this.#handler;
    this.#request = null;
    this.destroy();
    handler?.onFailure(code, this.#heard, cause);
  }
}

/** The name by which a server chooses its certificate, which no address is (RFC 6066 section 3). */
function nameIn(host: string): { servername?: string } {
  return net.isIP(host) === 0 ? { servername: host } : {};
}

/** How long (ms) a connection is kept for the next request. */
function idleTime({ keepAliveTimeout }: Http1ResponseHead): number {
  if (keepAliveTimeout === null) return IDLE_WITHOUT_HINT;
  return Math.min(Math.max(keepAliveTimeout - HINT_MARGIN, 0), IDLE_AT_MOST);
}
