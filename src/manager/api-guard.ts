import { createHash, timingSafeEqual } from 'node:crypto';
import { isIP } from 'node:net';
import type { Context, Middleware } from 'koa';
import { WunderproxyError } from '../errors.ts';

/**
 * Keeps out who may not be here. With a token: who does not carry it. Without one the API listens where only this
 * machine reaches it, but a browser on it may be made to: by a foreign page (Origin) or a foreign name that resolves to
 * this machine (Host, DNS rebinding).
 */
export function guard(token: () => string | null): Middleware {
  return async (context, next) => {
    const expected = token();
    if (expected !== null) checkToken(context, expected);
    else if (!isOwnName(context.get('host'))) throw new WunderproxyError('forbidden');
    checkOrigin(context);
    await next();
  };
}

function checkToken(context: Context, expected: string): void {
  const given = /^Bearer +(\S+)$/i.exec(context.get('authorization'))?.[1];
  if (given !== undefined && sameSecret(given, expected)) return;
  context.set('WWW-Authenticate', 'Bearer realm="wunderproxy"');
  throw new WunderproxyError('unauthorized');
}

/** Compares digests, so that neither content nor length shows in the time that it takes. */
function sameSecret(a: string, b: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}

/** Browsers send Origin with every request of a page that may change something (Fetch standard, section 3.1). */
function checkOrigin(context: Context): void {
  const origin = context.get('origin');
  if (origin === '') return;
  if (!URL.canParse(origin) || new URL(origin).host !== context.get('host')) throw new WunderproxyError('forbidden');
}

/** A loopback name or a numeric address: neither can be made to point here by a foreign DNS server. */
function isOwnName(host: string): boolean {
  const name = host.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
  return name === '' || name === 'localhost' || name.endsWith('.localhost') || isIP(name) !== 0;
}
