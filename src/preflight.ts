import { execFileSync } from 'node:child_process';
import { accessSync, closeSync, constants, mkdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { openLog } from './access-log-file.ts';
import type { Config } from './config.ts';
import { messageOf } from './errors.ts';
import { parseEnvironmentFile } from './environment-file.ts';
import { readPeerFiles } from './peer-keeper.ts';
import { type Machine, machineIn } from './machine.ts';
import { readTokens } from './secret-file.ts';

/** Something outside of the command line that must be mended before a start: one line. */
export class PreflightError extends Error {}

/**
 * Checks what the options name before anything is started: files can be read, directories written, the user exists.
 * Throws PreflightError and PeerFileError.
 */
export function preflight(config: Config): { user: { uid: number; gid: number } | null; machine: Machine } {
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
  return { user, machine: machineIn(config.stateDir) };
}

function writableDirectory(name: string, directory: string): void {
  attempt(`${name} ${directory}`, () => {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    accessSync(directory, constants.W_OK | constants.X_OK);
  });
}

/** Asks the system's own user database, which may be more than /etc/passwd. */
function findUser(name: string): { uid: number; gid: number } | null {
  const ask = (flag: string) =>
    Number(execFileSync('id', [flag, '--', name], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }));
  let user: { uid: number; gid: number };
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
