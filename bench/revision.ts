import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, symlinkSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Cleanup } from '../test/support/processes.ts';
import { undoneAtTheEnd } from './session.ts';

const root = resolve(import.meta.dirname, '..');

/** A built revision. */
export interface Revision {
  /** Abbreviated commit. */
  commit: string;
  /** What starts it. */
  bin: string;
}

/**
 * Builds a revision in a git worktree of its own in `folder`, which is gone at the end. It uses the packages that are
 * installed here. Throws an Error with the command's words when there is no such revision or it can't be built.
 */
export function buildRevision(cleanup: Cleanup, revision: string, folder: string): Revision {
  const commit = say('git', ['rev-parse', '--short', '--verify', `${revision}^{commit}`], root).trim();
  const tree = join(folder, `revision-${commit}`);
  undoneAtTheEnd(cleanup, () => {
    spawnSync('git', ['worktree', 'remove', '--force', tree], { cwd: root, stdio: 'ignore' });
  });
  say('git', ['worktree', 'add', '--detach', '--quiet', tree, commit], root);
  if (!existsSync(join(tree, 'node_modules'))) symlinkSync(join(root, 'node_modules'), join(tree, 'node_modules'));
  say(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', 'tsconfig.build.json'], tree);
  return { commit, bin: join(tree, 'bin/wunderproxy') };
}

function say(command: string, args: string[], cwd: string): string {
  try {
    return execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], timeout: 300_000 });
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
    throw new Error(`${command} ${args.join(' ')}: ${`${stderr}${stdout}`.trim() || (error as Error).message}`);
  }
}
