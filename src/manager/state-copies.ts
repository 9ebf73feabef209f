import { createHash } from 'node:crypto';
import { mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';

/**
 * Last known good copies of small objects in `--state-dir`, so that a start survives the store being down. They are a
 * second best: what goes wrong with them is logged and otherwise changes nothing.
 */
export class StateCopies {
  readonly directory: string;
  readonly #log: Logger;

  /** Programs that serve other environments may share the state directory. */
  constructor(stateDir: string, environment: { store: string; app: string }, log: Logger) {
    const id = createHash('sha256').update(environment.store).digest('hex').slice(0, 12);
    this.directory = join(stateDir, `${environment.app}-${id}`);
    this.#log = log;
  }

  async read(name: string): Promise<Buffer | null> {
    try {
      return await readFile(join(this.directory, name));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') this.#warn(name, error);
      return null;
    }
  }

  /** Resolves to whether it worked. */
  async write(name: string, bytes: Buffer): Promise<boolean> {
    const path = join(this.directory, name);
    const temporary = `${path}.${process.pid}.tmp`;
    try {
      await mkdir(this.directory, { recursive: true, mode: 0o700 });
      const file = await open(temporary, 'w', 0o600);
      try {
        await file.writeFile(bytes);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(temporary, path);
      return true;
    } catch (error) {
      this.#warn(name, error);
      await rm(temporary, { force: true }).catch(() => {});
      return false;
    }
  }

  #warn(name: string, error: unknown): void {
    this.#log.warn({ file: name, why: messageOf(error) }, 'no last known good copy');
  }
}
