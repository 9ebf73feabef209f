import { appendFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { Deploy, RecentSlice } from './recent.ts';
import type { StateCopies } from './state-copies.ts';

/** What the file holds. */
export interface RecentContent {
  slices: readonly RecentSlice[];
  deploys: readonly Deploy[];
}

const NAME = 'recent.jsonl';
/** After so many lines it is written anew with what is still of interest. */
const REWRITE_AFTER = 720;

const KEYS: (keyof RecentSlice)[] = [
  'At',
  'Seconds',
  'Requests',
  'StatusCodes',
  'Errors',
  'Latency',
  'ContainerLatency',
  'States',
];

/**
 * The last hour in a file of JSON lines in `--state-dir`: a line is added every ten seconds. It is a comfort: what goes
 * wrong with it is logged once and otherwise changes nothing.
 */
export class RecentFile {
  readonly #copies: StateCopies;
  readonly #log: Logger;
  readonly #path: string;
  #lines = 0;
  #failed = false;
  /** Writes go one after the other. */
  #last: Promise<void> = Promise.resolve();

  constructor(copies: StateCopies, log: Logger) {
    this.#copies = copies;
    this.#log = log;
    this.#path = join(copies.directory, NAME);
  }

  /** What can be read of it; lines that a crash cut short, or that another version wrote, are left out. */
  async load(): Promise<RecentContent> {
    const content: { slices: RecentSlice[]; deploys: Deploy[] } = { slices: [], deploys: [] };
    const text = this.#read();
    // What is added meanwhile comes after it.
    this.#last = text.then(() => {});
    for (const line of (await text).split('\n')) {
      const { Slice, Deploy } = parse(line);
      if (Slice && KEYS.every((key) => key in Slice)) content.slices.push(Slice);
      if (Deploy && typeof Deploy.At === 'string') content.deploys.push(Deploy);
    }
    return content;
  }

  async #read(): Promise<string> {
    try {
      return await readFile(this.#path, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') this.#warn(error);
      return '';
    }
  }

  /** Adds a line, or, every now and then, writes everything anew. */
  append(entry: { Slice: RecentSlice } | { Deploy: Deploy }, all: () => RecentContent): void {
    this.#lines++;
    if (this.#failed || this.#lines > REWRITE_AFTER) return this.rewrite(all());
    const line = `${JSON.stringify(entry)}\n`;
    this.#last = this.#last
      .then(async () => appendFile(this.#path, line, { mode: 0o600 }))
      .catch((error: unknown) => this.#warn(error));
  }

  /** Replaces the whole file, at once. */
  rewrite({ slices, deploys }: RecentContent): void {
    this.#lines = slices.length;
    const lines = [...slices.map((Slice) => ({ Slice })), ...deploys.map((Deploy) => ({ Deploy }))];
    const text = lines.map((line) => `${JSON.stringify(line)}\n`).join('');
    this.#last = this.#last.then(async () => {
      this.#failed = !(await this.#copies.write(NAME, Buffer.from(text)));
    });
  }

  #warn(error: unknown): void {
    if (!this.#failed) this.#log.warn({ file: NAME, why: messageOf(error) }, 'the last hour of traffic is not kept');
    this.#failed = true;
  }
}

function parse(line: string): { Slice?: RecentSlice; Deploy?: Deploy } {
  try {
    return (JSON.parse(line) ?? {}) as { Slice?: RecentSlice; Deploy?: Deploy };
  } catch {
    return {};
  }
}
