/*
 * The framing layer of HTTP/2 (RFC 9113 section 4 to 7): bytes to frames and back.
 */

/** RFC 9113 section 6. Not all of them are of interest here, but a client may send every one. */
export const FRAME = {
  DATA: 0,
  HEADERS: 1,
  PRIORITY: 2,
  RST_STREAM: 3,
  SETTINGS: 4,
  PUSH_PROMISE: 5,
  PING: 6,
  GOAWAY: 7,
  WINDOW_UPDATE: 8,
  CONTINUATION: 9,
} as const;

export const FLAG = { END_STREAM: 0x1, ACK: 0x1, END_HEADERS: 0x4, PADDED: 0x8, PRIORITY: 0x20 } as const;

/** RFC 9113 section 7. */
export const H2_ERROR = {
  NO_ERROR: 0,
  PROTOCOL_ERROR: 1,
  INTERNAL_ERROR: 2,
  FLOW_CONTROL_ERROR: 3,
  STREAM_CLOSED: 5,
  FRAME_SIZE_ERROR: 6,
  REFUSED_STREAM: 7,
  CANCEL: 8,
  COMPRESSION_ERROR: 9,
  ENHANCE_YOUR_CALM: 11,
} as const;
export type H2Error = (typeof H2_ERROR)[keyof typeof H2_ERROR];

/** RFC 9113 section 6.5.2. */
export const SETTING = {
  HEADER_TABLE_SIZE: 1,
  ENABLE_PUSH: 2,
  MAX_CONCURRENT_STREAMS: 3,
  INITIAL_WINDOW_SIZE: 4,
  MAX_FRAME_SIZE: 5,
  MAX_HEADER_LIST_SIZE: 6,
} as const;

/** RFC 9113 section 3.4. */
export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');

/** Largest payload (bytes) that everybody takes (RFC 9113 section 4.2); larger ones are neither taken nor sent. */
export const MAX_PAYLOAD = 16_384;
/** A window that was not changed by anybody, and the largest there can be (RFC 9113 section 6.9). */
export const DEFAULT_WINDOW = 65_535;
export const MAX_WINDOW = 0x7fff_ffff;
export const MAX_STREAM_ID = 0x7fff_ffff;

const HEADER = 9;
const MAX_CHUNKS = 64;
const EMPTY = Buffer.alloc(0);

/** A violation for which the whole connection ends (RFC 9113 section 5.4.1). */
export class ConnectionError extends Error {
  readonly code: H2Error;

  constructor(code: H2Error, message: string) {
    super(message);
    this.code = code;
  }
}

/** A frame as it came. */
export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

/** Cuts a client's bytes into frames, its preface first. Holds no more than one frame that is not complete. */
export class FrameReader {
  #chunks: Buffer[] = [];
  #length = 0;
  /** Bytes from which on it is worth looking again. */
  #needed = PREFACE.length;
  #prefaced = false;

  push(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    // Bytes that come one by one must not take up many times their number.
    if (this.#chunks.length > MAX_CHUNKS) this.#joined();
    // What can't become a preface need not be waited for.
    if (!this.#prefaced) this.#checkPreface();
  }

  /** Whether some bytes of a frame are here, but not all, and they are not of a body. */
  get partialHead(): boolean {
    return this.#length > 0 && (this.#length < HEADER || this.#joined()[3] !== FRAME.DATA);
  }

  /** The next frame, or null until more bytes come. Throws ConnectionError for what is no HTTP/2 or too large. */
  next(): Frame | null {
    if (this.#length < this.#needed) return null;
    let bytes = this.#joined();
    if (!this.#prefaced) {
      this.#prefaced = true;
      bytes = this.#drop(bytes, PREFACE.length);
    }
    if (bytes.length < HEADER) return this.#wait(HEADER);
    const length = bytes.readUIntBE(0, 3);
    if (length > MAX_PAYLOAD) throw new ConnectionError(H2_ERROR.FRAME_SIZE_ERROR, 'a frame is too large');
    if (bytes.length < HEADER + length) return this.#wait(HEADER + length);
    const frame = {
      type: bytes[3] ?? 0,
      flags: bytes[4] ?? 0,
      // The highest bit is reserved and to be ignored (RFC 9113 section 4.1).
      streamId: bytes.readUInt32BE(5) & 0x7fff_ffff,
      payload: bytes.subarray(HEADER, HEADER + length),
    };
    this.#drop(bytes, HEADER + length);
    this.#needed = HEADER;
    return frame;
  }

  #joined(): Buffer {
    const joined = this.#chunks.length === 1 ? (this.#chunks[0] ?? EMPTY) : Buffer.concat(this.#chunks);
    this.#chunks = [joined];
    return joined;
  }

  #drop(bytes: Buffer, count: number): Buffer {
    const rest = bytes.subarray(count);
    this.#chunks = rest.length === 0 ? [] : [rest];
    this.#length = rest.length;
    return rest;
  }

  #wait(needed: number): null {
    this.#needed = needed;
    return null;
  }

  #checkPreface(): void {
    const bytes = this.#joined();
    const length = Math.min(bytes.length, PREFACE.length);
    if (bytes.compare(PREFACE, 0, length, 0, length) === 0) return;
    throw new ConnectionError(H2_ERROR.PROTOCOL_ERROR, 'the connection does not begin with the preface');
  }
}

/** The content of a frame that may be padded, with or without priority. Throws ConnectionError (RFC 9113 section 6.1). */
export function unpadded({ flags, payload }: Frame): Buffer {
  if ((flags & FLAG.PADDED) === 0) return payload;
  const padding = payload[0];
  if (padding === undefined) throw new ConnectionError(H2_ERROR.FRAME_SIZE_ERROR, 'a padded frame is empty');
  if (padding >= payload.length) throw new ConnectionError(H2_ERROR.PROTOCOL_ERROR, 'there is more padding than frame');
  return payload.subarray(1, payload.length - padding);
}

/** Writes the nine bytes before a payload of this length; returns where the payload begins. */
export function writeFrameHeader(
  into: Buffer,
  at: number,
  length: number,
  type: number,
  flags: number,
  streamId: number,
): number {
  into.writeUIntBE(length, at, 3);
  into[at + 3] = type;
  into[at + 4] = flags;
  into.writeUInt32BE(streamId, at + 5);
  return at + HEADER;
}

/** A whole frame. */
export function frame(type: number, flags: number, streamId: number, payload: Buffer = EMPTY): Buffer {
  const bytes = Buffer.allocUnsafe(HEADER + payload.length);
  payload.copy(bytes, writeFrameHeader(bytes, 0, payload.length, type, flags, streamId));
  return bytes;
}

/** A block of fields as a HEADERS frame and as many CONTINUATION frames as it takes (RFC 9113 section 6.10). */
export function headersFrames(streamId: number, block: Buffer, endStream: boolean): Buffer {
  const flags = endStream ? FLAG.END_STREAM : 0;
  if (block.length <= MAX_PAYLOAD) return frame(FRAME.HEADERS, flags | FLAG.END_HEADERS, streamId, block);
  const frames: Buffer[] = [];
  for (let at = 0; at < block.length; at += MAX_PAYLOAD) {
    const part = block.subarray(at, at + MAX_PAYLOAD);
    const last = at + MAX_PAYLOAD >= block.length ? FLAG.END_HEADERS : 0;
    frames.push(frame(at === 0 ? FRAME.HEADERS : FRAME.CONTINUATION, (at === 0 ? flags : 0) | last, streamId, part));
  }
  return Buffer.concat(frames);
}

/** The nine bytes before a piece of a body. */
export function dataHeader(streamId: number, length: number, endStream: boolean): Buffer {
  const bytes = Buffer.allocUnsafe(HEADER);
  writeFrameHeader(bytes, 0, length, FRAME.DATA, endStream ? FLAG.END_STREAM : 0, streamId);
  return bytes;
}

export function rstStream(streamId: number, code: H2Error): Buffer {
  return frame(FRAME.RST_STREAM, 0, streamId, uint32(code));
}

export function windowUpdate(streamId: number, increment: number): Buffer {
  return frame(FRAME.WINDOW_UPDATE, 0, streamId, uint32(increment));
}

export function goAway(lastStreamId: number, code: H2Error): Buffer {
  return frame(FRAME.GOAWAY, 0, 0, Buffer.concat([uint32(lastStreamId), uint32(code)]));
}

/** Settings as number and value pairs. */
export function settings(pairs: readonly (readonly [number, number])[]): Buffer {
  const payload = Buffer.allocUnsafe(6 * pairs.length);
  pairs.forEach(([setting, value], i) => {
    payload.writeUInt16BE(setting, 6 * i);
    payload.writeUInt32BE(value, 6 * i + 2);
  });
  return frame(FRAME.SETTINGS, 0, 0, payload);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
