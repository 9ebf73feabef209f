import { spawnSync } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';

/** The executable file that a command stands for, as execvp(3) finds it, or null. */
export function findCommand(command: string, cwd: string, path: string): string | null {
  if (command === '') return null;
  if (command.includes('/')) return executable(resolve(cwd, command));
  for (const folder of path.split(delimiter)) {
    const found = executable(resolve(cwd, join(folder || '.', command)));
    if (found !== null) return found;
  }
  return null;
}

function executable(path: string): string | null {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile() ? path : null;
  } catch {
    return null;
  }
}

let prefix: string[] | null = null;

/**
 * What to put in front of a command so that the kernel kills it when the engine is killed without a chance to do so
 * (PR_SET_PDEATHSIG of prctl(2), through util-linux' setpriv). Empty where there is no such thing: children then survive a
 * `kill -9` of the engine.
 */
export function deathSignalPrefix(): string[] {
  if (prefix !== null) return prefix;
  const setpriv = findCommand('setpriv', '/', process.env['PATH'] ?? '');
  const args = ['--pdeathsig', 'KILL', '--'];
  const works = setpriv !== null && spawnSync(setpriv, [...args, 'true'], { stdio: 'ignore' }).status === 0;
  prefix = works ? [setpriv, ...args] : [];
  return prefix;
}
