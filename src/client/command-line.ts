import { hostname, userInfo } from 'node:os';
import { Command, CommanderError, type Option } from 'commander';
import { messageOf } from '../errors.ts';
import { option, repeatable, UsageError } from '../option.ts';
import { readTokens } from '../secret-file.ts';
import { parseDuration, parseWhole } from '../units.ts';
import { CommandFailure, EXIT } from './exit-codes.ts';

export const COMMANDS = ['deploy', 'status', 'history', 'rollback', 'logs'] as const;
export type CommandName = (typeof COMMANDS)[number];

/** What the options say; those that a command does not have are at their defaults. Times are in ms. */
export interface ClientOptions {
  on: string[];
  fleet: boolean;
  skipStale: boolean;
  batch: number;
  rollbackOnFailure: boolean;
  tail: number;
  follow: boolean;
  /** What `--token-file` holds. */
  token: string | null;
  timeout: number;
  lockWait: number;
  lockLife: number;
  by: string;
  json: boolean;
}

export interface Invocation {
  command: CommandName;
  /** The config's file, or a hash; null when it may be missing and is. */
  argument: string | null;
  options: ClientOptions;
}

interface Description {
  what: string;
  argument?: [flags: string, what: string];
  has: (keyof typeof OPTIONS)[];
}

const OPTIONS = {
  on: () =>
    repeatable(
      '--on <url>',
      'a manager: http://host:port, https://... or unix:/path; may be repeated (default: http://127.0.0.1:8001)',
      parseManagerUrl,
    ),
  fleet: () => option('--fleet', 'all machines that the first manager knows to share its store'),
  skipStale: () =>
    option('--skip-stale', 'with --fleet: leave out machines that have not been heard of, or can not be reached'),
  batch: () => option('--batch <n>', 'how many machines are switched at once', (text) => parseWhole(text, 1, 1_000), 1),
  rollbackOnFailure: () =>
    option('--rollback-on-failure', 'if it fails, switched machines go back to what they served before'),
  tail: () => option('--tail <n>', 'how many of the last lines', (text) => parseWhole(text, 1, 10_000), 100),
  follow: () => option('-f, --follow', 'go on with what is written from now on, until the container ends or Ctrl-C'),
  tokenFile: () => option('--token-file <file>', 'file with the bearer token of the managers'),
  timeout: () =>
    option(
      '--timeout <dur>',
      'for one step on one machine: a launch, or a switch with its drain',
      parseLimit,
      600_000,
      '10m',
    ),
  lockWait: () =>
    option('--lock-wait <dur>', 'how long to wait for somebody else who is deploying', parseDuration, 0, '0s'),
  lockLife: () =>
    option('--lock-life <dur>', 'how long the lock outlives a deploy that is killed', parseLife, 60_000, '60s'),
  by: () => option('--by <name>', 'who deploys, for history and journal (default: user@host)'),
  json: () => option('--json', 'one JSON object a line, for programs'),
} satisfies Record<string, () => Option>;

const DESCRIPTIONS: Record<CommandName, Description> = {
  deploy: {
    what: 'Launches a config on all machines, then switches them one after the other. Stops at the first failure.',
    argument: ['<config>', 'file with the launch config'],
    has: [
      'on',
      'fleet',
      'skipStale',
      'batch',
      'rollbackOnFailure',
      'tokenFile',
      'timeout',
      'lockWait',
      'lockLife',
      'by',
      'json',
    ],
  },
  status: {
    what: 'Says what is in service, and whether anything fails.',
    has: ['on', 'fleet', 'skipStale', 'tokenFile', 'json'],
  },
  history: { what: 'Lists the last deployments, oldest first.', has: ['on', 'tokenFile', 'json'] },
  rollback: {
    what: 'Goes back to the deployment before, or to the last one with a hash, on one machine after the other.',
    argument: ['[hash]', 'the deployment to go back to'],
    has: ['on', 'fleet', 'skipStale', 'tokenFile', 'timeout', 'lockWait', 'lockLife', 'by', 'json'],
  },
  logs: {
    what: 'Prints the last lines that the container in service has written, or the newest one with a hash.',
    argument: ['[hash]', "a launch config's hash"],
    has: ['on', 'fleet', 'skipStale', 'tail', 'follow', 'tokenFile', 'json'],
  },
};

const EPILOGUE = `
Every option can also be given as WUNDERPROXY_<NAME_IN_CAPS> in the environment; a flag wins. Exit status: 0 done; 1 failed,
and every machine serves what it served before; 2 usage; 3 failed, and not every machine does; 4 somebody else is deploying;
5 a manager can not be reached, or does not take the token.`;

/** All options of the commands, in the order of `--help` and of README's table. */
export function clientOptions(): Option[] {
  return Object.values(OPTIONS).map((make) => make());
}

function isClientCommand(name: string | undefined): name is CommandName {
  return COMMANDS.some((each) => each === name);
}

/**
 * What a command line asks the client for: a command, before or behind options that only commands have. Null: it is for
 * `run`, by which a bucket with a command's name is reached. Throws UsageError where it is neither.
 */
export function clientCall(argv: string[]): { command: CommandName; argv: string[] } | null {
  const at = leadingOptions(argv);
  const word = argv[at];
  if (isClientCommand(word)) return { command: word, argv: argv.toSpliced(at, 1) };
  const commands = `${COMMANDS.slice(0, -1).join(', ')} or ${COMMANDS.at(-1)}`;
  if (at > 0)
    throw new UsageError(`${argv[0]?.replace(/=.*/s, '')} is an option of commands, and goes with one: ${commands}`);
  if (argv.length === 1 && word !== 'run' && word !== undefined && !word.startsWith('-')) {
    throw new UsageError(`${word} is no command (${commands}), and no bucket without a prefix and an app behind it`);
  }
  return null;
}

/** How many words of a command line, from its beginning, are options of commands with their values. */
function leadingOptions(argv: string[]): number {
  if (argv[0]?.startsWith('-') !== true) return 0;
  const known = clientOptions();
  let at = 0;
  for (;;) {
    const word = argv[at] ?? '';
    const flag = word.replace(/=.*/s, '');
    const option = known.find(({ long, short }) => flag === long || flag === short);
    if (!option) return Math.min(at, argv.length);
    at += option.required && word === flag ? 2 : 1;
  }
}

/** Throws UsageError, and CommandFailure when the token can't be read. */
export function parseClientCommandLine(command: CommandName, argv: string[]): Invocation {
  const { what, argument, has } = DESCRIPTIONS[command];
  const program = new Command(`wunderproxy ${command}`)
    .description(what)
    .helpOption('--help', 'print this')
    .addHelpText('after', EPILOGUE)
    .allowExcessArguments(false)
    .exitOverride()
    .configureOutput({ writeErr: () => {} });
  if (argument) program.argument(...argument);
  for (const key of has) program.addOption(OPTIONS[key]());
  try {
    program.parse(argv, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) throw new UsageError('', 0);
    throw new UsageError(error.message.replace(/^error: /, '').replace(/\s*\n\s*/g, ' '));
  }
  const raw = program.opts<Partial<Omit<ClientOptions, 'token'>> & { tokenFile?: string }>();
  const [first] = program.args;
  const hash = command === 'rollback' || command === 'logs' ? first?.toLowerCase() : undefined;
  if (hash !== undefined && !/^(?:[0-9a-f]{32}|[0-9a-f]{64})$/.test(hash)) {
    throw new UsageError(`${first}: expected the hash of a launch config: 32 (MD5) or 64 (SHA-256) hex digits`);
  }
  return {
    command,
    argument: hash ?? first ?? null,
    options: {
      on: raw.on?.length ? [...new Set(raw.on)] : ['http://127.0.0.1:8001'],
      fleet: raw.fleet ?? false,
      skipStale: raw.skipStale ?? false,
      batch: raw.batch ?? 1,
      rollbackOnFailure: raw.rollbackOnFailure ?? false,
      tail: raw.tail ?? 100,
      follow: raw.follow ?? false,
      token: raw.tokenFile === undefined ? null : readToken(raw.tokenFile),
      timeout: raw.timeout ?? 600_000,
      lockWait: raw.lockWait ?? 0,
      lockLife: raw.lockLife ?? 60_000,
      by: raw.by?.trim() || `${userName()}@${hostname()}`,
      json: raw.json ?? false,
    },
  };
}

/** A manager's address in one form, without what does not belong to it. Throws a RangeError. */
export function parseManagerUrl(text: string): string {
  if (/^unix:\/./.test(text)) return text;
  const expected = 'expected http://host:port, https://host:port or unix:/path';
  if (!/^https?:\/\//.test(text) || !URL.canParse(text)) throw new RangeError(expected);
  const url = new URL(text);
  if (url.username !== '' || url.password !== '') throw new RangeError('a token belongs into --token-file');
  if (url.pathname !== '/' || url.search !== '' || url.hash !== '') throw new RangeError(expected);
  return url.origin;
}

/** A timer of Node takes 24 days at the most. */
function parseLimit(text: string): number {
  return within(parseDuration(text), 1_000, 86_400_000, '1s to 1d');
}

function parseLife(text: string): number {
  return within(parseDuration(text), 1_000, 3_600_000, '1s to 1h');
}

function within(value: number, min: number, max: number, words: string): number {
  if (value < min || value > max) throw new RangeError(`expected ${words}`);
  return value;
}

/** The first one: a file with several is in the middle of a change. */
function readToken(path: string): string {
  try {
    return readTokens(path)[0];
  } catch (error) {
    throw new CommandFailure(EXIT.failed, `--token-file ${path}: ${messageOf(error)}`);
  }
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    // A container's user may have no name.
    return process.env['USER'] ?? 'somebody';
  }
}
