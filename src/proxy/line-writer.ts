import { fstatSync, write, writeSync } from 'node:fs';
import { keepStdoutFromBlocking, STDOUT } from '../log-output.ts';

/** Characters of lines that may wait for whoever takes them; what comes beyond is dropped and counted. */
const MAX_WAITING = 1024 * 1024;
/** Lines are gathered for so long (ms), or up to so many characters, and then written together. */
const GATHER = 100;
const GATHER_SIZE = 64 * 1024;
/** POSIX: so many bytes enter a pipe whole or not at all, whoever else writes to it. No line may be longer. */
export const PIPE_BUF = 4_096;
/** What did not take a line is offered it again after so long (ms): a pipe, and a file whose disk is full. */
const RETRY_PIPE = 50;
const RETRY_FILE = 1_000;
/** What the last lines may take (ms) before the process ends without them. */
const LAST_LINES = 1_000;

/**
 * Writes lines to an open file, pipe or socket, several processes to the same one. It never waits for it, and neither does
 * who calls it: what a reader that has stopped, or a full disk, does not take in time is dropped and counted.
 */
export class LineWriter {
  /** Lines that were written. */
  written = 0;
  /** Lines that were dropped. */
  lost = 0;
  readonly #fd: number;
  readonly #isFile: boolean;
  readonly #onLost: (lines: number) => string;
  readonly #onProblem: (error: Error) => void;
  #waiting: string[] = [];
  #length = 0;
  /** What is left of lines that were written in part. */
  #rest: Buffer | null = null;
  #writing = false;
  #timer: NodeJS.Timeout | null = null;
  /** Lost since that was last told in a line. */
  #untold = 0;
  #failing = false;
  #onEmpty: (() => void) | null = null;

  /**
   * @param fd to be opened with O_APPEND, and with O_NONBLOCK unless it is a file
   * @param onLost the line that says how many lines are missing
   * @param onProblem is told when writing begins to fail
   */
  constructor(fd: number, onLost: (lines: number) => string, onProblem: (error: Error) => void) {
    this.#fd = fd;
    this.#isFile = fstatSync(fd).isFile();
    this.#onLost = onLost;
    this.#onProblem = onProblem;
    process.on('exit', () => this.#flushSync());
  }

  /** Takes a line with its line end: at most PIPE_BUF bytes. */
  write(line: string): void {
    if (this.#length + line.length > MAX_WAITING) {
      this.lost++;
      this.#untold++;
      return;
    }
    if (this.#length < MAX_WAITING / 2) this.#tellLost();
    this.#push(line);
    if (this.#length >= GATHER_SIZE && !this.#failing) this.#flush();
    else this.#later(GATHER);
  }

  #tellLost(): void {
    if (this.#untold === 0) return;
    this.#push(this.#onLost(this.#untold));
    this.#untold = 0;
  }

  #push(line: string): void {
    this.#waiting.push(line);
    this.#length += line.length;
  }

  /** Resolves when everything has been written, or can't be in time. */
  async end(): Promise<void> {
    this.#tellLost();
    await new Promise<void>((resolve) => {
      setTimeout(resolve, LAST_LINES).unref();
      this.#onEmpty = resolve;
      this.#flush();
    });
  }

  #later(ms: number): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#flush();
    }, ms);
  }

  #flush(): void {
    if (this.#writing) return;
    if (this.#length === 0 && this.#rest === null) return this.#onEmpty?.();
    if (this.#isFile) this.#writeToFile();
    else this.#writeToPipe();
  }

  /** On a thread of its own: a disk may take its time. */
  #writeToFile(): void {
    const count = this.#waiting.length;
    const length = this.#length;
    const bytes = this.#rest ?? Buffer.from(this.#waiting.join(''));
    const isRest = this.#rest !== null;
    this.#writing = true;
    write(this.#fd, bytes, (error, written) => {
      this.#writing = false;
      if (error !== null) return this.#onRefused(error, RETRY_FILE);
      this.#failing = false;
      if (!isRest) {
        this.#waiting.splice(0, count);
        this.#length -= length;
        this.written += count;
      }
      this.#rest = written < bytes.length ? restOf(bytes, written) : null;
      this.#flush();
    });
  }

  /** Whole lines, as many as a pipe takes at once: others write to it too. */
  #writeToPipe(): void {
    for (let turn = 0; this.#waiting.length > 0 && turn * PIPE_BUF < 2 * GATHER_SIZE; turn++) {
      const [bytes, count, length] = this.#chunk();
      const error = this.#tryWrite(bytes);
      if (error?.code === 'EAGAIN') return this.#onRefused(null, RETRY_PIPE);
      this.#waiting.splice(0, count);
      this.#length -= length;
      if (error === null) {
        this.#failing = false;
        this.written += count;
      } else {
        // EPIPE and the like: there is nobody to read it, now or later.
        this.lost += count;
        this.#onRefused(error, RETRY_PIPE);
      }
    }
    if (this.#length === 0) this.#onEmpty?.();
    else this.#later(0);
  }

  #chunk(): [bytes: Buffer, count: number, length: number] {
    let text = this.#waiting[0] ?? '';
    let size = Buffer.byteLength(text);
    let count = 1;
    for (let next = this.#waiting[1]; next !== undefined; next = this.#waiting[++count]) {
      size += Buffer.byteLength(next);
      if (size > PIPE_BUF) break;
      text += next;
    }
    return [Buffer.from(text), count, text.length];
  }

  #tryWrite(bytes: Buffer): NodeJS.ErrnoException | null {
    try {
      if (this.#fd === STDOUT) keepStdoutFromBlocking();
      writeSync(this.#fd, bytes);
      return null;
    } catch (error) {
      return error as NodeJS.ErrnoException;
    }
  }

  #onRefused(error: Error | null, retry: number): void {
    if (error !== null && !this.#failing) this.#onProblem(error);
    this.#failing = true;
    this.#later(retry);
  }

  /** The process ends: what can be written at once is. */
  #flushSync(): void {
    if (this.#writing) return;
    if (!this.#isFile) return this.#writeToPipe();
    const text = this.#waiting.join('');
    this.#tryWrite(this.#rest === null ? Buffer.from(text) : Buffer.concat([this.#rest, Buffer.from(text)]));
  }
}

/**
 * What is to follow after a part of `bytes` was written, which only a full disk does: others may have written since, so that
 * the line that was cut is ended and written again.
 */
function restOf(bytes: Buffer, written: number): Buffer {
  const lineStart = bytes.lastIndexOf('\n', written - 1) + 1;
  if (lineStart === written) return bytes.subarray(written);
  return Buffer.concat([Buffer.from('\n'), bytes.subarray(lineStart)]);
}
