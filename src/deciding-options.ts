import type { ErrorCode } from './errors.ts';

/** Which option decided that a request failed. */
export const DECIDED_BY: Partial<Record<ErrorCode, string>> = {
  header_timeout: '--header-timeout',
  body_timeout: '--body-timeout',
  body_too_slow: '--body-rate',
  body_too_large: '--max-body',
  buffers_full: '--spool-max',
  wrong_host: '--host',
  write_timeout: '--write-timeout',
  tunnel_timeout: '--tunnel-timeout',
  upstream_connect_timeout: '--connect-timeout',
  upstream_timeout: '--response-timeout',
  upstream_stalled: '--response-idle-timeout',
  drain_timeout: '--drain-timeout',
};
