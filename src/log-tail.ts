import { StringDecoder } from 'node:string_decoder';
import { stripVTControlCharacters } from 'node:util';

/** Longest line of a container's output that is kept, in characters; the rest of it is dropped. */
const MAX_LINE = 2_048;

/** What a terminal would act on instead of showing it. Tabs stay. */

const CONTROL = /[\x00-\x08\x0b-\x1f\x7f-\x9f]/g;

/**
 * The last lines of a container's output, oldest first. Takes stdout and stderr in chunks that may end anywhere, and
 * holds a bounded amount of memory however long the output or one line of it gets.
 *
 * Lines are made safe to print: an application's log ends up in people's terminals, so escape sequences and control
 * characters are taken out.
 */
export class LogTail {
  readonly #limit: number;
  readonly #lines: string[] = [];
  readonly #output = new OutputLines();
  #ended = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** How many lines have ended so far, those that are no longer kept included. */
  get ended(): number {
    return this.#ended;
  }

  write(source: 'stdout' | 'stderr', chunk: Buffer): void {
    for (const line of this.#output.write(source, chunk)) {
      this.#ended += 1;
      this.#lines.push(line);
      if (this.#lines.length > this.#limit) this.#lines.shift();
    }
  }

  /** The last `count` lines; a line that has not ended yet is one too. */
  last(count: number): string[] {
    return count > 0 ? [...this.#lines, ...this.#output.open()].slice(-count) : [];
  }

  /** Those that have ended since so many had, as far as they are kept. */
  since(ended: number): string[] {
    const count = this.#ended - ended;
    return count > 0 ? this.#lines.slice(-count) : [];
  }
}

/** Makes lines of a container's stdout and stderr, safe to print. */
export class OutputLines {
  readonly #open = { stdout: new OpenLine(), stderr: new OpenLine() };

  /** The lines that end with this chunk. */
  write(source: 'stdout' | 'stderr', chunk: Buffer): string[] {
    return this.#open[source].write(chunk).map(printable);
  }

  /** Those that have begun and not ended. */
  open(): string[] {
    return [this.#open.stdout.text, this.#open.stderr.text].map(printable).filter((text) => text !== '');
  }
}

/** The start of a line whose end has not come yet. */
class OpenLine {
  readonly #decoder = new StringDecoder('utf8');
  text = '';

  write(chunk: Buffer): string[] {
    const parts = this.#decoder.write(chunk).split('\n');
    const rest = parts.pop() ?? '';
    const ended = parts.map((part, index) => (index === 0 ? this.text + part : part).slice(0, MAX_LINE));
    this.text = ((ended.length === 0 ? this.text : '') + rest).slice(0, MAX_LINE);
    return ended;
  }
}

function printable(line: string): string {
  return stripVTControlCharacters(line).replace(CONTROL, '');
}
