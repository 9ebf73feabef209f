import { STATUS_CODES } from 'node:http';
import { WunderproxyError } from '../errors.ts';
import type { Exchange, RequestHead } from './exchange.ts';
import { httpDate } from './headers.ts';
import { hostName } from './limits.ts';

/** Which plain requests have to come back over https. */
export interface RedirectPolicy {
  /** Of the TLS listener; null: none has to. */
  readonly port: number | null;
  /** Paths that are served over plain HTTP. */
  readonly plainPaths: ReadonlySet<string>;
}

/** RFC 8555 section 8.3: asked for over plain HTTP, because there may be no certificate yet. */
const ACME_CHALLENGES = '/.well-known/acme-challenge/';

/** Permanent, and unlike 301 with method and body kept (RFC 9110 section 15.4.9). */
const STATUS = 308;

/**
 * Where a request over plain HTTP is sent to, or null when it is to be served. Throws `bad_request` when it does not say
 * for which host it is.
 */
export function redirectTarget(head: RequestHead, policy: RedirectPolicy): string | null {
  const { host, target } = head;
  if (policy.port === null || isServedPlain(target, policy)) return null;
  if (host === null) throw new WunderproxyError('bad_request');
  const port = policy.port === 443 ? '' : `:${policy.port}`;
  return `https://${hostName(host)}${port}${target === '*' ? '' : target}`;
}

function isServedPlain(target: string, policy: RedirectPolicy): boolean {
  if (target.startsWith(ACME_CHALLENGES)) return true;
  const query = target.indexOf('?');
  return policy.plainPaths.has(query === -1 ? target : target.slice(0, query));
}

/** Answers with a redirect; a body is not waited for. */
export function redirect(exchange: Exchange, location: string): void {
  const reason = STATUS_CODES[STATUS] ?? '';
  const body = Buffer.from(`${reason}\n`);
  const fields = ['Location', location, 'Content-Type', 'text/plain; charset=utf-8', 'X-Request-Id', exchange.id];
  fields.push('Date', httpDate(Date.now()));
  exchange.reply({ status: STATUS, reason, fields, length: body.length }, body);
}
