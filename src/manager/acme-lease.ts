import { messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { ConfigStore } from './store.ts';

const LEASE = 'acme/lease.json';

/** In ms. */
export interface LeaseTimes {
  /** How often the holder says that it lives. */
  beat: number;
  /** How long a holder may say nothing before another takes its place. */
  stale: number;
}

export const LEASE_TIMES: LeaseTimes = { beat: 15_000, stale: 60_000 };

/** What `acme/lease.json` holds. */
interface LeaseObject {
  /** Null: nobody. */
  Holder: string | null;
  /** Grows while the holder lives. */
  Beat: number;
}

/** A lease that was obtained. */
export interface HeldLease {
  /** Aborts when it is lost: from then on somebody else may hold it. */
  readonly signal: AbortSignal;
  /** Gives it back. Never rejects. */
  release(): Promise<void>;
}

/**
 * One object in the store that one machine at a time holds by compare-and-swap.
 *
 * No clock is compared with another: a holder is taken for dead when its object has not changed for `stale` ms by the
 * watching machine's own steady clock.
 */
export class AcmeLease {
  readonly #store: ConfigStore;
  readonly #holder: string;
  readonly #times: LeaseTimes;
  readonly #log: Logger;
  /** Another's lease, and since when (performance.now()) it has been as it is. */
  #seen: { version: string; since: number } | null = null;

  /** Equal `holder`s are taken for one another's successors: they never live at the same time. */
  constructor(store: ConfigStore, holder: string, log: Logger, times = LEASE_TIMES) {
    this.#store = store;
    this.#holder = holder;
    this.#times = times;
    this.#log = log;
  }

  /** Null when somebody else holds it. Throws `store_unavailable`. */
  async acquire(): Promise<HeldLease | null> {
    const found = await this.#store.read(LEASE);
    const lease = parse(found?.bytes ?? null);
    if (found && lease.Holder !== null && lease.Holder !== this.#holder) {
      if (this.#seen?.version !== found.version) this.#seen = { version: found.version, since: performance.now() };
      if (performance.now() - this.#seen.since < this.#times.stale) return null;
      this.#log.warn({ holder: lease.Holder }, 'whoever ordered the certificate is gone: taking its place');
    }
    const mine = format({ Holder: this.#holder, Beat: lease.Beat + 1 });
    if (!(await this.#store.replace(LEASE, mine, found?.version ?? null))) return null;
    this.#seen = null;
    return new Heartbeat(this.#store, this.#holder, this.#times, this.#log);
  }
}

class Heartbeat implements HeldLease {
  readonly #store: ConfigStore;
  readonly #holder: string;
  readonly #times: LeaseTimes;
  readonly #log: Logger;
  readonly #lost = new AbortController();
  readonly #timer: NodeJS.Timeout;
  #beating: Promise<void> | null = null;
  #lastBeat = performance.now();

  constructor(store: ConfigStore, holder: string, times: LeaseTimes, log: Logger) {
    this.#store = store;
    this.#holder = holder;
    this.#times = times;
    this.#log = log;
    this.#timer = setInterval(() => this.#onTime(), times.beat);
  }

  get signal(): AbortSignal {
    return this.#lost.signal;
  }

  async release(): Promise<void> {
    clearInterval(this.#timer);
    await this.#beating;
    if (this.signal.aborted) return;
    try {
      await this.#write(null);
    } catch (error) {
      this.#log.warn({ why: messageOf(error) }, 'the lease is left to itself: the store can not be written');
    }
  }

  #onTime(): void {
    // Well before others may think so.
    if (performance.now() - this.#lastBeat > 0.75 * this.#times.stale) return this.#lose();
    this.#beating ??= this.#beat().finally(() => {
      this.#beating = null;
    });
  }

  async #beat(): Promise<void> {
    const began = performance.now();
    try {
      if (await this.#write(this.#holder)) this.#lastBeat = began;
      else this.#lose();
    } catch (error) {
      this.#log.warn({ why: messageOf(error) }, 'the lease can not be renewed at the moment');
    }
  }

  #lose(): void {
    clearInterval(this.#timer);
    this.#lost.abort(new Error('another machine may be ordering the certificate by now'));
  }

  /** False when it is no longer ours. */
  async #write(holder: string | null): Promise<boolean> {
    const found = await this.#store.read(LEASE);
    const lease = parse(found?.bytes ?? null);
    if (!found || lease.Holder !== this.#holder) return false;
    return this.#store.replace(LEASE, format({ Holder: holder, Beat: lease.Beat + 1 }), found.version);
  }
}

/** A damaged one is nobody's. */
function parse(bytes: Buffer | null): LeaseObject {
  try {
    const { Holder, Beat } = JSON.parse(bytes?.toString() ?? '{}') as Partial<LeaseObject>;
    return { Holder: typeof Holder === 'string' ? Holder : null, Beat: Number.isSafeInteger(Beat) ? Number(Beat) : 0 };
  } catch {
    return { Holder: null, Beat: 0 };
  }
}

function format(lease: LeaseObject): Buffer {
  return Buffer.from(`${JSON.stringify(lease, null, 2)}\n`);
}
