import { randomBytes } from 'node:crypto';
import { messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { ConfigStore } from './store.ts';

/** What happened: one object in the store each, never rewritten. */
export interface JournalEntry {
  /** ISO 8601. */
  Time: string;
  Event: 'launch' | 'switch' | 'rollback' | 'drain' | 'stop' | 'failure';
  /** Who asked for it; empty when wunderproxy acted by itself. */
  By: string;
  Host: string;
  Hash: string;
  Revision: string;
  Container: string;
  Outcome: 'ok' | 'failed';
  /** What went wrong, or how it went. */
  Message: string;
  Detail?: unknown;
}

/** At most so many entries are waiting for the store; older ones are dropped, with a line in the log. */
const QUEUE_LENGTH = 1_000;

/** How many of the last entries `recent` knows. */
export const JOURNAL_SHOWN = 100;

/**
 * Writes the journal behind the back of the deployments: a store that is down neither delays nor fails them, their
 * entries wait. What it says also stands in the log.
 */
export class Journal {
  readonly #store: ConfigStore;
  readonly #host: string;
  readonly #log: Logger;
  readonly #queue: { key: string; bytes: Buffer }[] = [];
  readonly #known = new Map<string, JournalEntry>();
  #writing: Promise<void> | null = null;

  constructor(store: ConfigStore, host: string, log: Logger) {
    this.#store = store;
    this.#host = host;
    this.#log = log;
  }

  add(entry: Omit<JournalEntry, 'Time' | 'Host'>): void {
    const full: JournalEntry = { Time: new Date().toISOString(), Host: this.#host, ...entry };
    // The time comes first in the key so that a listing is in order; the rest keeps machines apart.
    const key = `journal/${full.Time.replaceAll(':', '-')}-${randomBytes(4).toString('hex')}.json`;
    this.#known.set(key, full);
    for (const oldest of this.#known.keys()) if (this.#known.size > QUEUE_LENGTH) this.#known.delete(oldest);
    this.#queue.push({ key, bytes: Buffer.from(`${JSON.stringify(full, null, 2)}\n`) });
    if (this.#queue.length > QUEUE_LENGTH) {
      this.#log.warn({ key: this.#queue.shift()?.key }, 'journal entry dropped: the store has been down for too long');
    }
    void this.flush();
  }

  /** Writes what waits; entries that can't be written go on waiting for the next call. Never rejects. */
  async flush(): Promise<void> {
    this.#writing ??= this.#writeAll().finally(() => {
      this.#writing = null;
    });
    await this.#writing;
  }

  async #writeAll(): Promise<void> {
    for (let next = this.#queue[0]; next; next = this.#queue[0]) {
      try {
        await this.#store.write(next.key, next.bytes);
      } catch (error) {
        this.#log.warn({ why: messageOf(error), waiting: this.#queue.length }, 'journal entries wait for the store');
        return;
      }
      this.#queue.shift();
    }
  }

  /** The entries that are known without the store, oldest first: this manager's own and what `recent` has seen. */
  known(): JournalEntry[] {
    return [...this.#known].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, entry]) => entry);
  }

  /** The last entries of all machines, oldest first. Throws `store_unavailable`. */
  async recent(): Promise<JournalEntry[]> {
    await this.flush();
    const keys = (await this.#store.list('journal/')).slice(-JOURNAL_SHOWN);
    const entries = await Promise.all(keys.map(async (key) => this.#entry(key)));
    for (const key of this.#known.keys()) if (!keys.includes(key)) this.#known.delete(key);
    return entries.filter((entry) => entry !== null);
  }

  async #entry(key: string): Promise<JournalEntry | null> {
    const known = this.#known.get(key);
    if (known) return known;
    const object = await this.#store.read(key);
    if (object === null) return null;
    try {
      const entry = JSON.parse(object.bytes.toString('utf8')) as JournalEntry;
      this.#known.set(key, entry);
      return entry;
    } catch {
      return null;
    }
  }
}
