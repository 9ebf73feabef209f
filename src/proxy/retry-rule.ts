import { describeError, type ErrorCode } from '../errors.ts';

/** Methods whose requests may be sent twice (RFC 9110 section 9.2.2). */
const IDEMPOTENT = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE']);

/** What the application may have begun to work on. All else that is not retryable has taken its time, or was decided. */
const MAYBE_EXECUTED = new Set<ErrorCode>(['upstream_broken', 'upstream_malformed', 'upstream_bad_gateway']);

/** Whether a request with this method may be sent twice. */
export function isIdempotent(method: string): boolean {
  return IDEMPOTENT.has(method);
}

/**
 * Whether a request that failed like this, before any answer, may be sent elsewhere: when it never reached the application,
 * or may be sent twice. The same on this machine and on a peer.
 */
export function mayGoElsewhere(code: ErrorCode, method: string): boolean {
  return describeError(code).retryable || (MAYBE_EXECUTED.has(code) && isIdempotent(method));
}
