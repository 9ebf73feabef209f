import { createHmac, createSecretKey, type KeyObject, timingSafeEqual } from 'node:crypto';

/** What a text is for: one that was signed for one purpose is worth nothing for another. */
export type Purpose = 'request' | 'refusal' | 'probe' | 'health';

/** More is not looked at. */
const LONGEST = 512;
const FORM = /^v1(?:; [a-z]+=[\w.-]+)+$/;

/** The secret that machines share: it signs what they say to one another, and proves that one of them said it. */
export class PeerSecret {
  readonly #key: KeyObject;

  /** @param secret in base64 */
  constructor(secret: string) {
    this.#key = createSecretKey(Buffer.from(secret, 'base64'));
  }

  /**
   * `v1; name=value; …; sig=…`: the values, and a signature over them, their purpose and `more` (HMAC-SHA256, RFC 2104).
   * Neither values nor `more` may hold line feeds; values are letters, digits and `_.-`.
   */
  seal(purpose: Purpose, values: Record<string, string>, more: readonly string[] = []): string {
    const pairs = Object.entries(values).map(([name, value]) => `${name}=${value}`);
    return ['v1', ...pairs, `sig=${this.#sign(purpose, pairs, more).toString('base64url')}`].join('; ');
  }

  /** The values of a text that was sealed with this secret for that purpose over `more`; else null. */
  open(purpose: Purpose, text: string, more: readonly string[] = []): Record<string, string> | null {
    if (text.length > LONGEST || !FORM.test(text)) return null;
    const pairs = text.split('; ').slice(1);
    const given = /^sig=(.*)$/.exec(pairs.pop() ?? '')?.[1];
    if (given === undefined) return null;
    const expected = this.#sign(purpose, pairs, more);
    const signature = Buffer.from(given, 'base64url');
    if (signature.length !== expected.length || !timingSafeEqual(signature, expected)) return null;
    return Object.fromEntries(pairs.map((pair) => pair.split('=', 2)) as [string, string][]);
  }

  #sign(purpose: Purpose, pairs: readonly string[], more: readonly string[]): Buffer {
    const lines = [purpose, String(pairs.length), ...pairs, ...more];
    return createHmac('sha256', this.#key).update(lines.join('\n'), 'latin1').digest();
  }
}
