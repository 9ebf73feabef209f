import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Cleanup, descendantsOf, killIfThere } from '../test/support/processes.ts';

/** Runs what is to be done at the end, in order, even if something fails. */
export async function withCleanup<T>(act: (cleanup: Cleanup) => Promise<T>): Promise<T> {
  const hooks: (() => Promise<void> | void)[] = [];
  try {
    return await act({ after: (hook) => hooks.push(hook) });
  } finally {
    for (const hook of hooks) await hook();
  }
}

/** What must be undone on the spot when somebody ends the benchmark. */
const emergencies: (() => void)[] = [];

/**
 * A folder for everything that a run writes; TMPDIR names it while `act` runs, and it is gone afterwards. When a signal
 * ends the run, every process below this one is killed by its id first.
 */
export async function withRunFolder<T>(act: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'wunderbench-'));
  // Like the system's own: workers that have become somebody else write there.
  chmodSync(folder, 0o1777);
  process.env['TMPDIR'] = folder;
  const remove = () => rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    // Before the handlers of the tests' helpers, which know direct children only.
    process.prependOnceListener(signal, () => {
      for (const { pid } of descendantsOf(process.pid)) if (pid !== process.pid) killIfThere(pid, 'SIGKILL');
      for (const undo of emergencies) undo();
      remove();
      process.exit(130);
    });
  }
  try {
    return await act(folder);
  } finally {
    remove();
  }
}

/** Runs `undo` at the end, and also when a signal ends the benchmark. */
export function undoneAtTheEnd(cleanup: Cleanup, undo: () => void): void {
  emergencies.push(undo);
  cleanup.after(() => {
    emergencies.splice(emergencies.indexOf(undo), 1);
    undo();
  });
}

/** First line of what a command says of its version; null when there is no such command. */
export function versionOf(command: string, args: string[]): string | null {
  // Some tell it to stderr, and wrk ends with 1.
  const { stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8', timeout: 10_000 });
  if (error) return null;
  const said = `${stdout}${stderr}`;
  return /\d+\.\d+\.\d+/.exec(said)?.[0] ?? said.split('\n', 1)[0] ?? '';
}
