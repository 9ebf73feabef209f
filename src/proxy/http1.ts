import type { Socket } from 'node:net';
import type { ErrorCode } from '../errors.ts';
import type { WorkerTimeouts } from '../worker-config.ts';
import type { ConnectionStates } from '../worker-stats.ts';
import type { Place } from './crowd.ts';
import { type Client, clientOf, type Exchange } from './exchange.ts';
import { type ExchangeConnection, Http1Exchange } from './http1-exchange.ts';
import { bytesTaken } from './bytes-taken.ts';
import type { Watched } from './sweeper.ts';
import { type Http1Head, MAX_HEAD_BYTES, MAX_TARGET_BYTES, parseHead } from './http1-head.ts';

export type ConnectionState = keyof ConnectionStates;

/** How long clients may take. */
export type ClientTimeouts = Pick<WorkerTimeouts, 'header' | 'keepAlive' | 'write'>;

/** What a connection needs of the listener that accepted it. */
export interface Http1Host {
  readonly timeouts: ClientTimeouts;
  /** No connection lives on after its next response. */
  readonly retiring: boolean;
  serve(exchange: Exchange): void;
  /** Answers what is not a valid request; the connection closes after it. */
  refuse(exchange: Exchange, code: ErrorCode): void;
  onState(from: ConnectionState | null, to: ConnectionState | null): void;
  onClosed(connection: ClientConnection): void;
}

/** A client connection as its listener sees it, whatever is spoken on it. */
export interface ClientConnection extends Watched {
  readonly client: Client;
  /** Null once it is closed. */
  readonly state: ConnectionState | null;
  /** The listener's. */
  place: Place<ClientConnection> | null;
  /** Ends it as soon as nothing is lost by that. */
  retire(): void;
  /** Ends it at once, because the time to retire is over: what runs is broken off. */
  destroy(): void;
}

/** A client that was told to go and sends nothing more gets so long (ms) to close its connection before that is reset. */
const LINGER = 5_000;
/** As long (ms) as one that goes on sending may take: many read the answer only after their whole body. As in nginx. */
const LINGER_AT_MOST = 30_000;
/** How long (ms) a connection without a request lives on when the worker retires. */
const FIRST_REQUEST_GRACE = 1_000;

const END_OF_HEAD = Buffer.from('\r\n\r\n');
const NEVER = Number.POSITIVE_INFINITY;

/** What stands for the head of a request that could not be read. */
const UNREADABLE: Http1Head = {
  method: 'GET',
  target: '/',
  host: null,
  fields: [],
  names: [],
  connection: [],
  upgrade: null,
  http10: false,
  bodyLength: 0,
  keepAlive: false,
  expectsContinue: false,
};

/**
 * One client connection that speaks HTTP/1.x: reads strictly, writes anew, one exchange at a time.
 *
 *     new ─▶ active ─▶ idle ─▶ active … ─▶ closed          (states as in Go's http.ConnState)
 *               └─▶ hijacked ─▶ closed
 *
 * Bytes that arrive before it is their turn (pipelined requests) are held, at most one read's worth: then the socket is
 * paused.
 */
export class Http1Connection implements ExchangeConnection, ClientConnection {
  readonly client: Client;
  place: Place<ClientConnection> | null = null;
  readonly #socket: Socket;
  readonly #accepted: Socket;
  readonly #host: Http1Host;
  #state: ConnectionState | null = 'new';
  #exchange: Http1Exchange | null = null;
  /** When the first byte of the present request came, by `performance.now()`; one that had to wait for its turn begins with it. */
  #begunAt = 0;
  /** Bytes that were received and not yet used. */
  #held: Buffer | null = null;
  /** When the connection ends whatever the client sends, by `performance.now()`; null while it is in use. */
  #lingerEnd: number | null = null;
  /** What the kernel had taken when the client was last seen to read, or to be behind. */
  #taken = 0;
  /** When this connection has waited long enough in its present state, by `performance.now()`. */
  #deadline: number;

  /**
   * @param socket to speak on; `accepted` is the one below it when that is TLS, else the same
   * @param address the client's, without an IPv4-mapped prefix; null behind a unix socket
   */
  constructor(socket: Socket, accepted: Socket, address: string | null, scheme: Client['scheme'], host: Http1Host) {
    this.#socket = socket;
    this.#accepted = accepted;
    this.#host = host;
    this.client = clientOf(socket, address, scheme);
    this.#deadline = performance.now() + host.timeouts.header;
    host.onState(null, 'new');
    socket.on('data', this.#onData);
    socket.on('end', this.#onEnd);
    socket.on('drain', this.#onDrain);
    // What went wrong is of no interest; that it is over is told by 'close'. TLS sockets don't end by themselves.
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#onClose());
  }

  get state(): ConnectionState | null {
    return this.#state;
  }

  /** Ends the connection when it has waited too long in its present state. */
  checkDeadline(now: number): void {
    if (now < this.#deadline) return;
    this.#deadline = NEVER;
    if (this.#exchange !== null) this.#checkReading(this.#exchange, now);
    else if (this.#lingerEnd !== null) this.#socket.destroy();
    else if (this.#state === 'active') this.#refuse('header_timeout');
    else this.#closeIdle();
  }

  /** Closes an idle connection at once; one whose first request may be on its way gets a moment. */
  retire(): void {
    if (this.#state === 'idle') this.#closeIdle();
    else if (this.#state === 'new') this.#deadline = Math.min(this.#deadline, performance.now() + FIRST_REQUEST_GRACE);
  }

  /** RFC 8446 section 6.1: TLS must say that it ends, else the end may be an attacker's. */
  #closeIdle(): void {
    this.#lingerEnd = performance.now() + LINGER;
    this.#deadline = this.#lingerEnd;
    this.#socket.destroySoon();
  }

  destroy(): void {
    this.#exchange?.giveUp('drain_timeout');
    this.#socket.destroy();
  }

  reset(): void {
    // Unix sockets have no reset, and Node throws when asked for one; TLS has none of its own.
    if (this.client.address !== null) this.#accepted.resetAndDestroy();
    this.#socket.destroy();
  }

  #setState(state: ConnectionState | null): void {
    if (state === this.#state) return;
    this.#host.onState(this.#state, state);
    this.#state = state;
  }

  readonly #onData = (chunk: Buffer): void => {
    if (this.#lingerEnd !== null) {
      this.#deadline = Math.min(this.#lingerEnd, performance.now() + LINGER);
      return;
    }
    if (this.#exchange !== null) {
      if (!this.#exchange.receive(chunk)) this.#hold(chunk);
      return;
    }
    if (this.#state !== 'active') {
      this.#setState('active');
      this.#begunAt = performance.now();
      this.#deadline = this.#begunAt + this.#host.timeouts.header;
    }
    this.#readHead(this.#held === null ? chunk : Buffer.concat([this.#held, chunk]));
  };

  readonly #onDrain = (): void => {
    if (this.#exchange === null) return;
    this.#deadline = NEVER;
    this.#exchange.owner?.onDrain();
  };

  #hold(chunk: Buffer): void {
    this.#held = this.#held === null ? chunk : Buffer.concat([this.#held, chunk]);
    this.#socket.pause();
  }

  #readHead(received: Buffer): void {
    // RFC 9112 section 2.2: an empty line before the request line is to be ignored.
    const start = received[0] === 0x0d && received[1] === 0x0a ? 2 : 0;
    const end = received.indexOf(END_OF_HEAD, start);
    if (end === -1) {
      this.#held = received;
      const refusal = refuseEarly(received, start);
      if (refusal !== null) this.#refuse(refusal);
      return;
    }
    this.#held = received.length > end + 4 ? received.subarray(end + 4) : null;
    if (end - start > MAX_HEAD_BYTES) return this.#refuse(tooLong(received, start));
    const head = parseHead(received.toString('latin1', start, end));
    if (typeof head === 'string') return this.#refuse(head);

    this.#deadline = NEVER;
    const exchange = new Http1Exchange(this, this.#socket, head, this.#begunAt);
    exchange.trace.bytesIn = end + 4;
    this.#exchange = exchange;
    if (this.#held !== null) this.#socket.pause();
    this.#host.serve(exchange);
  }

  #refuse(code: ErrorCode): void {
    this.#held = null;
    this.#deadline = NEVER;
    const exchange = new Http1Exchange(this, this.#socket, UNREADABLE, this.#begunAt);
    this.#exchange = exchange;
    this.#host.refuse(exchange, code);
  }

  /** Bytes that were held until somebody wanted them. */
  takeHeld(): Buffer | null {
    const held = this.#held;
    this.#held = null;
    return held;
  }

  giveBack(rest: Buffer): void {
    if (rest.length > 0) this.#hold(rest);
  }

  get retiring(): boolean {
    return this.#host.retiring;
  }

  /** The client does not take what is written: from now on it is watched. */
  onBlocked(): void {
    if (this.#deadline === NEVER) this.#watchReading(performance.now());
  }

  #watchReading(now: number): void {
    this.#taken = bytesTaken(this.#accepted);
    this.#deadline = now + this.#host.timeouts.write;
  }

  /** A client that has read something meanwhile has as long again. */
  #checkReading(exchange: Http1Exchange, now: number): void {
    if (bytesTaken(this.#accepted) > this.#taken) this.#watchReading(now);
    else exchange.giveUp('write_timeout');
  }

  /** The exchange is over and all of its response is with the kernel. */
  onExchangeEnd(keepAlive: boolean): void {
    this.#exchange = null;
    if (!keepAlive) return this.#linger();
    if (this.#held !== null) {
      this.#begunAt = performance.now();
      this.#deadline = this.#begunAt + this.#host.timeouts.header;
      // Not at once: a burst of pipelined requests must not become a deep stack.
      setImmediate(() => this.#readHeld());
      return;
    }
    this.#setState('idle');
    this.#deadline = performance.now() + this.#host.timeouts.keepAlive;
    if (this.#socket.isPaused()) this.#socket.resume();
  }

  #readHeld(): void {
    const held = this.takeHeld();
    if (this.#state === null || held === null) return;
    this.#readHead(held);
    if (this.#exchange === null && this.#socket.isPaused()) this.#socket.resume();
  }

  /**
   * RFC 9112 section 9.6: closing while the client still sends would reset the connection, and the client might never see
   * the last answer. So only the writing side is closed, and what comes is dropped until the client closes or time is up.
   */
  #linger(): void {
    if (this.#socket.destroyed) return;
    this.#held = null;
    const now = performance.now();
    this.#lingerEnd = now + LINGER_AT_MOST;
    this.#deadline = now + LINGER;
    this.#socket.end();
    this.#socket.resume();
  }

  readonly #onEnd = (): void => {
    // A client that closes its side while it waits has lost interest; nginx and Go take it in the same way.
    if (this.#exchange !== null || this.#state !== 'active' || this.#lingerEnd !== null) this.#socket.destroy();
    else this.#refuse('bad_request');
  };

  #onClose(): void {
    const exchange = this.#exchange;
    this.#exchange = null;
    this.#held = null;
    this.#deadline = NEVER;
    this.#setState(null);
    this.#host.onClosed(this);
    exchange?.onClientGone();
  }

  /** Lets go of the socket for a tunnel; only its end is still of interest. */
  hijack(): void {
    this.#exchange = null;
    this.#deadline = NEVER;
    this.#socket.off('data', this.#onData).off('end', this.#onEnd).off('drain', this.#onDrain).pause();
    const held = this.takeHeld();
    if (held !== null) this.#socket.unshift(held);
    this.#setState('hijacked');
  }
}

/** What can be said against a head that is not complete. */
function refuseEarly(received: Buffer, start: number): ErrorCode | null {
  const text = received.toString('latin1', start);
  // Waiting for more would not make a bare line feed right, nor what is no text at all (a TLS handshake, say).
  if (/(?:^|[^\r])\n|\r[^\n]|^[^!#$%&'*+\-.^_`|~0-9A-Za-z\r]/.test(text)) return 'bad_request';
  return text.length > MAX_HEAD_BYTES ? tooLong(received, start) : null;
}

function tooLong(received: Buffer, start: number): ErrorCode {
  const lineEnd = received.indexOf(0x0a, start);
  return lineEnd === -1 || lineEnd - start > MAX_TARGET_BYTES ? 'uri_too_long' : 'headers_too_large';
}
