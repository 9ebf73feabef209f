import { createHmac, randomBytes, scryptSync, timingSafeEqual } from 'node:crypto';
import type { Context } from 'koa';

/** So long (ms) a login is good for. */
const LIFETIME = 12 * 3_600_000;

/** Logouts that are remembered at the most. */
const REMEMBERED = 10_000;

/**
 * Logins of browsers: a cookie `<end>.<random>.<HMAC>`, whose key is made from the token that was given. So a login outlives
 * a restart of the manager, which is when the page is needed most, nothing is kept per login, and it ends when its token
 * is good no more. The key is made slowly (scrypt), so that a cookie is of no use for guessing the token. Logouts are remembered until the cookie
 * would have ended; one from before a restart of the manager is not, but by then the browser has dropped the cookie.
 */
export class Sessions {
  readonly #tokens: () => readonly string[];
  readonly #now: () => number;
  readonly #ended = new Map<string, number>();
  /** By token. */
  readonly #keys = new Map<string, Buffer>();

  /** `tokens`: those that are good now. `now`: ms since the epoch. */
  constructor(tokens: () => readonly string[], now: () => number = Date.now) {
    this.#tokens = tokens;
    this.#now = now;
  }

  /** The `Set-Cookie` of a new login with this token. `secure`: the browser speaks https. */
  begin(context: Context, token: string, secure: boolean): string {
    const payload = `${this.#now() + LIFETIME}.${randomBytes(18).toString('base64url')}`;
    return this.#cookie(context, `${payload}.${this.#sign(payload, token)}`, LIFETIME / 1_000, secure);
  }

  /** Ends the login of this request, if it has one; the `Set-Cookie` that removes it. */
  end(context: Context): string {
    const value = this.#valid(context);
    if (value !== null) {
      for (const [each, end] of this.#ended) {
        if (end < this.#now() || this.#ended.size >= REMEMBERED) this.#ended.delete(each);
      }
      this.#ended.set(value, Number.parseInt(value, 10));
    }
    return this.#cookie(context, '', 0, false);
  }

  /** Whether this request carries a login that is good now. */
  admits(context: Context): boolean {
    return this.#valid(context) !== null;
  }

  #valid(context: Context): string | null {
    const value = context.cookies.get(this.#name(context)) ?? '';
    const [, payload, end, signature] = /^((\d{13})\.[\w-]{24})\.([\w-]{43})$/.exec(value) ?? [];
    if (payload === undefined || end === undefined || signature === undefined) return null;
    if (!this.#isSigned(payload, signature)) return null;
    return Number(end) > this.#now() && !this.#ended.has(value) ? value : null;
  }

  /** With any of the tokens that are good now. */
  #isSigned(payload: string, signature: string): boolean {
    const tokens = this.#tokens();
    for (const token of this.#keys.keys()) if (!tokens.includes(token)) this.#keys.delete(token);
    const given = Buffer.from(signature);
    return tokens.filter((token) => timingSafeEqual(given, Buffer.from(this.#sign(payload, token)))).length > 0;
  }

  #sign(payload: string, token: string): string {
    const key = this.#keys.get(token) ?? scryptSync(token, 'wunderproxy login', 32);
    this.#keys.set(token, key);
    return createHmac('sha256', key).update(payload).digest('base64url');
  }

  #cookie(context: Context, value: string, seconds: number, secure: boolean): string {
    const rest = `Path=/; Max-Age=${seconds}; HttpOnly; SameSite=Strict${secure ? '; Secure' : ''}`;
    return `${this.#name(context)}=${value}; ${rest}`;
  }

  /** Cookies are shared by all ports of a host (RFC 6265, section 8.5); two wunderproxies on it keep theirs apart. */
  #name(context: Context): string {
    return `wunderproxy-${/:(\d+)$/.exec(context.get('host'))?.[1] ?? 'login'}`;
  }
}
