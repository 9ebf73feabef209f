import { messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import {
  type Heartbeat,
  heartbeatKey,
  HEARTBEATS,
  LARGEST_HEARTBEAT,
  machineOfKey,
  parseHeartbeat,
} from './heartbeat.ts';
import type { ConfigStore, StoredEntry } from './store.ts';

/** So many heartbeats are looked at, the first by their keys. */
const MOST = 200;
/** So many are read at once. */
const WIDTH = 8;
/** A heartbeat that has not changed for so many times its interval is stale. */
const STALE_AFTER = 3.5;
/** Clocks of machines may differ by so much (ms). */
const SKEW = 60_000;
/** So many lines in the log at the most, one for each key. */
const MOST_COMPLAINTS = 500;
/** A stale machine is shown for so long (ms) after its last heartbeat. */
const SHOWN = 24 * 3_600_000;
/** What is left of a machine is removed so long (ms) after its last heartbeat, … */
const KEPT = 7 * 24 * 3_600_000;
/** … but only by who has watched it for so long (ms): clocks may be wrong. */
const WATCHED = 10 * 60_000;

/** What is known of another machine. */
export interface SeenMachine {
  heartbeat: Heartbeat;
  stale: boolean;
  /** When its heartbeat was last seen to change, in ms since the epoch. */
  seenAt: number;
}

/** A heartbeat as it was last read. Times by the steady clock, in ms. */
interface Known {
  heartbeat: Heartbeat;
  /** Of the object that was read. */
  readTag: string;
  /** Of the object that was seen last. */
  tag: string;
  /** Since when it has been watched without a change. */
  quietSince: number;
  firstSeen: number;
  /** When it was seen to change, or else written. */
  seenAt: number;
  stale: boolean;
}

export interface HeartbeatReaderOptions {
  store: ConfigStore;
  /** This machine: it is left out. */
  machine: string;
  /** How often it is polled, in ms. */
  every: number;
  log: Logger;
  /** Steady, in ms. */
  steady?: () => number;
  /** Ms since the epoch. */
  clock?: () => number;
}

/**
 * Reads the heartbeats of all other machines, each only when it has changed. Whether one lives is judged by the steady
 * clock of who reads, as no two clocks can be compared; only of one that is seen for the first time its own time is asked.
 * What is no heartbeat is passed over, with one line in the log.
 */
export class HeartbeatReader {
  readonly #options: HeartbeatReaderOptions;
  readonly #steady: () => number;
  readonly #clock: () => number;
  #known = new Map<string, Known>();
  /** Tags of what is no heartbeat, by key. */
  #passedOver = new Map<string, string>();
  /** Keys that were complained of. */
  readonly #complaints = new Set<string>();
  #polledAt = -Infinity;

  constructor(options: HeartbeatReaderOptions) {
    this.#options = options;
    this.#steady = options.steady ?? (() => performance.now());
    this.#clock = options.clock ?? Date.now;
  }

  /** All others that are to be shown. */
  machines(): SeenMachine[] {
    const age = (heartbeat: Heartbeat) => this.#clock() - Date.parse(heartbeat.At);
    const shown = [...this.#known.values()].filter(({ stale, heartbeat }) => !stale || age(heartbeat) < SHOWN);
    const now = this.#steady();
    return shown.map(({ heartbeat, stale, seenAt }) => ({ heartbeat, stale, seenAt: this.#clock() - (now - seenAt) }));
  }

  /** Looks at the store once. Throws `store_unavailable` when it can't be listed, or nothing that changed can be read. */
  async poll(): Promise<void> {
    const entries = await this.#entries();
    const now = this.#steady();
    this.#notice(entries, now);
    await this.#read(entries);
    for (const known of this.#known.values()) known.stale = now - known.quietSince > this.#patience(known.heartbeat);
    await this.#removeOld(now);
  }

  /** By machine. */
  async #entries(): Promise<Map<string, StoredEntry>> {
    const { store, machine } = this.#options;
    const all = await store.entries(HEARTBEATS, MOST + 1);
    if (all.length > MOST) this.#complain(HEARTBEATS, `there are more than ${MOST}: the rest is not looked at`);
    const entries = new Map<string, StoredEntry>();
    for (const entry of all.slice(0, MOST)) {
      const id = machineOfKey(entry.key);
      if (id === null) this.#complain(entry.key, 'this is no name of a machine');
      else if (id !== machine) entries.set(id, entry);
    }
    return entries;
  }

  /** Who has gone, and who gives a sign of life, whatever it says. */
  #notice(entries: Map<string, StoredEntry>, now: number): void {
    // Nobody knows what happened in a time without a look: it is not held against those who lived before.
    const blind = now - this.#polledAt > 2 * this.#options.every;
    this.#polledAt = now;
    for (const [id, known] of this.#known) {
      const entry = entries.get(id);
      if (!entry) this.#known.delete(id);
      else if (entry.tag !== known.tag) Object.assign(known, { tag: entry.tag, quietSince: now, seenAt: now });
      else if (blind && !known.stale) known.quietSince = now;
    }
    const keys = new Set(Array.from(entries.values(), ({ key }) => key));
    for (const key of this.#passedOver.keys()) if (!keys.has(key)) this.#passedOver.delete(key);
  }

  async #read(entries: Map<string, StoredEntry>): Promise<void> {
    const changed = [...entries].filter(([id, { key, tag }]) => {
      return this.#known.get(id)?.readTag !== tag && this.#passedOver.get(key) !== tag;
    });
    let good = 0;
    for (let from = 0; from < changed.length; from += WIDTH) {
      const batch = changed.slice(from, from + WIDTH);
      const results = await Promise.allSettled(batch.map(async ([id, entry]) => this.#readOne(id, entry)));
      good += results.filter(({ status }) => status === 'fulfilled').length;
      const failed = results.find((result) => result.status === 'rejected');
      // A store that failed for all of them would fail for the others as well, after a while.
      if (failed && good === 0) throw failed.reason;
      results.forEach((result, at) => {
        const key = batch[at]?.[1].key;
        if (result.status === 'rejected' && key !== undefined) this.#complain(key, messageOf(result.reason));
      });
    }
  }

  /** Throws `store_unavailable`. */
  async #readOne(id: string, { key, tag, size }: StoredEntry): Promise<void> {
    if (size > LARGEST_HEARTBEAT) return this.#passOver(id, key, tag, `it has more than ${LARGEST_HEARTBEAT} bytes`);
    const object = await this.#options.store.read(key, LARGEST_HEARTBEAT);
    // Gone by now: the next look will tell.
    if (object === null) return;
    let heartbeat: Heartbeat;
    try {
      heartbeat = parseHeartbeat(id, object.bytes);
    } catch (error) {
      return this.#passOver(id, key, tag, messageOf(error));
    }
    const known = this.#known.get(id);
    if (known) Object.assign(known, { heartbeat, readTag: tag });
    else this.#known.set(id, this.#firstSight(heartbeat, tag));
  }

  #firstSight(heartbeat: Heartbeat, tag: string): Known {
    const now = this.#steady();
    const age = this.#clock() - Date.parse(heartbeat.At);
    const stale = age > this.#patience(heartbeat) + SKEW;
    const written = stale ? now - age : now;
    return { heartbeat, readTag: tag, tag, quietSince: written, firstSeen: now, seenAt: written, stale };
  }

  #passOver(id: string, key: string, tag: string, why: string): void {
    this.#known.delete(id);
    this.#passedOver.set(key, tag);
    this.#complain(key, why);
  }

  /** In ms. */
  #patience({ Every }: Heartbeat): number {
    return STALE_AFTER * Math.max(Every * 1_000, this.#options.every);
  }

  /** Everybody does this; who is first does it for all. Throws `store_unavailable`. */
  async #removeOld(now: number): Promise<void> {
    const { store, log } = this.#options;
    for (const [id, { heartbeat, stale, firstSeen, quietSince }] of this.#known) {
      const watched = now - Math.max(firstSeen, quietSince);
      if (!stale || watched < WATCHED || this.#clock() - Date.parse(heartbeat.At) < KEPT) continue;
      await store.remove(heartbeatKey(id));
      this.#known.delete(id);
      log.info({ machine: id, lastHeartbeat: heartbeat.At }, 'a machine that is gone for a week is forgotten');
    }
  }

  #complain(key: string, why: string): void {
    if (this.#complaints.has(key) || this.#complaints.size >= MOST_COMPLAINTS) return;
    this.#complaints.add(key);
    this.#options.log.warn({ key, why }, 'a heartbeat in the store is passed over');
  }
}
