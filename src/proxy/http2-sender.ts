import type { Socket } from 'node:net';
import { HpackEncoder } from './hpack.ts';
import type { Http2Exchange } from './http2-exchange.ts';
import { dataHeader, DEFAULT_WINDOW, headersFrames, MAX_PAYLOAD, MAX_WINDOW } from './http2-frames.ts';

/**
 * So many bytes wait at most for the kernel before streams have to: little, so that each stream gets its turn, and so
 * that a client that takes them within the write timeout is known to read.
 */
const FULL = 32 * 1024;

/** What a connection sends: frames in their order, bodies as far as both windows allow, the streams taking turns. */
export class Http2Sender {
  readonly encoder = new HpackEncoder();
  /** Bytes that were ever sent. */
  position = 0;
  readonly #socket: Socket;
  /** Is told when more of what was sent is with the kernel. */
  readonly #onProgress: () => void;
  /** Is told how many bytes of bodies go out. */
  readonly #onData: (bytes: number) => void;
  /** What the client lets us send on all streams together, in bytes. */
  #window = DEFAULT_WINDOW;
  /** Streams that have something to send, in the order of their turns. */
  readonly #waiting = new Set<Http2Exchange>();
  #pumping = false;
  #corked = false;
  /** Since when (ms by `performance.now()`) the kernel has not taken what waits for it; 0 when nothing waits. */
  #waitingSince = 0;

  constructor(socket: Socket, onProgress: () => void, onData: (bytes: number) => void) {
    this.#socket = socket;
    this.#onProgress = onProgress;
    this.#onData = onData;
  }

  get blocked(): boolean {
    return this.#socket.writableLength >= FULL;
  }

  /** Those of them that are with the kernel. */
  get flushed(): number {
    return this.position - this.#socket.writableLength;
  }

  /** Whether the client has taken nothing for so long (ms). */
  isStalled(now: number, timeout: number): boolean {
    return this.#waitingSince !== 0 && now - this.#waitingSince >= timeout;
  }

  /** What is sent in one go leaves in one go. */
  send(bytes: Buffer): void {
    if (!this.#socket.writable) return;
    if (!this.#corked) {
      this.#corked = true;
      this.#socket.cork();
      process.nextTick(this.#uncork);
    }
    if (this.#waitingSince === 0) this.#waitingSince = performance.now();
    this.position += bytes.length;
    this.#socket.write(bytes, this.#onWritten);
  }

  readonly #uncork = (): void => {
    this.#corked = false;
    this.#socket.uncork();
  };

  readonly #onWritten = (error?: Error | null): void => {
    if (error) return;
    this.#waitingSince = this.#socket.writableLength === 0 ? 0 : performance.now();
    this.#pump();
    this.#onProgress();
  };

  sendHeaders(streamId: number, fields: readonly string[], endStream: boolean): void {
    this.send(headersFrames(streamId, this.encoder.encode(fields), endStream));
  }

  /** The exchange has something to send. */
  push(exchange: Http2Exchange): void {
    if (!exchange.sendable) return;
    // Most can send at once, and come and go too often for a Set (see crowd.ts).
    const atOnce = this.#waiting.size === 0 && !this.#pumping && this.#maySend(exchange);
    if (atOnce) {
      this.#pumping = true;
      this.#sendTurn(exchange);
      this.#pumping = false;
    }
    if (exchange.sendable) this.#waiting.add(exchange);
    if (this.#waiting.size > 0) this.#pump();
  }

  #maySend(exchange: Http2Exchange): boolean {
    return !this.blocked && (!exchange.hasData || this.#window > 0);
  }

  forget(exchange: Http2Exchange): void {
    this.#waiting.delete(exchange);
  }

  /** Returns false when that makes the window larger than it may be. */
  enlargeWindow(increment: number): boolean {
    if (this.#window + increment > MAX_WINDOW) return false;
    this.#window += increment;
    this.#pump();
    return true;
  }

  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    // Who is put back has its next turn after all others: the iteration comes to it again.
    for (const exchange of this.#waiting) {
      if (this.blocked) break;
      if (exchange.hasData && this.#window <= 0) continue;
      this.#waiting.delete(exchange);
      this.#sendTurn(exchange);
      if (exchange.sendable) this.#waiting.add(exchange);
    }
    this.#pumping = false;
  }

  #sendTurn(exchange: Http2Exchange): void {
    const data = exchange.take(Math.min(MAX_PAYLOAD, this.#window, Math.max(0, exchange.sendWindow)));
    const { length } = data.chunk;
    if (length > 0 || data.last) this.send(dataHeader(exchange.streamId, length, data.last));
    if (length > 0) this.send(data.chunk);
    this.#window -= length;
    exchange.sendWindow -= length;
    this.#onData(length);
    exchange.onSent(data);
  }
}
