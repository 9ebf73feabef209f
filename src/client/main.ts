import { type CommandName, parseClientCommandLine } from './command-line.ts';
import { runClient } from './client.ts';
import type { ExitCode } from './exit-codes.ts';

/** A terminal that does not say how large it is, as a serial line. */
const USUAL = { columns: 80, rows: 24 } as const;

/**
 * Runs a command of the client with this process' terminal and signals; resolves to the exit status. Throws UsageError and
 * CommandFailure for a command line that can't be carried out.
 */
export async function clientMain(command: CommandName, argv: string[]): Promise<ExitCode> {
  const invocation = parseClientCommandLine(command, argv);
  const interrupted = new AbortController();
  const onSignal = () => {
    if (interrupted.signal.aborted) process.exit(130);
    interrupted.abort();
  };
  // Only deploys and rollbacks have something to tidy up.
  const tidies = command === 'deploy' || command === 'rollback';
  if (tidies) for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal);
  const { stdout, stderr, env } = process;
  // A terminal that was closed is no reason to leave machines half way.
  stderr.on('error', () => {});
  const terminal = {
    out: (text: string) => void stdout.write(text),
    err: (text: string) => void stderr.write(text),
    get columns() {
      return stdout.columns || USUAL.columns;
    },
    get rows() {
      return stdout.rows || USUAL.rows;
    },
    // https://no-color.org
    colours: (env['NO_COLOR'] ?? '') === '',
    unicode: /utf-?8/i.test(env['LC_ALL'] || env['LC_CTYPE'] || env['LANG'] || ''),
  };
  const interactive = tidies && stdout.isTTY === true && env['TERM'] !== 'dumb';
  return runClient(invocation, { terminal, interactive, interrupted: interrupted.signal });
}
