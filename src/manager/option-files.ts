import { readFileSync } from 'node:fs';
import type { Config } from '../config.ts';
import { parseEnvironmentFile } from '../environment-file.ts';
import { messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import { readTokens } from '../secret-file.ts';

type Files = Pick<Config, 'apiTokenFile' | 'cfg'>;

/** Files that options name; re-read on SIGHUP. A file that has become unreadable leaves what was read before. */
export class OptionFiles {
  readonly #config: Files;
  readonly #log: Logger;
  /** The bearer tokens that are good; empty: none is asked for. */
  tokens: readonly string[] = [];
  /** For every container. */
  environment: Record<string, string> = {};

  /** Throws when there is a file of tokens that can't be read. */
  constructor(config: Files, log: Logger) {
    this.#config = config;
    this.#log = log;
    this.read();
  }

  read(): void {
    const { apiTokenFile, cfg } = this.#config;
    // Without its tokens the API would stand open.
    const needed = apiTokenFile !== null && this.tokens.length === 0;
    if (needed) this.tokens = readTokens(apiTokenFile);
    else if (apiTokenFile !== null) {
      this.#attempt('--api-token-file', () => {
        this.tokens = readTokens(apiTokenFile);
        this.#log.info({ tokens: this.tokens.length }, 'the tokens of the API were read');
      });
    }
    if (cfg !== null) {
      this.#attempt('--cfg', () => (this.environment = parseEnvironmentFile(readFileSync(cfg, 'utf8'))));
    }
  }

  #attempt(option: string, read: () => void): void {
    try {
      read();
    } catch (error) {
      this.#log.error({ option, why: messageOf(error) }, 'a file that an option names can not be read');
    }
  }
}
