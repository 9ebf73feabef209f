import type { ErrorCode } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { PeerMaterial } from '../peer-messages.ts';
import { Allowance } from './allowance.ts';
import type { RequestHead } from './exchange.ts';
import { markerOf, signedParts } from './peer-headers.ts';
import { type PeerSecret, PeerSecrets } from './peer-secret.ts';
import { Counts } from './tally.ts';

/** How far (ms) the clock of a machine that passes requests on may be from ours. */
export const FRESH = 60_000;
/** The primary answers at once; a worker that gets no answer for so long (ms) refuses. */
const ASK_LIMIT = 2_000;
/** Warnings of refused markers: so many a second in the long run. */
const WARNED_PER_SECOND = 1;

/**
 * What the marker of a request is worth. `trusted`: a peer passes it on. `forged`: it is no peer's. `stale`, `replayed`: it is a
 * peer's, but too old or taken for the second time.
 */
export type Worth = 'trusted' | 'forged' | 'stale' | 'replayed';

/** By what a peer knows an error as its answer. */
export interface Signed {
  nonce: string;
  secret: PeerSecret;
}

/** A request's marker that a peer has signed. */
interface Arrived {
  worth: Worth;
  /** Of `trusted`, `stale` and `replayed`. */
  signed: Signed | null;
}

const FORGED: Arrived = { worth: 'forged', signed: null };

/** Looks at the markers with which peers pass requests on to this machine. */
export class Markers {
  #secrets: PeerSecrets | null;
  readonly #log: Logger;
  readonly #ask: (nonce: string, until: number) => void;
  readonly #asked = new Map<string, (fresh: boolean) => void>();
  readonly #warnings = new Allowance(10, WARNED_PER_SECOND);
  readonly counts = new Counts<Worth>();

  /** `ask` gets the question whether a nonce is new to the primary, whose answer comes to `receive`, or never. */
  constructor(material: PeerMaterial | null, log: Logger, ask: (nonce: string, until: number) => void) {
    this.#secrets = material && new PeerSecrets(material.secrets);
    this.#log = log;
    this.#ask = ask;
  }

  /** Null: no machine is trusted. */
  get secrets(): PeerSecrets | null {
    return this.#secrets;
  }

  setMaterial(material: PeerMaterial): void {
    this.#secrets = new PeerSecrets(material.secrets);
  }

  /** Never rejects. */
  async look(head: RequestHead): Promise<Arrived> {
    const arrived = await this.#judge(head);
    this.counts.add(arrived.worth);
    if (arrived.signed !== null && arrived.worth !== 'trusted' && this.#warnings.spend(1)) {
      this.#log.warn({ marker: arrived.worth }, 'a request that a peer has signed is refused');
    }
    return arrived;
  }

  async #judge(head: RequestHead): Promise<Arrived> {
    const text = markerOf(head);
    const opened = text === null ? null : (this.#secrets?.open('request', text, signedParts(head)) ?? null);
    const { nonce, time } = opened?.values ?? {};
    if (opened === null || nonce === undefined || time === undefined) return FORGED;
    const signed: Signed = { nonce, secret: opened.secret };
    // Whoever makes one up may write anything, but only peers sign.
    if (!(Math.abs(Date.now() - Number(time)) <= FRESH)) return { worth: 'stale', signed };
    const fresh = await this.#isFresh(nonce, Number(time) + FRESH);
    return { worth: fresh ? 'trusted' : 'replayed', signed };
  }

  /** Of all workers, only one may take it. */
  async #isFresh(nonce: string, until: number): Promise<boolean> {
    if (this.#asked.has(nonce)) return false;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const timer = setTimeout(() => resolve(false), ASK_LIMIT);
    this.#asked.set(nonce, resolve);
    this.#ask(nonce, until);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#asked.delete(nonce);
    }
  }

  receive(nonce: string, fresh: boolean): void {
    this.#asked.get(nonce)?.(fresh);
  }
}

/** For an error that this machine answers to a peer's request: proves that it is not the application's. */
export function sealRefusal({ nonce, secret }: Signed, code: ErrorCode): string {
  return secret.seal('refusal', { error: code }, [nonce]);
}
