import { createHash, generateKeyPairSync } from 'node:crypto';
import * as z from 'zod';
import { checkCertificate, CertificateError } from '../certificates.ts';
import { WunderproxyError } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { ConfigStore } from './store.ts';

/*
 * What ACME keeps in the store, for all machines that share it. `<set>` stands for a list of names at one authority, so
 * that machines with different lists, as while a new list is rolled out, never write over one another's certificate.
 *
 *     acme/accounts/<authority>.json     the account's key
 *     acme/certificates/<set>.json       a certificate with its chain and key
 *     acme/attempts/<set>.json           how the last order went
 *     acme/challenges.json               answers to the challenges of the order under way
 *     acme/lease.json                    who orders (acme-lease.ts)
 */

/** Challenges that are asked for by the certificate authority: token → key authorization (RFC 8555 section 8.1). */
export type Answers = Record<string, string>;

const CHALLENGES = 'acme/challenges.json';

/** Base64url (RFC 8555 section 8.3). The longest in use have 43 characters. */
export const TOKEN = /^[A-Za-z0-9_-]{1,128}$/;

const accountSchema = z.looseObject({ Directory: z.string(), Key: z.string() });

const certificateSchema = z.looseObject({
  Directory: z.string(),
  Domains: z.array(z.string()).min(1),
  Certificate: z.string(),
  Key: z.string(),
});

const attemptSchema = z.looseObject({
  At: z.iso.datetime(),
  Error: z.string().nullable(),
  Failures: z.number().int().min(0),
  NextTry: z.iso.datetime().nullable(),
});

const answersSchema = z.record(z.string().regex(TOKEN), z.string());

/** Why there is no new certificate: for log and `/status`, without keys. */
export class AcmeError extends Error {
  /** The authority wants to be left alone for so long, in ms. */
  readonly retryAfter: number;
  constructor(message: string, options: { retryAfter?: number; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.name = 'AcmeError';
    this.retryAfter = options.retryAfter ?? 0;
  }
}

/** A certificate that was obtained, and what it is good for. Times in ms since the epoch. */
export interface Obtained {
  domains: string[];
  /** PEM, with its chain. */
  cert: string;
  /** PEM. */
  key: string;
  notBefore: number;
  notAfter: number;
  /** As they stand in the store. */
  bytes: Buffer;
}

/** What stands in the certificate's place. */
export interface CertificateObject {
  /** Null: there is none, or none that could be used. */
  obtained: Obtained | null;
  /** Null: there is no object. */
  version: string | null;
}

/** How the last order for a set of names went, whoever ordered. */
export interface Attempt {
  /** ISO 8601. */
  At: string;
  /** Null: it succeeded. */
  Error: string | null;
  /** In a row. */
  Failures: number;
  /** ISO 8601; null: when the certificate has come to its time. */
  NextTry: string | null;
}

/** The objects of ACME in the store. Methods throw `store_unavailable`, also when an object can't be understood. */
export class AcmeObjects {
  readonly #store: ConfigStore;
  readonly #log: Logger;
  readonly #directory: string;
  readonly #domains: string[];
  readonly #set: string;

  constructor(store: ConfigStore, directory: string, domains: string[], log: Logger) {
    this.#store = store;
    this.#log = log;
    this.#directory = directory;
    this.#domains = domains;
    this.#set = `${domains[0]}-${digest([directory, ...domains.toSorted()].join('\n'))}`;
  }

  /** PEM. The first machine that asks makes it. */
  async accountKey(): Promise<string> {
    const authority = new URL(this.#directory).hostname.replace(/[^a-z0-9.-]/g, '_');
    const key = `acme/accounts/${authority}-${digest(this.#directory)}.json`;
    const found = await this.#store.read(key);
    if (found) return understand(key, () => accountSchema.parse(JSON.parse(found.bytes.toString()))).Key;
    const made = newKey();
    if (await this.#store.replace(key, format({ Directory: this.#directory, Key: made }), null)) return made;
    return this.accountKey();
  }

  /** The certificate for exactly these names. */
  async certificate(): Promise<CertificateObject> {
    const key = `acme/certificates/${this.#set}.json`;
    const object = await this.#store.read(key);
    if (!object) return { obtained: null, version: null };
    return { obtained: this.#usable(key, object.bytes), version: object.version };
  }

  /** While there is none: the one for other names that covers most of ours and has not expired. */
  async substitute(): Promise<Obtained | null> {
    let best: Obtained | null = null;
    for (const key of await this.#store.list('acme/certificates/')) {
      const object = await this.#store.read(key);
      const candidate = object && this.#usable(key, object.bytes);
      if (candidate && this.#covered(candidate) > (best ? this.#covered(best) : 0)) best = candidate;
    }
    return best;
  }

  /** A copy of what the store had. Null when it is of no use. */
  fromCopy(bytes: Buffer): Obtained | null {
    const copy = this.#usable('the last known good copy', bytes);
    return copy && this.#covered(copy) > 0 ? copy : null;
  }

  /** How many of our names it can be shown for; none when it has expired. */
  #covered({ domains, notAfter }: Obtained): number {
    return notAfter < Date.now() ? 0 : this.#domains.filter((domain) => domains.includes(domain)).length;
  }

  #usable(name: string, bytes: Buffer): Obtained | null {
    try {
      const { Domains, Certificate, Key } = certificateSchema.parse(JSON.parse(bytes.toString()));
      return { ...checked(Domains, Certificate, Key), bytes };
    } catch (error) {
      // The parts are keys and certificates: what is wrong with them must be told without them.
      const told = error instanceof AcmeError || error instanceof CertificateError;
      const why = told ? error.message : 'it is damaged';
      this.#log.error({ object: name, why }, 'a stored certificate can not be used');
      return null;
    }
  }

  /**
   * Stores a certificate in the place of the version that was there. Resolves to null when somebody else was faster.
   * Throws AcmeError or CertificateError when it is not what was asked for.
   */
  async putCertificate(cert: string, key: string, expected: string | null): Promise<Obtained | null> {
    const fields = checked(this.#domains, cert, key);
    const bytes = format({ Directory: this.#directory, Domains: this.#domains, Certificate: cert, Key: key });
    const written = await this.#store.replace(`acme/certificates/${this.#set}.json`, bytes, expected);
    return written ? { ...fields, bytes } : null;
  }

  /** How the last order for these names went; null: there was none. */
  async attempt(): Promise<Attempt | null> {
    const key = `acme/attempts/${this.#set}.json`;
    const object = await this.#store.read(key);
    return object && understand(key, () => attemptSchema.parse(JSON.parse(object.bytes.toString())));
  }

  async putAttempt(attempt: Attempt): Promise<void> {
    await this.#store.write(`acme/attempts/${this.#set}.json`, format(attempt));
  }

  async answers(): Promise<Answers> {
    const object = await this.#store.read(CHALLENGES);
    if (!object) return {};
    return understand(CHALLENGES, () => answersSchema.parse(JSON.parse(object.bytes.toString())));
  }

  /** Only whoever orders writes them. */
  async putAnswers(answers: Answers): Promise<void> {
    await this.#store.write(CHALLENGES, format(answers));
  }
}

/** A new private key, ECDSA on P-256, in PEM. */
export function newKey(): string {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
}

function format(object: object): Buffer {
  return Buffer.from(`${JSON.stringify(object, null, 2)}\n`);
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 12);
}

function understand<T>(key: string, parse: () => T): T {
  try {
    return parse();
  } catch {
    throw new WunderproxyError('store_unavailable', { message: `${key} in the store is damaged.` });
  }
}

function checked(domains: string[], cert: string, key: string): Omit<Obtained, 'bytes'> {
  const { hosts, info } = checkCertificate({ source: 'acme', cert, key });
  const missing = domains.filter((domain) => !hosts.includes(domain));
  if (missing.length > 0) throw new AcmeError(`The certificate is not for ${missing.join(', ')}.`);
  return { domains, cert, key, notBefore: info.notBefore, notAfter: info.notAfter };
}
