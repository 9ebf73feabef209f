import { readFileSync } from 'node:fs';

/** Linux reports times to programs in hundredths of a second, whatever the kernel counts in (proc(5), USER_HZ). */
const TICKS_PER_SECOND = 100;

/** Processor time of processes in seconds, and of the children that they have waited for. Those that are gone count nothing. */
export function cpuSeconds(pids: readonly number[]): number {
  let ticks = 0;
  for (const pid of pids) {
    const stat = read(pid, 'stat');
    if (stat !== null) ticks += ticksIn(stat);
  }
  return ticks / TICKS_PER_SECOND;
}

/** utime + stime + cutime + cstime of a line of /proc/<pid>/stat. */
export function ticksIn(stat: string): number {
  // The name is in brackets and may hold anything, brackets and blanks too; the state follows it as field 3.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields.slice(14 - 3, 18 - 3).reduce((sum, field) => sum + Number(field), 0);
}

/**
 * Memory of processes in bytes: what is their own (anonymous, each one's share of what they have in common since a fork),
 * and the file pages of the one that maps most. The usual sum of all shares (PSS) would call a program smaller because
 * others on the machine happen to run the same binary, as the load generator does with Node. Null when it can't be read.
 */
export function memoryBytes(pids: readonly number[]): number | null {
  let own = 0;
  let files = 0;
  for (const pid of pids) {
    const rollup = read(pid, 'smaps_rollup');
    if (rollup === null) continue;
    const kib = kibIn(rollup);
    own += (kib['Pss_Anon'] ?? 0) + (kib['Pss_Shmem'] ?? 0);
    files = Math.max(files, kib['Pss_File'] === undefined ? 0 : (kib['Rss'] ?? 0) - (kib['Anonymous'] ?? 0));
  }
  return own === 0 ? null : (own + files) * 1_024;
}

function kibIn(rollup: string): Record<string, number> {
  return Object.fromEntries(
    Array.from(rollup.matchAll(/^(\w+): +(\d+) kB$/gm), ([, name = '', kib]) => [name, Number(kib)]),
  );
}

function read(pid: number, file: string): string | null {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'latin1');
  } catch {
    return null;
  }
}
