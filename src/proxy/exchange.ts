import type { Socket } from 'node:net';
import { unmapped } from '../cidr.ts';
import type { ErrorCode } from '../errors.ts';
import { formatHostPort } from '../units.ts';
import type { Trace } from './trace.ts';

/** Header or trailer fields in the order of the wire: name, value, name, value, … as Latin-1 text. */
export type Fields = readonly string[];

/** A request's head after its protocol's own checks: what is left can be read in one way only. */
export interface RequestHead {
  /** Case-sensitive token. */
  readonly method: string;
  /** Origin-form (RFC 9112 section 3.2.1), or `*` with OPTIONS. */
  readonly target: string;
  /** The Host field or its equivalent; null only from HTTP/1.0. */
  readonly host: string | null;
  readonly fields: Fields;
  /** Names of `fields` in lower case, one for each pair. */
  readonly names: readonly string[];
  /** Options of the Connection field in lower case (RFC 9110 section 7.6.1). */
  readonly connection: readonly string[];
  /** The protocol that the client wants to change to (RFC 9110 section 7.8), or null. */
  readonly upgrade: string | null;
}

/** Who sent a request. */
export interface Client {
  /** Without an IPv4-mapped prefix; null behind a unix socket. */
  readonly address: string | null;
  /** Where it connected to, as `host:port`; null behind a unix socket. */
  readonly localAddress: string | null;
  readonly scheme: 'http' | 'https';
}

/** Who is at the other end of a socket. `address` is its own, without an IPv4-mapped prefix; null behind a unix socket. */
export function clientOf(socket: Socket, address: string | null, scheme: Client['scheme']): Client {
  const { localAddress, localPort } = socket;
  return {
    address,
    localAddress: localAddress === undefined ? null : formatHostPort(unmapped(localAddress), localPort ?? 0),
    scheme,
  };
}

/** Receives a request's body. */
export interface BodySink {
  /** The chunk is the receiver's to keep. Returns false when no more is wanted before `resume`. */
  onBodyData(chunk: Buffer): boolean;
  onBodyEnd(): void;
  /** The body can't become complete; the client's connection is of no further use. */
  onBodyError(code: ErrorCode): void;
}

/** A request's body as it arrives, without transfer coding. */
export interface BodySource {
  /** Announced length in bytes; null when the body came chunked. */
  readonly length: number | null;
  /** Starts the flow; tells a client that waits with `Expect: 100-continue` to go on. Once only. */
  read(sink: BodySink): void;
  resume(): void;
}

/** The stage that works on an exchange is told what happens at the client's end. */
export interface ExchangeOwner {
  /** The client went away or can't be served any more; nothing may be written from now on. */
  onClientGone(): void;
  /** The client has taken what was written, after `write` had returned false. */
  onDrain(): void;
}

/** A response's head. Framing (Content-Length, Transfer-Encoding, Connection) is the protocol's own matter. */
export interface ResponseHead {
  readonly status: number;
  readonly reason: string;
  readonly fields: Fields;
  /** Length of the body in bytes, null when it is not known yet; with HEAD and 304 what GET would have given. */
  readonly length: number | null;
}

/**
 * One request and its response, independent of the protocol that the client speaks.
 *
 * Methods that write do nothing once it is over.
 */
export interface Exchange {
  readonly head: RequestHead;
  readonly client: Client;
  /** When the request's head was complete, in ms since the epoch. */
  readonly startedAt: number;
  readonly trace: Trace;
  /** For logs, for the application and for error pages; set by the first stage. */
  id: string;
  /** Null when the request has none. */
  readonly body: BodySource | null;
  owner: ExchangeOwner | null;
  /** Status of the final response, 499 when the client went away before there was one, 0 while it is open. */
  readonly status: number;
  /** Nothing can be written any more: the response is complete or the client is gone. */
  readonly over: boolean;
  /** Why the connection was broken, when that is not the doing of a stage or of the client. */
  readonly failure: ErrorCode | null;
  /** Resolves when the last byte of the response was handed to the kernel, or the connection is broken. */
  readonly finished: Promise<void>;

  /** An interim response (1xx, not 101); dropped where the client's protocol has none. */
  inform(status: number, reason: string, fields: Fields): void;
  /** A complete response. */
  reply(head: ResponseHead, body: Buffer): void;
  /** A response whose body follows in `write` and `end`. */
  start(head: ResponseHead): void;
  /** Returns false when the client does not keep up: wait for `onDrain`. */
  write(chunk: Buffer): boolean;
  /** Whether nothing refers to the bytes any more that were written; false where that is not known. */
  readonly flushed: boolean;
  /** Breaks the connection when fewer bytes were written than `start` announced. */
  end(trailers: Fields): void;
  /** The connection can't be used after this response. */
  close(): void;
  /** Sends 101 and hands over the connection, with what the client has sent since its request. */
  switchProtocols(reason: string, fields: Fields): Socket;
  /** Breaks the connection, so that an unfinished response can't be taken for a whole one. */
  abort(): void;
}
