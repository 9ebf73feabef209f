import { randomUUID } from 'node:crypto';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { messageOf } from '../errors.ts';
import type { WorkerSpool } from '../worker-config.ts';

/** What bodies take up right now, in a worker. */
export interface BufferUse {
  memoryBytes: number;
  spoolBytes: number;
  spoolFiles: number;
}

/** Nothing can be put on disk: the budget is used up, the file system is full, or the disk fails. */
export class SpoolUnavailable extends Error {}

/** Linux' open(2): a file without a name, which nobody can find and which goes with its descriptor. */
const O_TMPFILE = 0o20200000;
const FILE_MODE = 0o600;
const NAME_PREFIX = '.wunderproxy-spool-';

/**
 * Where bodies wait: memory within two budgets, then files without names. It keeps exact accounts; who uses it decides
 * what to do when there is no room.
 */
export class Spool {
  readonly limits: WorkerSpool;
  readonly use: BufferUse = { memoryBytes: 0, spoolBytes: 0, spoolFiles: 0 };
  readonly #directory: string;
  #unnamed = process.platform === 'linux';

  constructor(limits: WorkerSpool) {
    this.limits = limits;
    this.#directory = limits.directory;
  }

  /** Tries whether a file can be made. Returns why not, or null. */
  check(): string | null {
    try {
      fs.closeSync(this.openFile());
      if (!this.#unnamed) this.#removeLeftovers();
      return null;
    } catch (error) {
      return messageOf(error);
    }
  }

  /**
   * Where files can't be made without a name, a crash may have left one behind. Names of files in use are gone already, so
   * this never takes anything from another worker.
   */
  #removeLeftovers(): void {
    for (const name of fs.readdirSync(this.#directory)) {
      if (name.startsWith(NAME_PREFIX)) fs.rmSync(join(this.#directory, name), { force: true });
    }
  }

  /** Whether a body that already has `own` bytes in memory may have `more` (in bytes); if so they are counted. */
  takeMemory(own: number, more: number): boolean {
    if (own + more > this.limits.bodyMemory) return false;
    if (this.use.memoryBytes + more > this.limits.totalMemory) return false;
    this.use.memoryBytes += more;
    return true;
  }

  /** Whether all bodies together have used up their memory. */
  get exhausted(): boolean {
    return this.use.memoryBytes >= this.limits.totalMemory;
  }

  /** Counts bytes that are in memory anyway: on their way to or from the disk. */
  holdMemory(bytes: number): void {
    this.use.memoryBytes += bytes;
  }

  releaseMemory(bytes: number): void {
    this.use.memoryBytes -= bytes;
  }

  createFile(): SpoolFile {
    return new SpoolFile(this);
  }

  /** Throws SpoolUnavailable. */
  reserveDisk(bytes: number): void {
    if (this.use.spoolBytes + bytes > this.limits.totalDisk) throw new SpoolUnavailable('the spool budget is used up');
    this.use.spoolBytes += bytes;
  }

  releaseDisk(bytes: number): void {
    this.use.spoolBytes -= bytes;
  }

  /** A new file that has no name by the time that this returns; for SpoolFile. */
  openFile(): number {
    if (this.#unnamed) {
      try {
        return fs.openSync(this.#directory, O_TMPFILE | fs.constants.O_RDWR, FILE_MODE);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code !== 'EOPNOTSUPP' && code !== 'EISDIR' && code !== 'EINVAL') throw error;
        this.#unnamed = false;
      }
    }
    const path = join(this.#directory, `${NAME_PREFIX}${randomUUID()}`);
    const fd = fs.openSync(path, fs.constants.O_CREAT | fs.constants.O_EXCL | fs.constants.O_RDWR, FILE_MODE);
    fs.rmSync(path, { force: true });
    return fd;
  }
}

/** A part of a body on disk. One append and one read may be under way at a time; `close` may come at any moment. */
export class SpoolFile {
  /** Bytes that have been written. */
  length = 0;
  readonly #spool: Spool;
  #fd: number | null = null;
  #operations = 0;
  #closed = false;

  constructor(spool: Spool) {
    this.#spool = spool;
  }

  /** Appends all of it, or rejects with SpoolUnavailable and leaves the file as it was. */
  async append(chunks: readonly Buffer[]): Promise<void> {
    const total = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    this.#spool.reserveDisk(total);
    try {
      await this.#operate((fd) => writeAll(fd, chunks, this.length));
    } catch (cause) {
      this.#spool.releaseDisk(total);
      throw new SpoolUnavailable('a spool file could not be written', { cause });
    }
    this.length += total;
    // Closed meanwhile: then this part has not been given back yet.
    if (this.#closed) this.#spool.releaseDisk(total);
  }

  /** Up to `length` bytes from `position`; fewer only at the end of the file. */
  async read(position: number, length: number): Promise<Buffer> {
    const wanted = Math.min(length, this.length - position);
    return this.#operate(async (fd) => {
      const buffer = Buffer.allocUnsafeSlow(wanted);
      let done = 0;
      while (done < wanted) {
        const read = await readOnce(fd, buffer, done, position + done);
        if (read === 0) throw new Error('a spool file is shorter than what was written to it');
        done += read;
      }
      return buffer;
    });
  }

  /** Gives everything back; the descriptor once what is under way has ended, since its number may be given anew. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#spool.releaseDisk(this.length);
    if (this.#operations === 0) this.#release();
  }

  async #operate<T>(operation: (fd: number) => Promise<T>): Promise<T> {
    if (this.#closed) throw new Error('the spool file is closed');
    if (this.#fd === null) {
      this.#fd = this.#spool.openFile();
      this.#spool.use.spoolFiles++;
    }
    this.#operations++;
    try {
      return await operation(this.#fd);
    } finally {
      this.#operations--;
      if (this.#closed && this.#operations === 0) this.#release();
    }
  }

  #release(): void {
    if (this.#fd === null) return;
    const fd = this.#fd;
    this.#fd = null;
    this.#spool.use.spoolFiles--;
    // Closing the last descriptor of a large file frees its blocks: not on this thread.
    fs.close(fd, () => {});
  }
}

async function writeAll(fd: number, chunks: readonly Buffer[], position: number): Promise<void> {
  let rest = chunks;
  let at = position;
  while (rest.length > 0) {
    const written = await writeOnce(fd, rest, at);
    at += written;
    rest = without(rest, written);
  }
}

/** What is left of chunks after their first `bytes` bytes. */
function without(chunks: readonly Buffer[], bytes: number): readonly Buffer[] {
  let left = bytes;
  for (const [i, chunk] of chunks.entries()) {
    if (left < chunk.length) return [chunk.subarray(left), ...chunks.slice(i + 1)];
    left -= chunk.length;
  }
  return [];
}

function writeOnce(fd: number, chunks: readonly Buffer[], position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.writev(fd, chunks, position, (error, written) => {
      if (error) reject(error);
      else resolve(written);
    });
  });
}

function readOnce(fd: number, buffer: Buffer, offset: number, position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.read(fd, buffer, offset, buffer.length - offset, position, (error, read) => {
      if (error) reject(error);
      else resolve(read);
    });
  });
}
