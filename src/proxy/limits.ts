import type { ErrorCode } from '../errors.ts';
import type { Exchange } from './exchange.ts';

/** What one request may ask for. */
export interface RequestLimits {
  /** In bytes. */
  readonly body: number;
  /** In lower case; null: any. */
  readonly hosts: ReadonlySet<string> | null;
}

/** TRACE would show a client's credentials to scripts; CONNECT would make an open tunnel. */
const REFUSED_METHODS = new Set(['TRACE', 'TRACK', 'CONNECT']);

/** Refusals that need nothing but the head. Returns the code, or null when the request may go on. */
export function refusal(exchange: Exchange, limits: RequestLimits): ErrorCode | null {
  const { head, body } = exchange;
  // RFC 9110 section 9.1: methods have a case; but not every application knows it.
  const method = head.method.toUpperCase();
  if (REFUSED_METHODS.has(method)) {
    // What follows a CONNECT is not HTTP.
    if (method === 'CONNECT') exchange.close();
    return 'method_not_allowed';
  }
  // RFC 9110 section 15.5.20; a client of HTTP/1.0 may not say which host it wants.
  if (limits.hosts !== null && !limits.hosts.has(hostName(head.host ?? ''))) return 'wrong_host';
  if (body !== null && body.length !== null && body.length > limits.body) return 'body_too_large';
  return null;
}

/** A host without its port, in lower case. */
export function hostName(host: string): string {
  return host.replace(/:\d+$/, '').toLowerCase();
}
