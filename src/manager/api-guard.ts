import { isIP } from 'node:net';
import type { Context, Middleware } from 'koa';
import { WunderproxyError } from '../errors.ts';
import { type ApiTokens, bearerOf } from './api-tokens.ts';
import type { LoginFailures } from './login-failures.ts';

/**
 * Keeps out what a browser is made to send: by a foreign page (Origin, Sec-Fetch-Site), and, where no token protects the
 * API, by a foreign name that resolves to this machine (Host, DNS rebinding).
 */
export function guardOrigin(tokens: ApiTokens): Middleware {
  return async (context, next) => {
    if (!tokens.required && !isOwnName(context.get('host'))) throw new WunderproxyError('forbidden');
    checkOrigin(context);
    await next();
  };
}

/**
 * Keeps out who carries no token that is good. `admits`: whether a request is let in by something else, a browser's cookie;
 * what changes something must then prove that it comes from a page of ours, because a browser adds cookies by itself.
 */
export function guardToken(
  tokens: ApiTokens,
  failures: LoginFailures,
  admits: (context: Context) => boolean,
): Middleware {
  return async (context, next) => {
    if (tokens.required) {
      if (context.get('authorization') === '' && admits(context)) requireOwnPage(context);
      else checkToken(context, tokens, failures);
    }
    await next();
  };
}

function checkToken(context: Context, tokens: ApiTokens, failures: LoginFailures): void {
  const given = bearerOf(context);
  if (given !== null) {
    failures.check(context);
    if (tokens.find(given) !== null) return;
    failures.add(context);
  }
  context.set('WWW-Authenticate', 'Bearer realm="wunderproxy"');
  const message =
    given === null ? {} : { message: 'The token is wrong: the right one is in the --api-token-file of this manager.' };
  throw new WunderproxyError('unauthorized', message);
}

/**
 * Browsers send Origin with every request of a page that may change something (Fetch standard, section 3.1), and
 * Sec-Fetch-Site with all others (Fetch Metadata): a foreign page may lead here, but neither load nor send anything.
 */
function checkOrigin(context: Context): void {
  const origin = context.get('origin');
  if (origin !== '' && (!URL.canParse(origin) || new URL(origin).host !== context.get('host'))) {
    throw new WunderproxyError('forbidden');
  }
  const foreign = ['cross-site', 'same-site'].includes(context.get('sec-fetch-site'));
  const leadsHere = isRead(context) && context.get('sec-fetch-mode') === 'navigate';
  if (foreign && !leadsHere) throw new WunderproxyError('forbidden');
}

function requireOwnPage(context: Context): void {
  const own = context.get('origin') !== '' || context.get('sec-fetch-site') === 'same-origin';
  if (!isRead(context) && !own) throw new WunderproxyError('forbidden');
}

function isRead(context: Context): boolean {
  return context.method === 'GET' || context.method === 'HEAD';
}

/** A loopback name or a numeric address: neither can be made to point here by a foreign DNS server. */
function isOwnName(host: string): boolean {
  const name = host.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
  return name === '' || name === 'localhost' || name.endsWith('.localhost') || isIP(name) !== 0;
}
