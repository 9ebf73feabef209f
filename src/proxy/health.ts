import { STATUS_CODES } from 'node:http';
import type { Exchange, RequestHead } from './exchange.ts';
import { httpDate } from './headers.ts';
import { PROBE, probeOf } from './peer-headers.ts';
import type { PeerSecrets } from './peer-secret.ts';
import type { Router } from './router.ts';

/** Where a worker answers by itself whether it could serve the application (RFC 8615). */
export const HEALTH_PATH = '/.well-known/wunderproxy';

/** Whether a request asks for this machine's health: it is never passed on. */
export function isHealthCheck({ target }: RequestHead): boolean {
  return target.startsWith(HEALTH_PATH) && (target.length === HEALTH_PATH.length || target[HEALTH_PATH.length] === '?');
}

/** What the answer is made of. */
export interface HealthContext {
  readonly router: Router;
  /** This machine's id. */
  readonly machine: string;
  /** Of this start of the program. */
  readonly instance: string;
  readonly markers: { readonly secrets: PeerSecrets | null };
}

/**
 * Answers 200 when a container is in service, else 503, and tells nobody more. A machine that knows the secret learns
 * which machine this is, and can tell that the answer is of now and nobody else's. Returns whether it was one.
 */
export function respondToHealthCheck(
  exchange: Exchange,
  { router, machine, instance, markers }: HealthContext,
): boolean {
  const active = router.current !== null;
  const status = active ? 200 : 503;
  const body = Buffer.from(active ? 'ok\n' : 'no container is in service\n');
  const fields = ['Content-Type', 'text/plain; charset=utf-8', 'Cache-Control', 'no-store'];
  fields.push('Date', httpDate(Date.now()));
  const question = probeOf(exchange.head);
  const opened = question === null ? null : (markers.secrets?.open('probe', question) ?? null);
  const challenge = opened?.values['challenge'];
  if (opened !== null && challenge !== undefined) {
    const values = { machine, instance, active: active ? '1' : '0', time: String(Date.now()) };
    fields.push(PROBE, opened.secret.seal('health', values, [challenge]));
  }
  exchange.reply({ status, reason: STATUS_CODES[status] ?? '', fields, length: body.length }, body);
  return challenge !== undefined;
}
