import { closeSync, constants, openSync, statSync } from 'node:fs';
import { STDOUT } from './log-output.ts';

/** Where lines of the access log go. */
export type AccessLogTarget = { kind: 'off' } | { kind: 'stdout' } | { kind: 'file'; path: string };

/** The access log as the primary holds it: opened with its rights, inherited by the workers. */
export class AccessLogFile {
  readonly #target: AccessLogTarget;
  /** To be inherited by new workers; null when there is no log. */
  fd: number | null;

  /** Throws what `open` throws. */
  constructor(target: AccessLogTarget) {
    this.#target = target;
    this.fd = target.kind === 'off' ? null : target.kind === 'stdout' ? STDOUT : openLog(target.path);
  }

  /** New workers get the file that has this name now. Throws when it can't be opened; then they get the old one. */
  reopen(): void {
    if (this.#target.kind !== 'file') return;
    const before = this.fd;
    this.fd = openLog(this.#target.path);
    if (before !== null) closeSync(before);
  }
}

/**
 * Opens a file, a named pipe or a device to append to. Never waits; a pipe may have no reader yet, or lose it, so we hold
 * its other end as well.
 */
export function openLog(path: string): number {
  const { O_APPEND, O_CREAT, O_NONBLOCK, O_RDWR, O_WRONLY } = constants;
  const isPipe = statSync(path, { throwIfNoEntry: false })?.isFIFO() === true;
  return openSync(path, (isPipe ? O_RDWR : O_WRONLY) | O_APPEND | O_CREAT | O_NONBLOCK, 0o640);
}
