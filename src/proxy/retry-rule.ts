import { describeError, type ErrorCode } from '../errors.ts';

/** Methods whose requests may be sent twice (RFC 9110 section 9.2.2). */
const IDEMPOTENT = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE']);

/** What the application may have begun to work on. All else that is not retryable has taken its time, or was decided. */
const MAYBE_EXECUTED = new Set<ErrorCode>(['upstream_broken', 'upstream_malformed', 'upstream_bad_gateway']);

/** Given to undici to end a connection whose response is not wanted. */
export const UNWANTED = new Error('the response is not wanted');

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

/** What an error of undici means. `written`: the container may have read the request. */
export function failureOf(error: Error, written: boolean): ErrorCode {
  const code = (error as NodeJS.ErrnoException).code ?? '';
  // What undici refuses to send should not have come so far.
  if (code === 'UND_ERR_INVALID_ARG') return 'internal_error';
  if (!written) return code === 'ETIMEDOUT' ? 'upstream_connect_timeout' : 'upstream_refused';
  if (code === 'UND_ERR_HEADERS_TIMEOUT') return 'upstream_timeout';
  if (code === 'UND_ERR_BODY_TIMEOUT') return 'upstream_stalled';
  if (isConnectionLoss(error)) return 'upstream_broken';
  // What else may come from undici is about a response that it can't read; anything else is a mistake of ours.
  const unreadable = error.name === 'HTTPParserError' || code.startsWith('UND_ERR_') || error === UNWANTED;
  return unreadable ? 'upstream_malformed' : 'internal_error';
}

/** Whether an error says that the connection was lost, in contrast to a response that can't be read. */
export function isConnectionLoss(error: Error): boolean {
  const code = (error as NodeJS.ErrnoException).code ?? '';
  // undici gives the same code to a response that comes unasked or changes protocols unasked.
  if (code === 'UND_ERR_SOCKET') return !/^bad /.test(error.message);
  return code === 'ECONNRESET' || code === 'EPIPE' || code === 'ECONNABORTED' || code === 'ETIMEDOUT';
}
