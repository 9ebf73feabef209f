import { Allowance } from './allowance.ts';
import { BlockReader, type ReceivedFields } from './http2-blocks.ts';
import {
  ConnectionError,
  FLAG,
  FRAME,
  type Frame,
  FrameReader,
  H2_ERROR,
  MAX_WINDOW,
  unpadded,
} from './http2-frames.ts';
import { type ClientSettings, readSettings } from './http2-settings.ts';

/** What a client can say in HTTP/2, once the form of it is right. Each may throw ConnectionError. */
export interface ReceiverEvents {
  /** The fields of a request or those after its body: complete. The stream is one that clients may open. */
  onFields(received: ReceivedFields): void;
  /** A piece of a body. `size` is what counts for the windows: padding included, in bytes. */
  onBody(streamId: number, data: Buffer, size: number, ended: boolean): void;
  onReset(streamId: number): void;
  /** Stream 0: the whole connection. */
  onWindow(streamId: number, increment: number): void;
  onSettings(wanted: ClientSettings): void;
  onPing(payload: Buffer): void;
  onPong(payload: Buffer): void;
  onGoAway(): void;
}

/**
 * Frames that ask for work and bring nothing, at once and per second: pings, settings, priorities, unknown ones, window
 * updates (those for which bytes went out are free). A browser sends some dozens.
 */
const IDLE_FRAMES = { most: 1_000, perSecond: 100 };
/** Settings may concern every stream. */
const SETTINGS_COST = 10;

/** Reads a client's bytes as HTTP/2 (RFC 9113 sections 4 to 6) and keeps account of what only costs time. */
export class Http2Receiver {
  readonly #events: ReceiverEvents;
  readonly #reader = new FrameReader();
  readonly #blocks = new BlockReader();
  readonly #idleFrames = new Allowance(IDLE_FRAMES.most, IDLE_FRAMES.perSecond);
  /** Nothing is read any more. */
  #deaf = false;
  /** RFC 9113 section 3.4: settings are part of the preface. */
  #settled = false;

  constructor(events: ReceiverEvents) {
    this.#events = events;
  }

  /** The stream whose fields have begun to come, but not ended. */
  get pendingStream(): number | null {
    return this.#blocks.pendingStream;
  }

  /** Whether something has begun to come, and it is not a body. */
  get partialHead(): boolean {
    return this.pendingStream !== null || this.#reader.partialHead;
  }

  /** What comes from now on is of no interest. */
  deafen(): void {
    this.#deaf = true;
  }

  /** Returns the number of frames that are complete now. Throws ConnectionError: what comes after it has no meaning. */
  receive(chunk: Buffer): number {
    let frames = 0;
    if (this.#deaf) return frames;
    this.#reader.push(chunk);
    for (let frame = this.#reader.next(); frame !== null; frame = this.#reader.next()) {
      this.#onFrame(frame);
      if (this.#deaf) break;
      frames++;
    }
    return frames;
  }

  /** Throws ConnectionError when there were too many. */
  spendIdleFrame(cost = 1): void {
    if (!this.#idleFrames.spend(cost)) throw new ConnectionError(H2_ERROR.ENHANCE_YOUR_CALM, 'too many idle frames');
  }

  /** For bytes that went out a client may send updates of the windows: some for each kilobyte. */
  onSent(bytes: number): void {
    this.#idleFrames.giveBack(bytes / 256);
  }

  #onFrame(frame: Frame): void {
    const { type, streamId, payload } = frame;
    const pending = this.#blocks.pendingStream;
    if (pending !== null && (type !== FRAME.CONTINUATION || streamId !== pending)) throw misplaced();
    if (!this.#settled && (type !== FRAME.SETTINGS || isAck(frame))) throw misplaced();
    switch (type) {
      case FRAME.DATA:
        return this.#onData(frame);
      case FRAME.HEADERS:
        // RFC 9113 section 5.1.1: those that clients open are odd.
        if (streamId % 2 === 0) throw misplaced();
        return this.#onFields(this.#blocks.begin(frame));
      case FRAME.CONTINUATION:
        return this.#onFields(this.#blocks.proceed(frame));
      case FRAME.RST_STREAM:
        if (streamId === 0) throw misplaced();
        if (payload.length !== 4) throw wrongSize();
        return this.#events.onReset(streamId);
      case FRAME.WINDOW_UPDATE:
        if (payload.length !== 4) throw wrongSize();
        this.spendIdleFrame();
        return this.#events.onWindow(streamId, payload.readUInt32BE(0) & MAX_WINDOW);
      case FRAME.SETTINGS:
        return this.#onSettings(frame);
      case FRAME.PING:
        return this.#onPing(frame);
      case FRAME.GOAWAY:
        if (streamId !== 0) throw misplaced();
        return this.#events.onGoAway();
      case FRAME.PUSH_PROMISE:
        throw misplaced();
      case FRAME.PRIORITY:
        if (streamId === 0) throw misplaced();
        if (payload.length !== 5) throw wrongSize();
        return this.spendIdleFrame();
      default:
        // RFC 9113 section 4.1: frames of unknown types are to be ignored.
        return this.spendIdleFrame();
    }
  }

  #onFields(received: ReceivedFields | null): void {
    if (received !== null) this.#events.onFields(received);
  }

  #onData(frame: Frame): void {
    if (frame.streamId === 0) throw misplaced();
    const data = unpadded(frame);
    const ended = (frame.flags & FLAG.END_STREAM) !== 0;
    if (data.length === 0 && !ended) this.spendIdleFrame();
    this.#events.onBody(frame.streamId, data, frame.payload.length, ended);
  }

  #onSettings(frame: Frame): void {
    if (frame.streamId !== 0) throw misplaced();
    if (isAck(frame)) {
      if (frame.payload.length > 0) throw wrongSize();
      return this.spendIdleFrame();
    }
    this.spendIdleFrame(SETTINGS_COST);
    this.#settled = true;
    this.#events.onSettings(readSettings(frame.payload));
  }

  #onPing(frame: Frame): void {
    if (frame.streamId !== 0) throw misplaced();
    if (frame.payload.length !== 8) throw wrongSize();
    this.spendIdleFrame();
    if (isAck(frame)) this.#events.onPong(frame.payload);
    else this.#events.onPing(frame.payload);
  }
}

function isAck({ flags }: Frame): boolean {
  return (flags & FLAG.ACK) !== 0;
}

function misplaced(): ConnectionError {
  return new ConnectionError(H2_ERROR.PROTOCOL_ERROR, 'the frame must not come here');
}

function wrongSize(): ConnectionError {
  return new ConnectionError(H2_ERROR.FRAME_SIZE_ERROR, 'the frame has another size');
}
