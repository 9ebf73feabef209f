import { createHmac, createSecretKey, type KeyObject, timingSafeEqual } from 'node:crypto';

/** What a text is for: one that was signed for one purpose is worth nothing for another. */
export type Purpose = 'request' | 'refusal' | 'probe' | 'health';

/** More is not looked at. */
const LONGEST = 512;
const FORM = /^v1(?:; [a-z]+=[\w.-]+)+$/;

/** A secret that machines share: it signs what they say to one another, and proves that one of them said it. */
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

  equals(other: PeerSecret): boolean {
    return this.#key.equals(other.#key);
  }

  #sign(purpose: Purpose, pairs: readonly string[], more: readonly string[]): Buffer {
    const lines = [purpose, String(pairs.length), ...pairs, ...more];
    return createHmac('sha256', this.#key).update(lines.join('\n'), 'latin1').digest();
  }
}

/** A text that a machine has signed: what it says, and the secret that it was signed with, which its answer is signed with too. */
export interface Opened {
  values: Record<string, string>;
  secret: PeerSecret;
}

/** The secrets that this machine knows: several while one takes the place of another. */
export class PeerSecrets {
  /** The one that signs what this machine begins. */
  readonly first: PeerSecret;
  readonly #all: readonly PeerSecret[];

  /** @param secrets in base64, at least one */
  constructor(secrets: readonly string[]) {
    this.#all = secrets.map((secret) => new PeerSecret(secret));
    const [first] = this.#all;
    if (first === undefined) throw new RangeError('there is no secret');
    this.first = first;
  }

  /** As PeerSecret's, by whichever secret. All are tried, so that the time that it takes does not tell which one it was. */
  open(purpose: Purpose, text: string, more: readonly string[] = []): Opened | null {
    let opened: Opened | null = null;
    for (const secret of this.#all) {
      const values = secret.open(purpose, text, more);
      if (values !== null) opened = { values, secret };
    }
    return opened;
  }

  has(secret: PeerSecret): boolean {
    return this.#all.some((each) => each.equals(secret));
  }
}
