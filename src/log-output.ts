import { writeSync } from 'node:fs';

/** Bytes of log that may wait for a reader that is slow; what comes beyond is dropped and counted. */
const MAX_WAITING = 64 * 1024;
/** How often (ms) a reader that was too slow is tried again. */
const RETRY = 50;

/** Descriptor of stdout. */
export const STDOUT = 1;

/** What Node has below process.stdout when that is a pipe or a socket. */
interface StreamHandle {
  setBlocking?(blocking: boolean): number;
}

/**
 * To be called before each write to a stdout that is a pipe or a socket: all processes of the program share it with its mode,
 * and libuv makes it blocking again for every child that is started with it.
 */
export function keepStdoutFromBlocking(): void {
  if (!process.stdout.isTTY) (process.stdout as { _handle?: StreamHandle })._handle?.setBlocking?.(false);
}

/**
 * Writes log lines to stdout, at once, so that the last words of a dying process are not lost. It never waits for the
 * reader: a log collector that hangs must not make the traffic hang. Lines that such a reader misses are counted in a line
 * of their own once it reads again; a reader that has gone is none of our business.
 */
export class LogOutput {
  readonly #onLost: (lines: number) => string;
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #lost = 0;
  #timer: NodeJS.Timeout | null = null;

  /** @param onLost the line that says how many lines are missing */
  constructor(onLost: (lines: number) => string) {
    this.#onLost = onLost;
    process.on('exit', () => this.flushSync());
  }

  /** Takes a line with its line end. */
  write(line: string): void {
    const bytes = Buffer.from(line);
    if (this.#waitingBytes + bytes.length > MAX_WAITING && this.#waiting.length > 0) {
      this.#lost++;
      return;
    }
    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.length;
    // While others wait, the timer is on.
    if (this.#timer === null) this.flushSync();
  }

  /** Writes what can be written now. */
  flushSync(): void {
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      const written = this.#tryWrite(next);
      this.#waitingBytes -= written;
      if (written < next.length) {
        this.#waiting[0] = next.subarray(written);
        this.#tryAgainLater();
        return;
      }
      this.#waiting.shift();
      if (this.#waiting.length === 0 && this.#lost > 0) this.#tellLost();
    }
  }

  #tellLost(): void {
    const line = Buffer.from(this.#onLost(this.#lost));
    this.#lost = 0;
    this.#waiting.push(line);
    this.#waitingBytes += line.length;
  }

  #tryWrite(bytes: Buffer): number {
    try {
      keepStdoutFromBlocking();
      return writeSync(STDOUT, bytes);
    } catch (error) {
      // EPIPE and the like: there is nobody to tell.
      return (error as NodeJS.ErrnoException).code === 'EAGAIN' ? 0 : bytes.length;
    }
  }

  #tryAgainLater(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.flushSync();
    }, RETRY).unref();
  }
}
