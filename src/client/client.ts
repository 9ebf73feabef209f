import { readFileSync } from 'node:fs';
import { messageOf } from '../errors.ts';
import { historyAnswer } from './answers.ts';
import type { ClientOptions, Invocation } from './command-line.ts';
import { CommandFailure, EXIT, type ExitCode } from './exit-codes.ts';
import { HeldLock } from './held-lock.ts';
import { Machine } from './machine.ts';
import { checkSame, openManagers } from './machines.ts';
import { type ManagerClient, named, Refusal, Unreachable } from './manager-client.ts';
import { JsonReporter, LineReporter, type Reporter } from './reporter.ts';
import { Rollout } from './rollout.ts';
import { type Terminal, TerminalReporter } from './terminal.ts';
import { oneLine, printable, table } from './text.ts';

/** What a command runs with. */
export interface Surroundings {
  terminal: Terminal;
  /** Whether output goes to a person's terminal. */
  interactive: boolean;
  /** Aborts at the first Ctrl-C. */
  interrupted: AbortSignal;
}

/** Carries out a command of the client, and resolves to the exit status. Failures are one line on stderr. */
export async function runClient({ command, argument, options }: Invocation, around: Surroundings): Promise<ExitCode> {
  const reporter = reporterFor(options, around);
  around.interrupted.addEventListener('abort', () => {
    reporter.problem(
      'stopping after the step that runs; once more ends it at once, and leaves the lock to expire',
      'interrupted',
    );
  });
  let managers: ManagerClient[] = [];
  try {
    const config = command === 'deploy' ? readConfig(argument ?? '') : null;
    managers = await openManagers(options, (text) => reporter.note(text, 'skipped'));
    if (config !== null) return await deploy(config, managers, options, reporter, around);
    switch (command) {
      case 'rollback':
        return await rollback(argument, managers, options, reporter, around);
      case 'status':
        return await printEach(managers, options.json ? '/status' : '/', options, around);
      case 'history':
        return await printHistory(managers, options, around);
      case 'logs':
        if (options.follow) return await followLogs(managers, logsPath(argument, options), options, around);
        return await printEach(managers, logsPath(argument, options), options, around);
      case 'deploy':
        return EXIT.usage;
    }
  } catch (error) {
    const exitCode = exitCodeOf(error);
    const text = `wunderproxy ${command}: ${messageOf(error)}`;
    reporter.problem(text, 'end', {
      ExitCode: exitCode,
      ...(error instanceof Refusal && { Code: error.code, Detail: error.detail }),
    });
    return exitCode;
  } finally {
    reporter.close();
    await Promise.all(managers.map(async (manager) => manager.close()));
  }
}

function reporterFor({ json }: ClientOptions, { terminal, interactive }: Surroundings): Reporter {
  if (json) return new JsonReporter(terminal);
  return interactive ? new TerminalReporter(terminal) : new LineReporter(terminal);
}

function exitCodeOf(error: unknown): ExitCode {
  if (error instanceof CommandFailure) return error.exitCode;
  const refused =
    error instanceof Refusal && ['unauthorized', 'forbidden', 'too_many_attempts', 'timeout', ''].includes(error.code);
  return error instanceof Unreachable || refused ? EXIT.unreachable : EXIT.failed;
}

function readConfig(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new CommandFailure(EXIT.failed, `${path} can not be read: ${messageOf(error)}`);
  }
}

async function openMachines(managers: ManagerClient[], options: ClientOptions, reporter: Reporter): Promise<Machine[]> {
  checkSame(managers, await Promise.all(managers.map(async (manager) => named(manager, manager.status()))));
  return managers.map((manager) => new Machine(manager, reporter, options.timeout));
}

async function deploy(
  config: Buffer,
  managers: ManagerClient[],
  options: ClientOptions,
  reporter: Reporter,
  { interrupted }: Surroundings,
): Promise<ExitCode> {
  const machines = await openMachines(managers, options, reporter);
  return new Rollout(machines, reporter, { ...options, interrupted }).run(config);
}

async function rollback(
  hash: string | null,
  managers: ManagerClient[],
  options: ClientOptions,
  reporter: Reporter,
  { interrupted }: Surroundings,
): Promise<ExitCode> {
  checkSame(managers, await Promise.all(managers.map(async (manager) => named(manager, manager.status()))));
  const lock = await HeldLock.take(managers, {
    what: `a rollback${hash === null ? '' : ` to ${hash}`}`,
    life: options.lockLife,
    wait: options.lockWait,
    signal: interrupted,
    onWait: (message) => reporter.note(`waiting: ${message}`, 'waiting'),
  });
  let done = 0;
  try {
    for (const manager of managers) {
      if (interrupted.aborted) throw new Error('Interrupted: no further machine goes back.');
      await lock.confirm();
      lock.lost.throwIfAborted();
      // Made once only: a second call would go back one deployment further.
      const { Revision, Hash } = await named(manager, manager.rollback(hash, options.timeout));
      done += 1;
      reporter.note(`${manager.name} serves ${Revision} again`, 'serves', { Machine: manager.name, Revision, Hash });
    }
    const names = managers.map(({ name }) => name);
    reporter.note(`rolled back: ${names.join(', ')}`, 'end', { ExitCode: EXIT.done, Machines: names });
    return EXIT.done;
  } catch (error) {
    const sure = error instanceof Refusal && error.code !== 'timeout';
    const exitCode = done === 0 && sure ? exitCodeOf(error) : EXIT.mixed;
    const left = managers.slice(done).map(({ name }) => name);
    reporter.problem(`wunderproxy rollback: ${messageOf(error)}`, 'failure');
    reporter.problem(`not rolled back: ${left.join(', ')}`, 'end', { ExitCode: exitCode, Machines: left });
    return exitCode;
  } finally {
    await lock.release();
  }
}

async function printEach(
  managers: ManagerClient[],
  path: string,
  { json }: ClientOptions,
  { terminal }: Surroundings,
): Promise<ExitCode> {
  let worst: ExitCode = EXIT.done;
  for (const manager of managers) {
    if (managers.length > 1 && !json) terminal.out(`${oneLine(manager.name)}:\n`);
    try {
      const text = await manager.text(path, json);
      terminal.out(json ? `${JSON.stringify(JSON.parse(text))}\n` : printable(text));
    } catch (error) {
      worst = exitCodeOf(error);
      const problem = { Machine: manager.name, Problem: messageOf(error) };
      if (json) terminal.out(`${JSON.stringify(problem)}\n`);
      else terminal.err(`${oneLine(`${manager.name}: ${messageOf(error)}`)}\n`);
    }
  }
  return worst;
}

async function printHistory(
  managers: ManagerClient[],
  { json }: ClientOptions,
  { terminal }: Surroundings,
): Promise<ExitCode> {
  for (const manager of managers) {
    const history = historyAnswer.parse(await named(manager, manager.history()));
    if (json) {
      for (const deployment of history) terminal.out(`${JSON.stringify(deployment)}\n`);
      continue;
    }
    if (managers.length > 1) terminal.out(`${oneLine(manager.name)}:\n`);
    const rows = history.map(({ Revision, DeployedAt, DeployedBy, Hash }) => [Revision, DeployedAt, DeployedBy, Hash]);
    terminal.out(table([['REVISION', 'DEPLOYED AT', 'BY', 'HASH'], ...rows.map((row) => row.map(oneLine))]));
  }
  return EXIT.done;
}

/** All of them at once, each line with its machine where there are several. */
async function followLogs(
  managers: ManagerClient[],
  path: string,
  { json }: ClientOptions,
  { terminal }: Surroundings,
): Promise<ExitCode> {
  const follow = async (manager: ManagerClient): Promise<ExitCode> => {
    const name = managers.length > 1 ? `${oneLine(manager.name)}: ` : '';
    try {
      for await (const line of manager.lines(path)) {
        terminal.out(
          json ? `${JSON.stringify({ Machine: manager.name, Line: line })}\n` : `${name}${printable(line)}\n`,
        );
      }
      return EXIT.done;
    } catch (error) {
      terminal.err(`${oneLine(`${manager.name}: ${messageOf(error)}`)}\n`);
      return exitCodeOf(error);
    }
  };
  const codes = await Promise.all(managers.map(follow));
  return codes.find((code) => code !== EXIT.done) ?? EXIT.done;
}

function logsPath(hash: string | null, { tail, follow }: ClientOptions): string {
  return `/logs?tail=${tail}${follow ? '&follow=true' : ''}${hash === null ? '' : `&hash=${hash}`}`;
}
