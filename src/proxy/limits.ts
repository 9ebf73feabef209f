import { type ErrorCode } from '../errors.ts';
import type { Exchange } from './exchange.ts';

/** What one request may ask for. */
export interface RequestLimits {
  /** In bytes. */
  maxBody: number;
}

/** TRACE would show a client's credentials to scripts; CONNECT would make an open tunnel. */
const REFUSED_METHODS = new Set(['TRACE', 'TRACK', 'CONNECT']);

/** Refusals that need nothing but the head. Returns the code, or null when the request may go on. */
export function refusal(exchange: Exchange, limits: RequestLimits): ErrorCode | null {
  const { head, body } = exchange;
  if (REFUSED_METHODS.has(head.method)) {
    // What follows a CONNECT is not HTTP.
    if (head.method === 'CONNECT') exchange.close();
    return 'method_not_allowed';
  }
  if (body !== null && body.length !== null && body.length > limits.maxBody) return 'body_too_large';
  return null;
}
