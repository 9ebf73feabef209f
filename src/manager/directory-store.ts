import { createHash, randomBytes } from 'node:crypto';
import { constants, type ReadStream } from 'node:fs';
import { access, chmod, type FileHandle, lstat, mkdir, open, readdir, rename, stat, unlink } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { WunderproxyError } from '../errors.ts';
import { LimitExceeded, STORE_LIMIT_MS, storeUnavailable, TooLarge, withinLimit } from './store-failure.ts';
import type { ConfigStore, StoredEntry, StoredObject } from './store.ts';

/** Names that start with a dot are the store's own: no key has one. */
const LOCK_NAME = '.lock';
const TEMP_NAME = /^\.[0-9a-f]{16}\.tmp$/;

/** A temp file of this age was left by a crash: a living write takes at most STORE_LIMIT_MS. */
const STALE_MS = 60_000;

/** Shorter than the whole call may take, so that the error can say what it waited for. */
const LOCK_LIMIT_MS = 4_000;

const SQLITE_BUSY = 5;

const REASONS: Record<string, string> = {
  EACCES: 'permission denied',
  EPERM: 'permission denied',
  EROFS: 'the file system is read-only',
  ENOSPC: 'no space is left on the disk',
  EDQUOT: 'the disk quota is used up',
  EMFILE: 'too many open files',
  ENFILE: 'too many open files',
  EIO: 'the disk reports an error',
  ENOTDIR: 'a part of its path is not a directory',
  EISDIR: 'there is a directory in its place',
};

/** Opens image archives that lie in S3, for launch configs of a directory store that name a bucket. */
export type OpenS3Artifact = (bucket: string, key: string, signal: AbortSignal) => Promise<Readable | null>;

/**
 * The store in a directory: each key is a file of that name.
 *
 * An object is replaced by renaming a synced temp file over it, so that a crash at any point leaves the old or the new
 * one. Compare-and-swap holds across processes by a lock that the kernel drops with its owner, however that ends.
 */
export class DirectoryStore implements ConfigStore {
  readonly name: string;
  readonly #root: string;
  readonly #openS3Artifact: OpenS3Artifact;
  /** When temp files were last looked for, by directory, in ms since the epoch. */
  readonly #swept = new Map<string, number>();

  /** `bucket` is `file:///dir`. Throws `store_unavailable` when that is no path. */
  constructor(bucket: string, prefix: string, openS3Artifact: OpenS3Artifact) {
    this.name = `${bucket.replace(/\/+$/, '')}/${prefix}`;
    this.#root = join(directoryOf(bucket), prefix);
    this.#openS3Artifact = openS3Artifact;
  }

  async read(key: string, limit = Infinity): Promise<StoredObject | null> {
    return this.#attempt(`read ${key}`, async () => {
      const bytes = await readIfThere(pathBelow(this.#root, key), limit);
      return bytes && { bytes, version: versionOf(bytes) };
    });
  }

  async replace(key: string, bytes: Buffer, expected: string | null): Promise<boolean> {
    return this.#attempt(`write ${key}`, async (signal) => {
      const path = pathBelow(this.#root, key);
      await makeDirectory(this.#root);
      const unlock = await lock(join(this.#root, LOCK_NAME));
      try {
        const current = await readIfThere(path);
        if ((current && versionOf(current)) !== expected) return false;
        await this.#writeAtomically(path, bytes, signal);
        return true;
      } finally {
        unlock();
      }
    });
  }

  async write(key: string, bytes: Buffer): Promise<void> {
    await this.#attempt(`write ${key}`, async (signal) => {
      await this.#writeAtomically(pathBelow(this.#root, key), bytes, signal);
    });
  }

  async list(prefix: string): Promise<string[]> {
    return this.#attempt(`list ${prefix}*`, async () => this.#keys(prefix));
  }

  async entries(prefix: string, limit: number): Promise<StoredEntry[]> {
    return this.#attempt(`list ${prefix}*`, async () => {
      const keys = (await this.#keys(prefix)).slice(0, limit);
      const entries = await Promise.all(keys.map(async (key) => entryAt(join(this.#root, key), key)));
      return entries.filter((entry) => entry !== null);
    });
  }

  async remove(key: string): Promise<void> {
    await this.#attempt(`remove ${key}`, async () => {
      const path = pathBelow(this.#root, key);
      const isThere = await unlink(path).then(() => true, whenMissing(false));
      if (isThere) await syncDirectory(dirname(path));
    });
  }

  async openArtifact(bucket: string, key: string, signal: AbortSignal): Promise<Readable | null> {
    if (!bucket.startsWith('file:')) return this.#openS3Artifact(bucket, key, signal);
    return openFileArtifact(bucket, key, signal);
  }

  close(): void {}

  async #keys(prefix: string): Promise<string[]> {
    const slash = prefix.lastIndexOf('/');
    const directory = slash === -1 ? this.#root : pathBelow(this.#root, prefix.slice(0, slash));
    const keys = (await filesBelow(directory)).map((path) => relative(this.#root, path));
    return keys.filter((key) => key.startsWith(prefix) && isKey(key)).sort();
  }

  async #attempt<T>(doing: string, act: (signal: AbortSignal) => Promise<T>): Promise<T> {
    return translated(this.name, doing, () => withinLimit(STORE_LIMIT_MS, act));
  }

  async #writeAtomically(path: string, bytes: Buffer, signal: AbortSignal): Promise<void> {
    const directory = dirname(path);
    await makeDirectory(directory);
    await this.#sweep(directory);
    const temp = join(directory, `.${randomBytes(8).toString('hex')}.tmp`);
    try {
      const handle = await open(temp, 'wx', 0o600);
      try {
        await handle.writeFile(bytes);
        await handle.sync();
      } finally {
        await handle.close();
      }
      // The caller has been told that nothing was written once the limit has passed.
      signal.throwIfAborted();
      await rename(temp, path);
    } catch (error) {
      await unlink(temp).catch(() => {});
      throw error;
    }
    await syncDirectory(directory);
  }

  /** Removes what crashed writers left behind. A failure here must not stand in a write's way. */
  async #sweep(directory: string): Promise<void> {
    const now = Date.now();
    if (now - (this.#swept.get(directory) ?? 0) < STALE_MS) return;
    this.#swept.set(directory, now);
    for (const name of await readdir(directory).catch(() => [])) {
      if (!TEMP_NAME.test(name)) continue;
      const temp = join(directory, name);
      const age = await stat(temp).then(
        ({ mtimeMs }) => now - mtimeMs,
        () => 0,
      );
      if (age > STALE_MS) await unlink(temp).catch(() => {});
    }
  }
}

/**
 * An image archive in a directory, or null when there is none. `bucket` is `file:///dir`; destroyed when `signal` aborts.
 * Throws `store_unavailable`.
 */
export async function openFileArtifact(bucket: string, key: string, signal: AbortSignal): Promise<Readable | null> {
  return translated(bucket, `read ${key}`, async () => {
    const handle = await openFile(pathBelow(directoryOf(bucket), key));
    if (!handle) return null;
    const stream: ReadStream = handle.createReadStream({ highWaterMark: 256 * 1024, signal });
    return stream;
  });
}

function directoryOf(bucket: string): string {
  try {
    return fileURLToPath(bucket);
  } catch (cause) {
    throw storeUnavailable(bucket, 'open', 'this is not file:///absolute/dir', cause);
  }
}

/** Neither a way out of the directory nor one of the store's own names. */
function isKey(key: string): boolean {
  return !key.includes('\0') && key.split('/').every((segment) => segment !== '' && !segment.startsWith('.'));
}

function pathBelow(root: string, key: string): string {
  if (!isKey(key)) throw new RangeError('a key is a relative path without names that start with a dot');
  return join(root, key);
}

/** The same as an S3 ETag's: equal bytes are the same version. */
function versionOf(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Null when there is nothing or no plain file. Never blocks on a named pipe. */
async function openFile(path: string): Promise<FileHandle | null> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(whenMissing(null));
  if (!handle || (await handle.stat()).isFile()) return handle;
  await handle.close();
  return null;
}

async function readIfThere(path: string, limit = Infinity): Promise<Buffer | null> {
  const handle = await openFile(path);
  if (!handle) return null;
  try {
    if ((await handle.stat()).size > limit) throw new TooLarge(limit);
    return await handle.readFile();
  } finally {
    await handle.close();
  }
}

/** An object is never changed, only replaced by another file. Null when it is gone by now. */
async function entryAt(path: string, key: string): Promise<StoredEntry | null> {
  const found = await lstat(path, { bigint: true }).catch(whenMissing(null));
  return found && { key, tag: `${found.ino}-${found.mtimeNs}-${found.size}`, size: Number(found.size) };
}

/** Follows no links: they may lead elsewhere, or round in circles. */
async function filesBelow(directory: string): Promise<string[]> {
  const files: string[] = [];
  const directories = [directory];
  for (const each of directories) {
    for (const entry of await readdir(each, { withFileTypes: true }).catch(whenMissing([]))) {
      if (entry.isFile()) files.push(join(each, entry.name));
      if (entry.isDirectory()) directories.push(join(each, entry.name));
    }
  }
  return files;
}

function whenMissing<T>(fallback: T): (error: NodeJS.ErrnoException) => T {
  return (error) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return fallback;
    throw error;
  };
}

/** Creates what is missing of a path, and makes that outlive a power cut. */
async function makeDirectory(directory: string): Promise<void> {
  const first = await mkdir(directory, { recursive: true, mode: 0o700 });
  if (first === undefined) return;
  const steps = relative(dirname(first), directory).split('/');
  for (const [at] of steps.entries()) await syncDirectory(join(dirname(first), ...steps.slice(0, at)));
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Takes the directory's lock and resolves to what gives it back.
 *
 * It is SQLite's own lock on an empty database: a POSIX record lock, so the kernel drops it when the process ends and no
 * stale one ever has to be told from a held one. The file must not be opened by other means in this process: closing any
 * descriptor of it would drop the lock (POSIX.1-2024, fcntl).
 */
async function lock(path: string): Promise<() => void> {
  // SQLite does not say why it can't open a file.
  await access(dirname(path), constants.W_OK | constants.X_OK);
  const database = new DatabaseSync(path, { timeout: 0 });
  try {
    await chmod(path, 0o600);
    const deadline = Date.now() + LOCK_LIMIT_MS;
    while (!locked(database)) {
      if (Date.now() > deadline) throw new RangeError('another process holds its lock');
      await delay(2 + Math.random() * 8);
    }
  } catch (error) {
    database.close();
    throw error;
  }
  return () => {
    database.close();
  };
}

function locked(database: DatabaseSync): boolean {
  try {
    database.exec('BEGIN IMMEDIATE');
    return true;
  } catch (error) {
    if ((error as { errcode?: number }).errcode === SQLITE_BUSY) return false;
    throw error;
  }
}

async function translated<T>(store: string, doing: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof WunderproxyError) throw error;
    throw storeUnavailable(store, doing, reasonOf(error as NodeJS.ErrnoException), error);
  }
}

/** A few words for people, without paths. */
function reasonOf(error: NodeJS.ErrnoException): string {
  if (error instanceof LimitExceeded || error instanceof TooLarge || error instanceof RangeError) return error.message;
  if (error.code === 'ERR_SQLITE_ERROR') return `its lock can not be taken (${error.message})`;
  return REASONS[error.code ?? ''] ?? error.code ?? error.name;
}
