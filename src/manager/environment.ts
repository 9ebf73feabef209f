import { createHash } from 'node:crypto';
import { messageOf, WunderproxyError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { pause } from './health.ts';
import { type Deployment, formatHistory, parseHistory } from './history.ts';
import { launchConfigKey, type LaunchConfig, matchesHash, parseLaunchConfig } from './launch-config.ts';
import type { StateCopies } from './state-copies.ts';
import type { ConfigStore, StoredObject } from './store.ts';

const CURRENT = 'current.json';
const HISTORY = 'history.json';

/** How often a compare-and-swap is tried again before it counts as failed. */
const ATTEMPTS = 20;

const DOUBT = 'the store may name a deployment that did not come into service';

/** What a compare-and-swap did. */
interface Swap {
  before: Buffer | null;
  written: Buffer;
}

/** A launch config together with its exact bytes. */
export interface StoredConfig {
  hash: string;
  bytes: Buffer;
  config: LaunchConfig;
}

/** The config in service. */
export interface CurrentConfig extends StoredConfig {
  /** As whichever of `hashes` it was deployed: the history, and so a rollback, knows it by that one. */
  hash: string;
  /** The MD5 and the SHA-256 of its bytes. */
  hashes: string[];
  /** The store could not be had. */
  fromCopy: boolean;
}

/** A commit that was carried out. */
export interface Commit {
  /** Puts back what was there before, as far as nobody has changed it since. Never rejects. */
  undo: () => Promise<void>;
}

/** The environment as the store has it: launch configs, the one in service, the history. */
export class Environment {
  readonly #store: ConfigStore;
  readonly #copies: StateCopies;
  readonly #log: Logger;
  /** Why the store could not be had when it was last needed, or null when it could. */
  problem: string | null = null;
  /** The history as it was last seen. */
  knownHistory: Deployment[] = [];

  constructor(store: ConfigStore, copies: StateCopies, log: Logger) {
    this.#store = store;
    this.#copies = copies;
    this.#log = log;
  }

  /**
   * The launch config with this identifier.
   * Throws `launch_config_not_found`, `hash_mismatch`, `invalid_launch_config`, `store_unavailable`.
   */
  async launchConfig(hash: string): Promise<StoredConfig> {
    const object = await this.#read(launchConfigKey(hash));
    if (object === null) {
      throw new WunderproxyError('launch_config_not_found', {
        message: `There is no ${launchConfigKey(hash)} in ${this.#store.name}.`,
        detail: { Key: launchConfigKey(hash), Store: this.#store.name },
      });
    }
    if (!matchesHash(object.bytes, hash)) {
      throw new WunderproxyError('hash_mismatch', {
        message: `${launchConfigKey(hash)} in the store does not have the hash in its name: it was changed or cut short.`,
      });
    }
    return { hash, bytes: object.bytes, config: parseLaunchConfig(object.bytes) };
  }

  /**
   * Writes a launch config under the MD5 of its bytes, unless it is there already, and reads it back. What stands there
   * without having that hash (a copy that was cut short) is replaced.
   * Throws `invalid_launch_config`, `store_unavailable`; `hash_mismatch` when another config has the same hash.
   */
  async storeConfig(bytes: Buffer): Promise<StoredConfig> {
    const config = parseLaunchConfig(bytes);
    const hash = createHash('md5').update(bytes).digest('hex');
    const key = launchConfigKey(hash);
    const found = await this.#read(key);
    if (found === null || !matchesHash(found.bytes, hash)) await this.#replace(key, bytes, found?.version ?? null);
    const stored = await this.#read(key);
    if (stored?.bytes.equals(bytes)) return { hash, bytes, config };
    throw new WunderproxyError('hash_mismatch', { message: `${key} in the store is not what was written to it.` });
  }

  /**
   * The config in service by its bytes, or null when nothing was ever switched to; from the last known good copy when
   * the store can't be had. Throws `store_unavailable` when there is no copy either, `invalid_launch_config`.
   */
  async current(): Promise<CurrentConfig | null> {
    const { bytes, fromCopy } = await this.#readOrCopy(CURRENT);
    if (bytes === null) return null;
    const config = parseLaunchConfig(bytes);
    const hashes = ['md5', 'sha256'].map((algorithm) => createHash(algorithm).update(bytes).digest('hex'));
    const named = (await this.#lastHistory(fromCopy)).findLast(({ Hash }) => hashes.includes(Hash));
    return { hash: named?.Hash ?? hashes[0] ?? '', hashes, bytes, config, fromCopy };
  }

  /** As far as it can be had; a store that was silent a moment ago is not waited for once more. */
  async #lastHistory(fromCopy: boolean): Promise<Deployment[]> {
    try {
      return parseHistory(fromCopy ? await this.#copies.read(HISTORY) : (await this.#readOrCopy(HISTORY)).bytes);
    } catch (error) {
      this.#log.warn({ why: messageOf(error) }, 'the history is not known at the moment');
      return [];
    }
  }

  /** The history, oldest first. Throws `store_unavailable`. */
  async history(): Promise<Deployment[]> {
    this.knownHistory = parseHistory((await this.#read(HISTORY))?.bytes ?? null);
    return this.knownHistory;
  }

  /**
   * Makes a config the one in service: first the history, then `current.json`, each by compare-and-swap. Writing
   * `current.json` is the point from which a start serves this config; if it fails the history is put back.
   * Throws `store_unavailable`; then nothing has changed, as far as the store could still be asked.
   */
  async commit(bytes: Buffer, change: (history: Deployment[]) => Deployment[]): Promise<Commit> {
    const history = await this.#swap(HISTORY, (old) => {
      const before = parseHistory(old);
      const after = change(before);
      return after === before ? (old ?? formatHistory(after)) : formatHistory(after);
    });
    let before: Buffer | null = null;
    try {
      await this.#swap(CURRENT, (old) => {
        before = old;
        return bytes;
      });
    } catch (error) {
      if (!(await this.#wasCarriedOut(bytes, history))) throw error;
    }
    await this.#copies.write(CURRENT, bytes);
    await this.#copies.write(HISTORY, history.written);
    const undo = async () => {
      if (before === null) return;
      await this.#putBack(CURRENT, bytes, before);
      await this.#putBack(HISTORY, history.written, history.before ?? formatHistory([]));
      await this.#copies.write(CURRENT, before);
      this.knownHistory = parseHistory(history.before);
    };
    this.knownHistory = parseHistory(history.written);
    return { undo };
  }

  /** What failed may have been the answer alone. If it was not, the history is put back. Never rejects. */
  async #wasCarriedOut(bytes: Buffer, history: Swap): Promise<boolean> {
    try {
      if ((await this.#read(CURRENT))?.bytes.equals(bytes)) return true;
    } catch (error) {
      this.#log.error({ err: error }, DOUBT);
      return false;
    }
    await this.#putBack(HISTORY, history.written, history.before ?? formatHistory([]));
    return false;
  }

  async #read(key: string): Promise<StoredObject | null> {
    return this.#noting(this.#store.read(key));
  }

  async #replace(key: string, bytes: Buffer, expected: string | null): Promise<boolean> {
    return this.#noting(this.#store.replace(key, bytes, expected));
  }

  async #noting<T>(call: Promise<T>): Promise<T> {
    try {
      const result = await call;
      this.problem = null;
      return result;
    } catch (error) {
      this.problem = messageOf(error);
      throw error;
    }
  }

  async #readOrCopy(key: string): Promise<{ bytes: Buffer | null; fromCopy: boolean }> {
    try {
      const bytes = (await this.#read(key))?.bytes ?? null;
      if (bytes !== null) await this.#copies.write(key, bytes);
      return { bytes, fromCopy: false };
    } catch (error) {
      const copy = await this.#copies.read(key);
      if (copy === null) throw error;
      this.#log.warn({ err: error, key }, 'the store can not be read: going by the last known good copy');
      return { bytes: copy, fromCopy: true };
    }
  }

  /** Replaces an object by what `change` makes of it, again and again while others are faster. */
  async #swap(key: string, change: (old: Buffer | null) => Buffer): Promise<Swap> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const old = await this.#read(key);
      const written = change(old?.bytes ?? null);
      if (old?.bytes.equals(written)) return { before: old.bytes, written };
      if (await this.#replace(key, written, old?.version ?? null)) return { before: old?.bytes ?? null, written };
      await pause(Math.random() * 20 * (attempt + 1));
    }
    throw new WunderproxyError('store_unavailable', {
      message: `${key} in the store was changed by others at every one of ${ATTEMPTS} attempts: nothing was changed.`,
    });
  }

  async #putBack(key: string, written: Buffer, before: Buffer): Promise<void> {
    try {
      const now = await this.#read(key);
      if (now?.bytes.equals(written)) await this.#replace(key, before, now.version);
    } catch (error) {
      this.#log.error({ err: error, key }, DOUBT);
    }
  }
}
