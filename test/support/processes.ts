import { type ChildProcess, spawn, type SpawnOptions } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** What the helpers need of a test: `TestContext` of node:test, or a runner's own list. */
export interface Cleanup {
  after(fn: () => Promise<void> | void): void;
}

const own = new Set<number>();

// The runner ends a test file that takes too long with SIGTERM: no `after` runs then.
for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, () => {
    for (const pid of own) killIfThere(pid, 'SIGKILL');
    process.kill(process.pid, signal);
  });
}

/** Spawns a process that is killed when the test ends, if it has not ended itself by then. */
export function spawnForTest(t: Cleanup, command: string, args: string[], options: SpawnOptions = {}): ChildProcess {
  const child = spawn(command, args, options);
  const { pid } = child;
  if (pid === undefined) return child;
  own.add(pid);
  child.once('exit', () => own.delete(pid));
  t.after(async () => {
    await endProcess(child);
  });
  return child;
}

/** Where processes that run this tree's sources keep them compiled, when the runner says so: as environment variables. */
export function compileCache(): Record<string, string> {
  const folder = process.env['NODE_COMPILE_CACHE'];
  return folder === undefined ? {} : { NODE_COMPILE_CACHE: folder };
}

/** SIGKILL, unless it has ended already; resolves when it is gone. */
export async function endProcess(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}

/** Resolves to exit code and signal, also when that was long ago. */
export async function exitOf(child: ChildProcess): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  return { code: child.exitCode, signal: child.signalCode };
}

/** Sends a signal; false when there is no such process (any more). */
export function killIfThere(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}

export interface RunningProcess {
  pid: number;
  ppid: number;
  /** Its arguments, joined by spaces. */
  command: string;
}

/** All processes of this machine that have not ended (zombies have). */
export function runningProcesses(): RunningProcess[] {
  const running: RunningProcess[] = [];
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      // proc(5): the name is in brackets and may hold anything; state and parent follow it.
      const stat = readFileSync(`/proc/${entry}/stat`, 'latin1');
      const [state, ppid] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (state === 'Z' || state === 'X') continue;
      const command = readFileSync(`/proc/${entry}/cmdline`, 'latin1').replaceAll('\0', ' ').trim();
      running.push({ pid: Number(entry), ppid: Number(ppid), command });
    } catch {
      // Gone while we looked.
    }
  }
  return running;
}

/** A process and everything below it, parents first. */
export function descendantsOf(pid: number): RunningProcess[] {
  const all = runningProcesses();
  const found = all.filter((each) => each.pid === pid);
  for (const parent of found) found.push(...all.filter((each) => each.ppid === parent.pid && each.pid !== parent.pid));
  return found;
}

/**
 * Processes that a run of the tests left behind: they work in its temp folder, or have it in their environment. The asking
 * process' own children (its TypeScript loader has one) are not among them.
 */
export function processesOfRun(dir: string): RunningProcess[] {
  return runningProcesses().filter(({ pid, ppid }) => {
    if (pid === process.pid || ppid === process.pid) return false;
    try {
      if (readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(`TMPDIR=${dir}`)) return true;
      const cwd = readlinkSync(`/proc/${pid}/cwd`);
      return cwd === dir || cwd.startsWith(`${dir}/`);
    } catch {
      return false;
    }
  });
}

/** What a process has open, as /proc names it. */
export function openFilesOf(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
    } catch {
      return [];
    }
  });
}

/** How many files of each kind a process has open. */
export function openKindsOf(pid: number): Record<string, number> {
  const kinds: Record<string, number> = {};
  for (const name of openFilesOf(pid).sort()) {
    const kind = name.replace(/\[\d+\]$/, '');
    kinds[kind] = (kinds[kind] ?? 0) + 1;
  }
  return kinds;
}
