import type { Exchange, RequestHead } from './exchange.ts';
import { httpDate } from './headers.ts';

/** How long (ms) the manager may take; an ACME server gives up after ten seconds. */
const LIMIT = 3_000;
/** So many tokens may be asked for at a time: the manager is not to be buried by whoever makes some up. */
const MAX_ASKED = 256;

/** RFC 8555 section 8.3; the length is our own bound. */
const PATH = /^\/\.well-known\/acme-challenge\/([A-Za-z0-9_-]{1,128})$/;

interface Asked {
  promise: Promise<string | null>;
  resolve: (answer: string | null) => void;
}

/** Tokens of ACME challenges whose answers the manager knows. */
export class Challenges {
  readonly #ask: (token: string) => void;
  readonly #asked = new Map<string, Asked>();

  /** `ask` gets the question to the manager, whose answer comes to `receive`, or never. */
  constructor(ask: (token: string) => void) {
    this.#ask = ask;
  }

  /** Null: there is no such challenge, nobody answers in time, or too many are asked for. Never rejects. */
  async answer(token: string): Promise<string | null> {
    const asked = this.#asked.get(token);
    if (asked !== undefined) return asked.promise;
    if (this.#asked.size >= MAX_ASKED) return null;
    const { promise, resolve } = Promise.withResolvers<string | null>();
    const timer = setTimeout(() => this.receive(token, null), LIMIT);
    this.#asked.set(token, { promise, resolve });
    this.#ask(token);
    return promise.finally(() => clearTimeout(timer));
  }

  receive(token: string, answer: string | null): void {
    this.#asked.get(token)?.resolve(answer);
    this.#asked.delete(token);
  }
}

/** The token that a request asks for; null when it is not about a challenge. */
export function challengeToken({ method, target }: RequestHead): string | null {
  return method === 'GET' || method === 'HEAD' ? (PATH.exec(target)?.[1] ?? null) : null;
}

/** The answer to a challenge, with the media type of RFC 8555 section 8.3. */
export function respondToChallenge(exchange: Exchange, answer: string): void {
  const body = Buffer.from(answer);
  const fields = [
    'Content-Type',
    'application/octet-stream',
    'Cache-Control',
    'no-store',
    'Date',
    httpDate(Date.now()),
  ];
  exchange.reply({ status: 200, reason: 'OK', fields, length: body.length }, body);
}
