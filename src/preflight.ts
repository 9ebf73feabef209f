import { execFileSync } from 'node:child_process';
import { accessSync, closeSync, constants, mkdirSync, mkdtempSync, readFileSync, rmdirSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openLog } from './access-log-file.ts';
import type { Config } from './config.ts';
import { messageOf } from './errors.ts';
import { parseEnvironmentFile } from './environment-file.ts';
import { readPeerFiles } from './peer-keeper.ts';
import { type Machine, machineIn } from './machine.ts';
import { readTokens } from './secret-file.ts';

interface User {
  uid: number;
  gid: number;
}

/** Something outside of the command line that must be mended before a start: one line. */
export class PreflightError extends Error {}

/**
 * Checks what the options name before anything is started: files can be read, directories written, the user exists.
 * Throws PreflightError and PeerFileError.
 */
export function preflight(config: Config): { user: User | null; machine: Machine } {
  const { apiTokenFile } = config;
  if (apiTokenFile !== null) attempt(`--api-token-file ${apiTokenFile}`, () => readTokens(apiTokenFile));
  if (config.cfg !== null) {
    const file = config.cfg;
    attempt(`--cfg ${file}`, () => parseEnvironmentFile(readFileSync(file, 'utf8')));
  }
  readPeerFiles(config);
  const { accessLog } = config;
  if (accessLog.kind === 'file') attempt(`--access-log ${accessLog.path}`, () => closeSync(openLog(accessLog.path)));
  writableDirectory('--state-dir', config.stateDir);
  if (config.bucket.startsWith('file:')) writableDirectory('bucket', fileURLToPath(config.bucket));
  const user = config.user === null ? null : findUser(config.user);
  usableSpool(config.spoolDir, user);
  return { user, machine: machineIn(config.stateDir) };
}

function writableDirectory(name: string, directory: string): void {
  attempt(`${name} ${directory}`, () => {
    makeDirectory(resolve(directory));
    accessSync(directory, constants.W_OK | constants.X_OK);
  });
}

/** Node's own `recursive` never ends where a directory is there in which none can be made, as in /proc. */
function makeDirectory(directory: string): void {
  if (statSync(directory, { throwIfNoEntry: false })?.isDirectory()) return;
  const parent = dirname(directory);
  if (parent !== directory) makeDirectory(parent);
  mkdirSync(directory, { mode: 0o700 });
}

/** Workers put bodies there, as the user that they become. */
function usableSpool(directory: string, user: User | null): void {
  const asWhom = user === null ? '' : ' (as the user of the workers)';
  attempt(`--spool-dir ${directory}${asWhom}`, () =>
    asUser(user, () => rmdirSync(mkdtempSync(join(directory, '.wunderproxy-')))),
  );
}

/** Everything in the program is done as this user meanwhile, with the groups that its workers have: none. */
function asUser(user: User | null, action: () => void): void {
  if (user === null) return action();
  const [uid, gid, groups] = [process.geteuid?.() ?? 0, process.getegid?.() ?? 0, process.getgroups?.() ?? []];
  process.setgroups?.([]);
  process.setegid?.(user.gid);
  process.seteuid?.(user.uid);
  try {
    action();
  } finally {
    process.seteuid?.(uid);
    process.setegid?.(gid);
    process.setgroups?.(groups);
  }
}

/** Asks the system's own user database, which may be more than /etc/passwd. */
function findUser(name: string): User | null {
  const ask = (flag: string) =>
    Number(execFileSync('id', [flag, '--', name], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }));
  let user: User;
  try {
    user = { uid: ask('-u'), gid: ask('-g') };
  } catch {
    throw new PreflightError(`--user ${name}: there is no such user`);
  }
  const self = process.getuid?.();
  if (self === user.uid) return null;
  if (self !== 0) throw new PreflightError(`--user ${name}: only root can become another user`);
  return user;
}

function attempt<T>(what: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw new PreflightError(`${what}: ${messageOf(error)}`, { cause: error });
  }
}
