import type { ChildProcess } from 'node:child_process';
import { resolve } from 'node:path';
import type { Service } from './service.ts';
import { type Cleanup, spawnForTest } from './processes.ts';

const bin = resolve(import.meta.dirname, '../../bin/wunderproxy');

/** Nothing to start: it is enough that util-linux's `script` is installed. */
export const ptyService: Service = {
  name: 'script',
  start: () => Promise.resolve({ env: { TEST_PTY: 'script' }, stop: () => Promise.resolve() }),
};

/** Runs a command of the program on a pseudo terminal of this size. What it shows comes from the child's stdout. */
export function onTerminal(
  t: Cleanup,
  args: string[],
  { columns, rows, env = {} }: { columns: number; rows: number; env?: Record<string, string> },
): ChildProcess {
  const { PATH = '', HOME = '', TMPDIR = '/tmp' } = process.env;
  const quoted = [bin, ...args].map((arg) => `'${arg.replaceAll("'", "'\\''")}'`).join(' ');
  const command = `stty cols ${columns} rows ${rows}; exec ${quoted}`;
  return spawnForTest(t, process.env['TEST_PTY'] ?? 'script', ['-qec', command, '/dev/null'], {
    env: { PATH, HOME, TMPDIR, TERM: 'xterm', SHELL: '/bin/sh', ...env },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
}
