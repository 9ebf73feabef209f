/**
 * Every error that wunderproxy answers with, to clients of the application or of the manager's API.
 *
 * `status` is the HTTP status; `message` is what a client may read: it never holds an internal address.
 * `retryable` says that the request never reached the application, so that a second try is safe.
 */
const CATALOGUE = {
  // What a request for the application meets (CONTRACT: "What a request meets").
  bad_request: { status: 400, message: 'The request is not valid HTTP.', retryable: false },
  header_timeout: { status: 408, message: 'The request headers were not complete in time.', retryable: true },
  body_timeout: { status: 408, message: 'The request body stopped coming.', retryable: true },
  body_too_slow: { status: 408, message: 'The request body came too slowly.', retryable: true },
  unknown_challenge: { status: 404, message: 'No certificate is being ordered with this token.', retryable: false },
  method_not_allowed: { status: 405, message: 'This method is not allowed here.', retryable: false },
  body_too_large: { status: 413, message: 'The request body is too large.', retryable: false },
  uri_too_long: { status: 414, message: 'The request target is too long.', retryable: false },
  expectation_failed: {
    status: 417,
    message: 'The expectation in the Expect header can not be met.',
    retryable: false,
  },
  wrong_host: { status: 421, message: 'This host is not served here.', retryable: true },
  headers_too_large: { status: 431, message: 'The request headers are too large.', retryable: false },
  write_timeout: { status: 499, message: 'The client did not read its answer.', retryable: false },
  tunnel_timeout: { status: 499, message: 'Nothing went through the tunnel for a long time.', retryable: false },
  client_closed: { status: 499, message: 'The client went away before it was answered.', retryable: false },
  internal_error: { status: 500, message: 'Something went wrong in the proxy.', retryable: false },
  upstream_refused: { status: 502, message: 'The application can not be reached.', retryable: true },
  upstream_broken: { status: 502, message: 'The application broke off before it answered.', retryable: false },
  upstream_malformed: {
    status: 502,
    message: 'The application gave an answer that is not valid HTTP.',
    retryable: false,
  },
  no_active_container: { status: 503, message: 'No version of the application is in service.', retryable: true },
  buffers_full: { status: 503, message: 'There is no room for the request body at the moment.', retryable: true },
  upstream_connect_timeout: {
    status: 504,
    message: 'The application did not accept a connection in time.',
    retryable: true,
  },
  upstream_timeout: { status: 504, message: 'The application did not answer in time.', retryable: false },
  upstream_stalled: { status: 504, message: 'The application stopped in the middle of its answer.', retryable: false },
  drain_timeout: { status: 504, message: 'The application was replaced before it had answered.', retryable: false },

  // What a caller of the manager's API meets (CONTRACT: "Manager API").
  bad_identifier: {
    status: 400,
    message: 'The body is to be the hash of a launch config: 32 (MD5) or 64 (SHA-256) hex digits.',
    retryable: false,
  },
  bad_parameters: {
    status: 400,
    message: 'The call lacks a parameter, or has one that is not understood.',
    retryable: false,
  },
  unauthorized: { status: 401, message: 'This needs the token: Authorization: Bearer <token>.', retryable: false },
  forbidden: {
    status: 403,
    message: "This request comes from a page or a host name that is not the manager's own.",
    retryable: false,
  },
  not_found: { status: 404, message: 'There is nothing at this address.', retryable: false },
  launch_config_not_found: {
    status: 404,
    message: 'There is no launch config with this hash in the store.',
    retryable: false,
  },
  no_such_container: { status: 404, message: 'There is no container with this hash.', retryable: false },
  api_method_not_allowed: { status: 405, message: 'This address does not take this method.', retryable: false },
  not_launched: { status: 409, message: 'No container with this hash is ready: launch it first.', retryable: false },
  empty_history: { status: 409, message: 'There is no earlier deployment to roll back to.', retryable: false },
  not_in_history: { status: 409, message: 'There is no deployment with this hash in the history.', retryable: false },
  deploy_locked: { status: 409, message: 'Somebody else is deploying.', retryable: true },
  request_too_large: { status: 413, message: 'The body is too large for this call.', retryable: false },
  too_many_attempts: {
    status: 429,
    message: 'Too many wrong tokens came from this address: wait a little.',
    retryable: true,
  },
  too_many_streams: { status: 503, message: 'Too many pages are open to be kept up to date.', retryable: true },
  hash_mismatch: {
    status: 422,
    message: 'The launch config in the store does not have the hash in its name.',
    retryable: false,
  },
  invalid_launch_config: { status: 422, message: 'The launch config is not valid.', retryable: false },
  launch_failed: { status: 502, message: 'The container could not be created or started.', retryable: false },
  image_unavailable: { status: 502, message: 'The image can not be had.', retryable: false },
  store_unavailable: {
    status: 503,
    message: 'The store can not be reached or refuses: nothing was changed.',
    retryable: true,
  },
  runtime_unavailable: { status: 503, message: 'The container engine can not be reached.', retryable: true },
  shutting_down: { status: 503, message: 'wunderproxy is stopping.', retryable: true },
  workers_unavailable: { status: 503, message: 'No worker serves.', retryable: true },
  not_healthy: { status: 504, message: 'The container did not become healthy in time.', retryable: false },
} as const satisfies Record<string, { status: number; message: string; retryable: boolean }>;

/** A code of the catalogue, as it appears in `Wunderproxy-Error` headers, API errors and logs. */
export type ErrorCode = keyof typeof CATALOGUE;

/** All codes, for the tests that hold documents against the catalogue. */
export const ERROR_CODES = Object.keys(CATALOGUE) as ErrorCode[];

/** What the catalogue says of a code. */
export function describeError(code: ErrorCode): { status: number; message: string; retryable: boolean } {
  return CATALOGUE[code];
}

/**
 * An error from the catalogue.
 *
 * `message` may be more precise than the catalogue's; `detail` is shown to callers of the manager's API only, as JSON.
 * Neither may hold a secret (container environment, tokens, keys).
 */
export class WunderproxyError extends Error {
  readonly code: ErrorCode;
  readonly detail: unknown;

  constructor(code: ErrorCode, options: { message?: string; detail?: unknown; cause?: unknown } = {}) {
    super(options.message ?? CATALOGUE[code].message, options.cause === undefined ? {} : { cause: options.cause });
    this.name = 'WunderproxyError';
    this.code = code;
    this.detail = options.detail;
  }

  get status(): number {
    return CATALOGUE[this.code].status;
  }
}

/** The message of anything that was thrown, in one line and without a stack. */
export function messageOf(thrown: unknown): string {
  const error = thrown as { message?: unknown; code?: unknown } | null | undefined;
  const text =
    typeof error?.message === 'string' && error.message !== '' ? error.message : String(error?.code ?? thrown);
  return text.replace(/\s+/g, ' ').trim();
}
