import type { Readable } from 'node:stream';

/** An object and the version that a compare-and-swap must name. */
export interface StoredObject {
  bytes: Buffer;
  /** Opaque; only to be handed back to `replace` of the same store. */
  version: string;
}

/** An object without its bytes. */
export interface StoredEntry {
  key: string;
  /** Another one whenever the object is another; opaque. */
  tag: string;
  /** In bytes. */
  size: number;
}

/**
 * Where launch configs, the current config, the history and the journal live (CONTRACT: "Store").
 *
 * Keys are relative to the environment's prefix (`container.<hash>.json`, `journal/…`). Every method throws
 * WunderproxyError `store_unavailable`, with the cause, when the store can't be reached, refuses or does not answer
 * within its own time limit; nothing is left half-written.
 */
export interface ConfigStore {
  /** How the store is named in logs and in `/status`: `s3://bucket/prefix` or `file:///dir/prefix`. */
  readonly name: string;
  /** The object, or null when there is none. One of more than `limit` bytes counts as refused. */
  read(key: string, limit?: number): Promise<StoredObject | null>;
  /**
   * Writes the object only if it is still at `expected` (null: only if there is none). Resolves to false, with nothing
   * written, when somebody else was faster.
   */
  replace(key: string, bytes: Buffer, expected: string | null): Promise<boolean>;
  /** Writes an object whatever was there: for keys that nobody else writes. */
  write(key: string, bytes: Buffer): Promise<void>;
  /** The keys that start with `prefix`, in ascending order. */
  list(prefix: string): Promise<string[]>;
  /** The first `limit` objects (at most 1,000) whose keys start with `prefix`, in ascending order of their keys. */
  entries(prefix: string, limit: number): Promise<StoredEntry[]>;
  /** Removes the object, if it is there. */
  remove(key: string): Promise<void>;
  /**
   * An image archive (CONTRACT: `ImageArtifact`), or null when there is none. `bucket` is an S3 bucket's name or
   * `file:///dir`; `key` is used as it is, not below the prefix.
   */
  openArtifact(bucket: string, key: string, signal: AbortSignal): Promise<Readable | null>;
  /** Lets go of connections. */
  close(): void;
}
