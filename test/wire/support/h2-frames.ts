import type { TestContext } from 'node:test';
import { RawClient, type TestWorker } from '../../proxy/support/worker.ts';

/** Frame types by number (RFC 9113 section 6). */
const TYPES = [
  ...['DATA', 'HEADERS', 'PRIORITY', 'RST_STREAM', 'SETTINGS', 'PUSH_PROMISE', 'PING', 'GOAWAY'],
  ...['WINDOW_UPDATE', 'CONTINUATION'],
] as const; // prettier-ignore
export type FrameType = (typeof TYPES)[number];

const ERRORS = [
  ...['NO_ERROR', 'PROTOCOL_ERROR', 'INTERNAL_ERROR', 'FLOW_CONTROL_ERROR', 'SETTINGS_TIMEOUT', 'STREAM_CLOSED'],
  ...['FRAME_SIZE_ERROR', 'REFUSED_STREAM', 'CANCEL', 'COMPRESSION_ERROR', 'CONNECT_ERROR', 'ENHANCE_YOUR_CALM'],
]; // prettier-ignore

export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
export const END_STREAM = 1;
export const ACK = 1;
export const END_HEADERS = 4;
export const PADDED = 8;
const MAX_PAYLOAD = 16_384;

/** A frame exactly as it is told; `type` may be one that there is not, `length` one that is wrong. */
export function frame(
  type: FrameType | number,
  flags: number,
  streamId: number,
  payload: Buffer | string = '',
  length?: number,
): Buffer {
  const body = typeof payload === 'string' ? Buffer.from(payload, 'latin1') : payload;
  const head = Buffer.alloc(9);
  head.writeUIntBE(length ?? body.length, 0, 3);
  head[3] = typeof type === 'number' ? type : TYPES.indexOf(type);
  head[4] = flags;
  head.writeUInt32BE(streamId, 5);
  return Buffer.concat([head, body]);
}

export type FieldList = readonly (readonly [string, string])[];

/** Fields as literals without indexing (RFC 7541 section 6.2.2), whatever is in them. */
export function block(fields: FieldList): Buffer {
  return Buffer.concat(fields.map(([name, value]) => Buffer.concat([Buffer.from([0]), text(name), text(value)])));
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'latin1');
  if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  const size = [127];
  let rest = bytes.length - 127;
  for (; rest >= 128; rest = Math.floor(rest / 128)) size.push((rest % 128) + 128);
  return Buffer.concat([Buffer.from([...size, rest]), bytes]);
}

export function uint32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  values.forEach((value, i) => bytes.writeUInt32BE(value, 4 * i));
  return bytes;
}

export function setting(id: number, value: number): Buffer {
  const bytes = Buffer.alloc(6);
  bytes.writeUInt16BE(id);
  bytes.writeUInt32BE(value, 2);
  return bytes;
}

/** The fields that every request has; `changes` replaces them, or drops those that are null. */
export function request(
  changes: Record<string, string | null> = {},
  more: FieldList = [],
): (readonly [string, string])[] {
  const all: Record<string, string | null> = {
    ':method': 'GET',
    ':scheme': 'https',
    ':authority': 'a',
    ':path': '/',
    ...changes,
  };
  const kept = Object.entries(all).filter((field): field is [string, string] => field[1] !== null);
  return [...kept, ...more];
}

/** Fields in as many frames as they need. */
export function headers(streamId: number, fields: FieldList, flags: number): Buffer {
  const whole = block(fields);
  const frames: Buffer[] = [];
  for (let at = 0; at === 0 || at < whole.length; at += MAX_PAYLOAD) {
    const last = at + MAX_PAYLOAD >= whole.length ? END_HEADERS : 0;
    const part = whole.subarray(at, at + MAX_PAYLOAD);
    frames.push(frame(at === 0 ? 'HEADERS' : 'CONTINUATION', (at === 0 ? flags : 0) | last, streamId, part));
  }
  return Buffer.concat(frames);
}

export interface ReceivedFrame {
  type: FrameType;
  flags: number;
  streamId: number;
  payload: Buffer;
}

/** A client that writes frames as it likes and reads what comes back. */
export class H2Client {
  readonly raw: RawClient;
  readonly #frames: ReceivedFrame[] = [];
  #at = 0;

  private constructor(raw: RawClient) {
    this.raw = raw;
  }

  /** Connected by TLS with ALPN; `settings` null: nothing is sent yet. */
  static async connect(
    t: TestContext,
    worker: TestWorker,
    settings: Buffer | null = Buffer.alloc(0),
  ): Promise<H2Client> {
    const raw = await RawClient.connectSecurely(t, worker.tlsPort, { ALPNProtocols: ['h2'] });
    const client = new H2Client(raw);
    if (settings !== null) client.send(PREFACE, frame('SETTINGS', 0, 0, settings));
    return client;
  }

  send(...frames: Buffer[]): void {
    this.raw.send(Buffer.concat(frames));
  }

  /** Opens a stream; without `open` the request has no body. */
  request(streamId: number, fields: FieldList = request(), open: 'open' | null = null): void {
    this.send(headers(streamId, fields, open === null ? END_STREAM : 0));
  }

  /** Everything that has come. */
  get frames(): ReceivedFrame[] {
    const bytes = this.raw.received;
    while (this.#at + 9 <= bytes.length) {
      const length = bytes.readUIntBE(this.#at, 3);
      if (this.#at + 9 + length > bytes.length) break;
      this.#frames.push({
        type: TYPES[bytes[this.#at + 3] ?? 0] as FrameType,
        flags: bytes[this.#at + 4] ?? 0,
        streamId: bytes.readUInt32BE(this.#at + 5),
        payload: bytes.subarray(this.#at + 9, this.#at + 9 + length),
      });
      this.#at += 9 + length;
    }
    return this.#frames;
  }

  /** The first frame that fits. Rejects when the connection closes before. */
  async until(fits: (frame: ReceivedFrame) => boolean): Promise<ReceivedFrame> {
    for (;;) {
      const found = this.frames.find(fits);
      if (found !== undefined) return found;
      if (this.raw.socket.destroyed) throw new Error(`closed after ${JSON.stringify(this.summary)}`);
      await Promise.race([new Promise((resolve) => this.raw.socket.once('data', resolve)), this.raw.closed]);
    }
  }

  /** Waits for the end of a stream: `ended`, or the code with which it was reset. */
  async end(streamId: number): Promise<string> {
    const last = await this.until(
      ({ type, flags, streamId: id }) =>
        id === streamId &&
        (type === 'RST_STREAM' || ((type === 'DATA' || type === 'HEADERS') && (flags & END_STREAM) !== 0)),
    );
    return last.type === 'RST_STREAM' ? errorName(last.payload.readUInt32BE(0)) : 'ended';
  }

  /** What a stream's DATA frames bring. */
  body(streamId: number): Buffer {
    const own = this.frames.filter(({ type, streamId: id }) => type === 'DATA' && id === streamId);
    return Buffer.concat(own.map(({ payload }) => payload));
  }

  /** The first octet of a stream's first HEADERS frame tells the status, if it is one of the static table's. */
  statuses(streamId: number): string[] {
    return this.frames
      .filter(({ type, streamId: id }) => type === 'HEADERS' && id === streamId)
      .map(({ payload }) => statusIn(payload));
  }

  /** Waits for the end of the connection; the code of its GOAWAY, or null when there was none. */
  async goAway(): Promise<string | null> {
    await this.raw.closed;
    const last = this.frames.findLast(({ type }) => type === 'GOAWAY');
    return last === undefined ? null : errorName(last.payload.readUInt32BE(4));
  }

  /** Resolves when the server has handled everything that was sent so far. */
  async settled(): Promise<void> {
    const mark = Buffer.from(`mark${String(++marks).padStart(4, '0')}`);
    this.send(frame('PING', 0, 0, mark));
    await this.until(({ type, flags, payload }) => type === 'PING' && flags === ACK && payload.equals(mark));
  }

  get summary(): string[] {
    return this.frames.map(({ type, flags, streamId }) => `${type} ${flags} ${streamId}`);
  }
}

let marks = 0;

export function errorName(code: number): string {
  return ERRORS[code] ?? String(code);
}

const STATIC_STATUSES: Record<number, string> = {
  8: '200',
  9: '204',
  10: '206',
  11: '304',
  12: '400',
  13: '404',
  14: '500',
};

/** `:status` comes first; as an index, or as a literal whose name is an index. Dynamic entries can't be known here. */
function statusIn(payload: Buffer): string {
  const first = payload[0] ?? 0;
  if (first >= 0x80) return STATIC_STATUSES[first & 0x7f] ?? `#${first & 0x7f}`;
  return payload.toString('latin1', 2, 2 + (payload[1] ?? 0));
}
