import { fstatSync, write, writeSync } from 'node:fs';
import { keepStdoutFromBlocking, STDOUT } from '../log-output.ts';

/** Bytes of lines that may wait for whoever takes them; what comes beyond is dropped and counted. */
const MAX_WAITING = 1024 * 1024;
/** Lines are gathered for so long (ms), or up to so many bytes, and then written together. */
const GATHER = 100;
const GATHER_SIZE = 128 * 1024;
/** POSIX: so many bytes enter a pipe whole or not at all, whoever else writes to it. No line may be longer. */
export const PIPE_BUF = 4_096;
/** What did not take a line is offered it again after so long (ms): a pipe, and a file whose disk is full. */
const RETRY_PIPE = 50;
const RETRY_FILE = 1_000;
/** What the last lines may take (ms) before the process ends without them. */
const LAST_LINES = 1_000;

/** Lines that wait together. */
interface Block {
  bytes: Buffer;
  /** What is before it has been written. */
  start: number;
  end: number;
  lines: number;
  /** Nothing is added any more. */
  closed: boolean;
}

const BLOCK_SIZE = GATHER_SIZE + PIPE_BUF;

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
  /** Full ones, oldest first, and the one that is being filled. As bytes: strings would be moved about by the collector. */
  #blocks: Block[] = [];
  /** In all blocks. */
  #length = 0;
  /** To be filled next. */
  #spare: Buffer | null = null;
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
    let block = this.#blocks.at(-1);
    if (block === undefined || block.closed || block.bytes.length - block.end < PIPE_BUF) {
      block = { bytes: this.#spare ?? Buffer.allocUnsafeSlow(BLOCK_SIZE), start: 0, end: 0, lines: 0, closed: false };
      this.#spare = null;
      this.#blocks.push(block);
    }
    const size = block.bytes.write(line, block.end);
    block.end += size;
    block.lines++;
    this.#length += size;
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
    const first = this.#blocks[0];
    if (first === undefined) return this.#onEmpty?.();
    if (this.#isFile) this.#writeToFile(first);
    else this.#writeToPipe();
  }

  /** On a thread of its own: a disk may take its time. */
  #writeToFile(block: Block): void {
    const { bytes, start, end } = block;
    block.closed = true;
    this.#writing = true;
    write(this.#fd, bytes, start, end - start, null, (error, written) => {
      this.#writing = false;
      if (error !== null) return this.#onRefused(error, RETRY_FILE);
      this.#failing = false;
      if (written < end - start) {
        block.bytes = restOf(bytes.subarray(start, end), written);
        block.start = 0;
        block.end = block.bytes.length;
        this.#length += block.end - (end - start);
      } else {
        this.written += block.lines;
        this.#shift(block);
      }
      this.#flush();
    });
  }

  /** The first block is done with. */
  #shift({ bytes, start, end }: Block): void {
    this.#blocks.shift();
    this.#length -= end - start;
    if (bytes.length === BLOCK_SIZE) this.#spare = bytes;
  }

  /** Whole lines, as many as a pipe takes at once: others write to it too. */
  #writeToPipe(): void {
    for (let turn = 0; this.#blocks.length > 0 && turn * PIPE_BUF < 2 * GATHER_SIZE; turn++) {
      const block = this.#blocks[0];
      if (block === undefined) break;
      const bytes = wholeLines(block.bytes.subarray(block.start, block.end));
      const error = this.#tryWrite(bytes);
      if (error?.code === 'EAGAIN') return this.#onRefused(null, RETRY_PIPE);
      const lines = countLines(bytes);
      block.start += bytes.length;
      block.lines -= lines;
      this.#length -= bytes.length;
      if (block.start === block.end) this.#shift(block);
      if (error === null) {
        this.#failing = false;
        this.written += lines;
      } else {
        // EPIPE and the like: there is nobody to read it, now or later.
        this.lost += lines;
        this.#onRefused(error, RETRY_PIPE);
      }
    }
    if (this.#length === 0) this.#onEmpty?.();
    else this.#later(0);
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
    for (const { bytes, start, end } of this.#blocks) this.#tryWrite(bytes.subarray(start, end));
  }
}

/** As many lines from the beginning of `bytes` as enter a pipe at once. */
function wholeLines(bytes: Buffer): Buffer {
  return bytes.length <= PIPE_BUF ? bytes : bytes.subarray(0, bytes.lastIndexOf('\n', PIPE_BUF - 1) + 1);
}

function countLines(bytes: Buffer): number {
  let lines = 0;
  for (let at = bytes.indexOf('\n'); at !== -1; at = bytes.indexOf('\n', at + 1)) lines++;
  return lines;
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
