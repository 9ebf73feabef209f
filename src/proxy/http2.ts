import type { Socket } from 'node:net';
import type { ErrorCode } from '../errors.ts';
import type { Place } from './crowd.ts';
import { type Client, clientOf, type Exchange } from './exchange.ts';
import type { ClientConnection, ClientTimeouts, ConnectionState } from './http1.ts';
import { MAX_HEAD_BYTES } from './http1-head.ts';
import type { ReceivedFields } from './http2-blocks.ts';
import {
  ConnectionError,
  DEFAULT_WINDOW,
  FLAG,
  FRAME,
  frame,
  goAway,
  H2_ERROR,
  MAX_STREAM_ID,
  SETTING,
  settings,
  windowUpdate,
} from './http2-frames.ts';
import { Http2Receiver, type ReceiverEvents } from './http2-receiver.ts';
import { Http2Sender } from './http2-sender.ts';
import type { ClientSettings } from './http2-settings.ts';
import { CONNECTION_WINDOW, Http2Streams, MAX_STREAMS, STREAM_WINDOW, type StreamsHost } from './http2-streams.ts';
import { SlowReader } from './slow-reader.ts';

/** What a connection needs of the listener that accepted it. */
export interface Http2Host {
  readonly timeouts: ClientTimeouts;
  /** Clients are to go elsewhere. */
  readonly retiring: boolean;
  serve(exchange: Exchange): void;
  /** Answers what is not a valid request, or counts one that was over before it could be served. */
  refuse(exchange: Exchange, code: ErrorCode): void;
  onState(from: ConnectionState | null, to: ConnectionState | null): void;
  /** Whether this worker takes one more stream. */
  admitStream(): boolean;
  onStream(): void;
  onStreamEnd(): void;
  /** The client is cut off because it makes work without end. */
  onAbuse(client: Client, reason: string): void;
  onClosed(connection: Http2Connection): void;
}

/** A client that was told to go gets so long (ms) to close its connection once it has read the last answer. */
const LINGER = 5_000;
/** When the worker retires: how long (ms) to wait for a first request, or for what crosses our farewell on its way. */
const GRACE = 1_000;

const NEVER = Number.POSITIVE_INFINITY;
/** Comes back when the client has seen our farewell. */
const FAREWELL_PING = Buffer.from('farewell', 'latin1');

/**
 * One client connection that speaks HTTP/2 (RFC 9113); each stream is an exchange.
 *
 *     new ─▶ idle ─▶ active ─▶ idle … ─▶ closed         (states as in Go's http.ConnState: active while a stream is open)
 *
 * A connection ends in two steps, so that no request is lost: a farewell that still lets new streams in, and, when the
 * client has seen it, the last call; what was begun until then is finished.
 */
export class Http2Connection implements ClientConnection, ReceiverEvents, StreamsHost {
  readonly client: Client;
  place: Place<ClientConnection> | null = null;
  readonly #socket: Socket;
  readonly #host: Http2Host;
  readonly #receiver = new Http2Receiver(this);
  readonly #sender: Http2Sender;
  readonly #streams: Http2Streams;
  #state: ConnectionState | null = 'new';
  #farewell = false;
  #lastCalled = false;
  #ended = false;
  /** When this connection has waited long enough in its present state, in ms by `performance.now()`. */
  #deadline: number;
  /** When fields that have begun to come must be complete. */
  #headDeadline = NEVER;
  #lastCallAt = NEVER;
  readonly #reader = new SlowReader();

  /** @param address the client's, without an IPv4-mapped prefix; null behind a unix socket */
  constructor(socket: Socket, address: string | null, scheme: Client['scheme'], host: Http2Host) {
    this.#socket = socket;
    this.#host = host;
    this.client = clientOf(socket, address, scheme);
    this.#deadline = performance.now() + host.timeouts.header;
    this.#sender = new Http2Sender(
      socket,
      () => this.#onProgress(),
      (bytes) => this.#receiver.onSent(bytes),
    );
    this.#streams = new Http2Streams(this, this.#sender);
    host.onState(null, 'new');
    socket.on('data', this.#onData);
    // Without its side of the connection a client can't let us go on: it has lost interest.
    socket.on('end', () => socket.destroy());
    // What went wrong is of no interest; that it is over is told by 'close'.
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#onClose());
    this.#sender.send(
      settings([
        [SETTING.MAX_CONCURRENT_STREAMS, MAX_STREAMS],
        [SETTING.INITIAL_WINDOW_SIZE, STREAM_WINDOW],
        [SETTING.MAX_HEADER_LIST_SIZE, MAX_HEAD_BYTES],
      ]),
    );
    this.#sender.send(windowUpdate(0, CONNECTION_WINDOW - DEFAULT_WINDOW));
  }

  get state(): ConnectionState | null {
    return this.#state;
  }

  #setState(state: ConnectionState | null): void {
    if (state === this.#state) return;
    this.#host.onState(this.#state, state);
    this.#state = state;
  }

  // What the client says ---------------------------------------------------------------------------------------------

  readonly #onData = (chunk: Buffer): void => {
    try {
      const frames = this.#receiver.receive(chunk);
      this.#watchHead(frames > 0);
    } catch (error) {
      if (!(error instanceof ConnectionError)) throw error;
      return this.#fail(error);
    }
    // Who does not read our answers must not make us write more of them.
    if (this.#sender.blocked) this.#socket.pause();
  };

  /** The time for fields begins with their first byte; what has come whole since has its own. */
  #watchHead(progress: boolean): void {
    if (this.#ended || !this.#receiver.partialHead) this.#headDeadline = NEVER;
    else if (this.#headDeadline === NEVER || (progress && this.#receiver.pendingStream === null)) {
      this.#headDeadline = performance.now() + this.#host.timeouts.header;
    }
  }

  /** When the first byte of the fields came that are complete now, by `performance.now()`; those that follow have their own. */
  #takeBegin(): number {
    const begunAt = this.#headDeadline === NEVER ? performance.now() : this.#headDeadline - this.#host.timeouts.header;
    this.#headDeadline = NEVER;
    return begunAt;
  }

  onFields(received: ReceivedFields): void {
    this.#streams.onFields(received, this.#takeBegin());
  }

  onBody(streamId: number, data: Buffer, size: number, ended: boolean): void {
    this.#streams.onBody(streamId, data, size, ended);
  }

  onReset(streamId: number): void {
    this.#streams.onReset(streamId);
  }

  onWindow(streamId: number, increment: number): void {
    this.#streams.onWindow(streamId, increment);
  }

  onSettings({ tableSize, window }: ClientSettings): void {
    if (tableSize !== null) this.#sender.encoder.limit(tableSize);
    this.#sender.send(frame(FRAME.SETTINGS, FLAG.ACK, 0));
    if (window !== null) this.#streams.onInitialWindow(window);
    if (this.#state === 'new') this.onIdle();
  }

  onPing(payload: Buffer): void {
    this.#sender.send(frame(FRAME.PING, FLAG.ACK, 0, payload));
  }

  onPong(payload: Buffer): void {
    if (this.#farewell && payload.equals(FAREWELL_PING)) this.#lastCall();
  }

  onGoAway(): void {
    this.#lastCall();
  }

  // What the streams say ---------------------------------------------------------------------------------------------

  serve(exchange: Exchange): void {
    this.#host.serve(exchange);
  }

  refuse(exchange: Exchange, code: ErrorCode): void {
    this.#host.refuse(exchange, code);
  }

  spendIdleFrame(cost?: number): void {
    this.#receiver.spendIdleFrame(cost);
  }

  admitStream(): boolean {
    return this.#host.admitStream();
  }

  onStream(): void {
    this.#host.onStream();
    this.#setState('active');
    this.#deadline = NEVER;
  }

  onStreamEnd(): void {
    this.#host.onStreamEnd();
  }

  onAnswered(): void {
    this.#reader.onSent(this.#sender.position);
    this.#receiver.onAnswered();
  }

  onIdle(): void {
    if (this.#state === null || this.#ended) return;
    if (this.#lastCalled) return this.#end();
    this.#setState('idle');
    this.#deadline = performance.now() + this.#host.timeouts.keepAlive;
    if (this.#host.retiring) this.retire();
  }

  #onProgress(): void {
    this.#streams.onProgress();
    if (this.#socket.isPaused() && !this.#sender.blocked) this.#socket.resume();
  }

  // Ends -------------------------------------------------------------------------------------------------------------

  /** Ends what has waited too long. */
  checkDeadline(now: number): void {
    const { write } = this.#host.timeouts;
    if (now >= this.#lastCallAt) this.#lastCall();
    if (now >= this.#headDeadline) this.#onHeadTimeout();
    if (this.#sender.isStalled(now, write)) {
      this.#streams.drop('write_timeout');
      this.#socket.destroy();
    }
    this.#streams.checkDeadlines(now, write);
    if (now < this.#deadline) return;
    if (this.#state === 'idle' && !this.#ended) this.#lastCall();
    else this.#socket.destroy();
  }

  #onHeadTimeout(): void {
    const streamId = this.#receiver.pendingStream ?? 0;
    this.#deafen();
    if (streamId > this.#streams.lastId) this.#streams.refuse(streamId, false, 'header_timeout', this.#takeBegin());
    this.#lastCall();
  }

  /** What comes from now on can't be made sense of. */
  #deafen(): void {
    this.#receiver.deafen();
    this.#headDeadline = NEVER;
  }

  /** Asks the client to go: what is open and what is on its way is finished. */
  retire(): void {
    if (this.#state === 'new') {
      this.#deadline = Math.min(this.#deadline, performance.now() + GRACE);
      return;
    }
    if (this.#farewell || this.#ended) return;
    this.#farewell = true;
    this.#lastCallAt = performance.now() + GRACE;
    this.#sender.send(goAway(MAX_STREAM_ID, H2_ERROR.NO_ERROR));
    this.#sender.send(frame(FRAME.PING, 0, 0, FAREWELL_PING));
  }

  /** No new streams from here on (RFC 9113 section 6.8). */
  #lastCall(): void {
    this.#lastCallAt = NEVER;
    if (this.#lastCalled || this.#ended) return;
    this.#lastCalled = true;
    this.#streams.close();
    this.#sender.send(goAway(this.#streams.lastId, H2_ERROR.NO_ERROR));
    if (this.#streams.idle) this.#end();
  }

  /** The client has broken the rules: nothing that it says can be trusted (RFC 9113 section 5.4.1). */
  #fail({ code, message }: ConnectionError): void {
    if (code === H2_ERROR.ENHANCE_YOUR_CALM) this.#host.onAbuse(this.client, message);
    this.#sender.send(goAway(this.#streams.lastId, code));
    this.#end(0);
    this.#streams.drop();
  }

  destroy(): void {
    if (this.#state === null) return;
    this.#streams.giveUp('drain_timeout');
    this.#lastCall();
    this.#end();
    this.#deadline = Math.min(this.#deadline, performance.now() + GRACE);
  }

  /** @param readAt when the client may have read what the kernel still has for it, by `performance.now()` */
  #end(readAt = this.#reader.doneAt): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#deafen();
    this.#deadline = Math.max(performance.now(), readAt) + LINGER;
    this.#socket.end();
    // RFC 9113 section 5.4.1 and RFC 9112 section 9.6: what comes is dropped, so that the client sees the last answer.
    this.#socket.resume();
  }

  #onClose(): void {
    this.#ended = true;
    this.#deafen();
    this.#deadline = NEVER;
    this.#lastCallAt = NEVER;
    this.#setState(null);
    this.#host.onClosed(this);
    this.#streams.drop();
  }
}
