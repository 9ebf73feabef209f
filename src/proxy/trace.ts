import type { ErrorCode } from '../errors.ts';
import type { FallbackKind } from '../peer-messages.ts';
import type { Worth } from './markers.ts';
import type { Tally } from './tally.ts';

/** How long a request was in each of its stages, in ms; null for one that it never reached. Their sum is `total`. */
export interface Stages {
  /** From its first byte until it was here, body included. */
  receive: number;
  /** Until the container was chosen that it went to in the end. */
  queue: number | null;
  /** Until it was on its way on a connection. */
  connect: number | null;
  /** Until the head of the container's response was here. */
  firstByte: number | null;
  /** Until the last byte of the container's response was here. */
  upstream: number | null;
  /** Until the client had been handed the last byte. */
  send: number | null;
  total: number;
}

/**
 * What is noted of a request on its way, for the counts and for the access log. Moments are by `performance.now()`, 0 while
 * they have not come. A client protocol sets the bytes, the stages their moments.
 */
export class Trace {
  /** As it is written in access logs: `HTTP/1.1`. */
  readonly protocol: string;
  /** The request's first byte. On a connection that is kept alive, its wait for this request is no part of it. */
  readonly begunAt: number;
  receivedAt = 0;
  dispatchedAt = 0;
  writtenAt = 0;
  answeredAt = 0;
  releasedAt = 0;
  /** Bytes from the client: of the body, and of everything. Above TLS; with HTTP/2 without frames and before header compression. */
  bodyIn = 0;
  bytesIn = 0;
  /** Bytes handed to the client. */
  bodyOut = 0;
  bytesOut = 0;
  /** The container that it was last meant for. */
  tally: Tally | null = null;
  retries = 0;
  /** How it was to be answered by a peer. */
  fallback: FallbackKind | null = null;
  /** What the marker was worth with which it came; null: it came without one. */
  marker: Worth | null = null;
  /** Why it failed, when the stages and the exchange don't tell. */
  failure: ErrorCode | null = null;
  /** Whether the head could be read. */
  readable = true;

  constructor(protocol: string, begunAt: number) {
    this.protocol = protocol;
    this.begunAt = begunAt;
  }

  /** It is meant for this container from now on; what was noted of an earlier attempt is void. */
  dispatch(tally: Tally | null): void {
    this.tally = tally;
    this.dispatchedAt = performance.now();
    this.writtenAt = 0;
    this.answeredAt = 0;
    this.releasedAt = 0;
  }

  /** @param endedAt by `performance.now()` */
  stages(endedAt: number): Stages {
    const { begunAt, receivedAt, dispatchedAt, writtenAt, answeredAt, releasedAt } = this;
    const ends = [receivedAt, dispatchedAt, writtenAt, answeredAt, releasedAt, endedAt];
    // The stage in which it failed lasts to whatever came next.
    for (let i = ends.length - 2; i >= 0; i--) ends[i] ||= ends[i + 1] ?? 0;
    const [received = 0, dispatched = 0, written = 0, answered = 0, released = 0] = ends;
    return {
      receive: received - begunAt,
      queue: receivedAt === 0 ? null : dispatched - received,
      connect: dispatchedAt === 0 ? null : written - dispatched,
      firstByte: writtenAt === 0 ? null : answered - written,
      upstream: answeredAt === 0 ? null : released - answered,
      send: releasedAt === 0 ? null : endedAt - released,
      total: endedAt - begunAt,
    };
  }
}
