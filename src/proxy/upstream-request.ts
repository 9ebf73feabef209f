import type { ErrorCode } from '../errors.ts';
import type { WorkerTimeouts } from '../worker-config.ts';
import type { Socket } from 'node:net';
import type { Fields } from './exchange.ts';
import { EXPECTS_BODY } from './headers.ts';
import { fieldText } from './http1-head.ts';
import type { Http1ResponseHead } from './http1-response.ts';
import type { StoredBody } from './request-body.ts';

/** How long to wait for a container. */
export type UpstreamTimeouts = Pick<WorkerTimeouts, 'connect' | 'response' | 'responseIdle'>;

/** A request as a container gets it. */
export interface OutgoingRequest {
  readonly method: string;
  readonly target: string;
  /** All of them; with a body also its Content-Length. */
  readonly fields: Fields;
  readonly body: StoredBody | null;
  /** The protocol to change to, or null. */
  readonly upgrade: string | null;
}

/** Why a request got no response, or not the whole of it. */
export type UpstreamFailure = Extract<ErrorCode, `upstream_${string}` | 'internal_error'>;

/** Whoever has sent a request is told what becomes of it. One of `onEnd`, `onUpgrade` and `onFailure` is the last thing. */
export interface ResponseHandler {
  /** It is about to be written: from now on the container may get it. */
  onWrite(): void;
  /** 1xx but 100, which nobody asked for, and 101. */
  onInterim(head: Http1ResponseHead): void;
  onHead(head: Http1ResponseHead): void;
  /** Returns whether the bytes are not needed any more; else the chunk is the receiver's to keep. */
  onData(chunk: Buffer): boolean;
  /** @param overran whether more came than belongs to the response: it may not be what it seems */
  onEnd(trailers: Fields, overran: boolean): void;
  /** The container has changed protocols; what it has sent since its answer is still to be read from the socket. */
  onUpgrade(head: Http1ResponseHead, socket: Socket): void;
  /** @param heard whether any byte of an answer has come */
  onFailure(code: UpstreamFailure, heard: boolean, cause?: Error): void;
}

/** Its head on the wire. */
export function requestText({ method, target, fields, upgrade }: OutgoingRequest): string {
  const change = upgrade === null ? '' : `Connection: Upgrade\r\nUpgrade: ${upgrade}\r\n`;
  return `${method} ${target} HTTP/1.1\r\n${fieldText(fields)}${change}\r\n`;
}

/**
 * Whether what comes next on the connection can be told from a body. After HEAD some servers send one all the same, and with
 * a method that has no use for a body, some never read it: it would be their next request.
 */
export function leavesNothingBehind({ method, body }: OutgoingRequest): boolean {
  return method !== 'HEAD' && (body === null || body.length === 0 || EXPECTS_BODY.has(method));
}
