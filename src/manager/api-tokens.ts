import { createHash, timingSafeEqual } from 'node:crypto';
import type { Context } from 'koa';

/** The bearer tokens that are good for the API at the moment: several while one takes the place of another. */
export class ApiTokens {
  readonly #current: () => readonly string[];

  /** `current`: those that are good now; empty: none is asked for. */
  constructor(current: () => readonly string[]) {
    this.#current = current;
  }

  /** Whether the API asks for one at all. */
  get required(): boolean {
    return this.#current().length > 0;
  }

  get all(): readonly string[] {
    return this.#current();
  }

  /**
   * The one that this is; null: it is none of them. It is compared with all, by digests: neither content nor length, nor which
   * one it is, shows in the time that it takes.
   */
  find(given: string): string | null {
    let found: string | null = null;
    for (const token of this.#current()) if (sameSecret(given, token)) found = token;
    return found;
  }
}

/** The token that a request carries (RFC 6750 section 2.1); null: none, or in another form. */
export function bearerOf(context: Context): string | null {
  return /^Bearer +(\S+)$/i.exec(context.get('authorization'))?.[1] ?? null;
}

/**
 * Whether a request that was let in would be let in now: asked again and again while its answer goes on. `admits`: as for
 * guardToken.
 */
export function isStillAdmitted(context: Context, tokens: ApiTokens, admits: (context: Context) => boolean): boolean {
  if (!tokens.required) return true;
  const given = bearerOf(context);
  return given === null ? context.get('authorization') === '' && admits(context) : tokens.find(given) !== null;
}

function sameSecret(a: string, b: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}
