import { readFileSync } from 'node:fs';
import { clientCall, type CommandName } from './client/command-line.ts';
import { CertificateError } from './certificates.ts';
import { parseCommandLine, UsageError } from './config.ts';
import { messageOf } from './errors.ts';
import { PeerFileError } from './peer-keeper.ts';
import { preflight, PreflightError } from './preflight.ts';
import { Primary } from './primary.ts';
import { ListenError } from './sockets.ts';

interface PackageJson {
  version: string;
}

/** Their messages are meant for people. */
const FORESEEN = [UsageError, PreflightError, PeerFileError, CertificateError, ListenError];

function isForeseen(error: unknown): error is Error {
  return FORESEEN.some((kind) => error instanceof kind);
}

/** A command of the client: its failures are one line on stderr and an exit status as well. */
async function runClientCommand(command: CommandName, argv: string[]): Promise<void> {
  const [{ clientMain }, { CommandFailure }] = await Promise.all([
    import('./client/main.ts'),
    import('./client/exit-codes.ts'),
  ]);
  try {
    process.exitCode = await clientMain(command, argv);
  } catch (error) {
    const known = error instanceof CommandFailure || error instanceof UsageError;
    if (error instanceof UsageError && error.exitCode === 0) return;
    const hint = error instanceof UsageError ? ` (wunderproxy ${command} --help)` : '';
    process.stderr.write(`wunderproxy ${command}: ${messageOf(error)}${hint}\n`);
    process.exitCode = known ? error.exitCode : 1;
  }
}

/** Runs a command, or starts the program; what keeps it from that is one line on stderr and an exit status (2: usage, 1: else). */
async function main(argv: string[]): Promise<void> {
  try {
    const call = clientCall(argv);
    if (call) return await runClientCommand(call.command, call.argv);
    const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as PackageJson;
    const config = parseCommandLine(argv, version);
    const { user, machine } = preflight(config);
    await Primary.start(config, user, machine, version);
  } catch (error) {
    if (error instanceof UsageError && error.exitCode === 0) return;
    const hint = error instanceof UsageError ? ' (wunderproxy --help)' : '';
    process.stderr.write(`wunderproxy: ${isForeseen(error) ? error.message : messageOf(error)}${hint}\n`);
    process.exit(error instanceof UsageError ? error.exitCode : 1);
  }
}

// `wunderproxy --help | head` is no reason for a stack.
process.stdout.on('error', () => {});
await main(process.argv.slice(2));
