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
  readonly #open = { stdout: new OpenLine(), stderr: new OpenLine() };

  constructor(limit: number) {
    this.#limit = limit;
  }

  write(source: 'stdout' | 'stderr', chunk: Buffer): void {
    for (const line of this.#open[source].write(chunk)) this.#keep(line);
  }

  /** The last `count` lines; a line that has not ended yet is one too. */
  last(count: number): string[] {
    const open = [this.#open.stdout.text, this.#open.stderr.text].map(printable).filter((text) => text !== '');
    return count > 0 ? [...this.#lines, ...open].slice(-count) : [];
  }

  #keep(line: string): void {
    this.#lines.push(printable(line));
    if (this.#lines.length > this.#limit) this.#lines.shift();
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
