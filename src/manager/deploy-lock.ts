import { createHash } from 'node:crypto';
import { messageOf, WunderproxyError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { isoTime } from '../units.ts';
import type { ConfigStore } from './store.ts';

const LOCK = 'deploy-lock.json';

/** How often a compare-and-swap is tried again while others are faster. */
const ATTEMPTS = 5;
/** How old (ms) what is known of the lock may become while somebody looks. */
const FRESH = 10_000;
/**
 * A lock that ended so long ago (ms) by this machine's clock has ended: clocks are not trusted, but S3 refuses requests of
 * machines that are off by more than 15 minutes, so no two that use it are more than this apart.
 */
const WRONGEST_CLOCK = 30 * 60_000;

/** Who deploys, for people. */
export interface LockInfo {
  Owner: string;
  /** What is done under it. */
  What: string;
  /** The machine whose manager wrote it last. */
  Machine: string;
  /** ISO 8601. */
  TakenAt: string;
  /** ISO 8601; it is renewed long before, as long as its owner lives. */
  ExpiresAt: string;
}

/** What `deploy-lock.json` holds while somebody has the lock. */
interface LockObject extends LockInfo {
  /** SHA-256 of the owner's token, hex: whoever reads the store can't renew or release it. */
  Token: string;
  /** How long it lives without being renewed, in ms. */
  Life: number;
  /** Grows with every renewal, so that no two versions are the same bytes. */
  Beat: number;
}

/** What a deploy asks for. */
export interface LockRequest {
  /** A secret of the owner's own making, so that a request whose answer was lost can be repeated. */
  token: string;
  owner: string;
  what: string;
  /** In ms. */
  life: number;
}

/**
 * The lock that keeps two deploys apart: one object in the store, held by compare-and-swap and renewed by its owner.
 *
 * No clock is compared with another, as far as that can be avoided: an owner is taken for dead when the object has not
 * changed for its life by the steady clock of the machine that watches it.
 */
export class DeployLock {
  readonly #store: ConfigStore;
  readonly #machine: string;
  readonly #log: Logger;
  /** The version that was last seen, and since when (performance.now()). */
  #seen: { version: string; since: number } | null = null;
  #known: LockObject | null = null;
  #readAt = -Infinity;

  /** `machine`: how this machine is called. */
  constructor(store: ConfigStore, machine: string, log: Logger) {
    this.#store = store;
    this.#machine = machine;
    this.#log = log;
  }

  /** As it was last read; null: nobody has it, or whoever had it is gone. */
  get known(): LockInfo | null {
    return this.#known && !this.#isDead(this.#known) ? infoOf(this.#known) : null;
  }

  /** Reads it again if what is known has become old. Never rejects. */
  async refresh(): Promise<void> {
    if (performance.now() - this.#readAt < FRESH) return;
    this.#readAt = performance.now();
    try {
      await this.#read();
    } catch (error) {
      this.#log.debug({ why: messageOf(error) }, 'the deploy lock can not be read at the moment');
    }
  }

  /** Who has it now. Throws `store_unavailable`. */
  async holder(): Promise<LockInfo | null> {
    await this.#read();
    return this.known;
  }

  /** Takes it, or renews it if this token holds it already. Throws `deploy_locked`, `store_unavailable`. */
  async take(request: LockRequest): Promise<LockInfo> {
    return this.#hold(request, (held) => {
      if (held === null || held.Token === digestOf(request.token)) return;
      if (!this.#isDead(held)) throw lockedBy(held);
      this.#log.warn({ owner: held.Owner, what: held.What }, 'the holder of the deploy lock is gone: it is taken over');
    });
  }

  /** Throws `deploy_locked` when it is not held by this token any more, `store_unavailable`. */
  async renew(request: LockRequest): Promise<LockInfo> {
    return this.#hold(request, (held) => {
      if (held?.Token === digestOf(request.token)) return;
      if (held !== null) throw lockedBy(held);
      throw new WunderproxyError('deploy_locked', { message: 'The deploy lock is no longer held: it was released.' });
    });
  }

  /** Gives it back; that it is not held is fine. Throws `deploy_locked` when somebody else has it, `store_unavailable`. */
  async release(token: string): Promise<void> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const { held, version } = await this.#read();
      if (held === null) return;
      if (held.Token !== digestOf(token)) throw lockedBy(held);
      if (await this.#store.replace(LOCK, format({ Beat: held.Beat + 1 }), version)) {
        this.#known = null;
        return;
      }
    }
    throw contended();
  }

  /** `check` throws when it may not be had. */
  async #hold({ token, owner, what, life }: LockRequest, check: (held: LockObject | null) => void): Promise<LockInfo> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const { held, beat, version } = await this.#read();
      check(held);
      const now = Date.now();
      const ours = held?.Token === digestOf(token);
      const next: LockObject = {
        Owner: owner,
        What: what,
        Machine: this.#machine,
        TakenAt: ours ? held.TakenAt : isoTime(now),
        ExpiresAt: isoTime(now + life),
        Token: digestOf(token),
        Life: life,
        Beat: beat + 1,
      };
      if (!(await this.#store.replace(LOCK, format(next), version))) continue;
      await this.#read();
      return infoOf(next);
    }
    throw contended();
  }

  async #read(): Promise<{ held: LockObject | null; beat: number; version: string | null }> {
    const found = await this.#store.read(LOCK);
    this.#readAt = performance.now();
    const { held, beat } = parse(found?.bytes ?? null);
    const version = found?.version ?? null;
    if (version === null) this.#seen = null;
    else if (this.#seen?.version !== version) this.#seen = { version, since: performance.now() };
    this.#known = held;
    return { held, beat, version };
  }

  #isDead(held: LockObject): boolean {
    const unchangedFor = this.#seen === null ? 0 : performance.now() - this.#seen.since;
    return unchangedFor >= held.Life || Date.now() - Date.parse(held.ExpiresAt) > WRONGEST_CLOCK;
  }
}

function digestOf(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}

function infoOf({ Owner, What, Machine, TakenAt, ExpiresAt }: LockInfo): LockInfo {
  return { Owner, What, Machine, TakenAt, ExpiresAt };
}

function lockedBy(held: LockObject): WunderproxyError {
  const { Owner, What, TakenAt, ExpiresAt } = held;
  return new WunderproxyError('deploy_locked', {
    message: `${Owner} is deploying: ${What}, since ${TakenAt}. The lock ends at ${ExpiresAt} unless it is renewed.`,
    detail: infoOf(held),
  });
}

function contended(): WunderproxyError {
  return new WunderproxyError('deploy_locked', { message: 'Others are taking the deploy lock at this very moment.' });
}

/** A damaged one is nobody's. */
function parse(bytes: Buffer | null): { held: LockObject | null; beat: number } {
  let json: unknown;
  try {
    json = JSON.parse(bytes?.toString() ?? '{}');
  } catch {
    json = {};
  }
  const found = (typeof json === 'object' && json !== null ? json : {}) as Partial<LockObject>;
  const beat = Number.isSafeInteger(found.Beat) ? Number(found.Beat) : 0;
  const { Owner, What, Machine, TakenAt, ExpiresAt, Token, Life } = found;
  const texts = [Owner, What, Machine, TakenAt, ExpiresAt, Token].every((text) => typeof text === 'string');
  if (!texts || typeof Life !== 'number' || Number.isNaN(Date.parse(String(ExpiresAt)))) return { held: null, beat };
  return { held: found as LockObject, beat };
}

function format(lock: LockObject | { Beat: number }): Buffer {
  return Buffer.from(`${JSON.stringify(lock, null, 2)}\n`);
}
