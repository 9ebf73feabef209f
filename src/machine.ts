import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, linkSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { messageOf } from './errors.ts';

/** Name of the file in the state directory. */
const FILE = 'machine-id';

/** Becomes part of keys in the store, so it begins with neither a dot nor a dash and holds nothing that needs quoting. */
const MACHINE_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,39}-[0-9a-f]{8}$/;

/** Who this machine is to the others that share its store. */
export interface Machine {
  /** `<hostname>-<8 hex digits>`, the same at each start. */
  id: string;
  /** Why it will be another one at the next start; null: it is kept. */
  problem: string | null;
}

/** A new id for this start of the program: what tells it from one on another machine whose state directory was copied. */
export function newInstance(): string {
  return randomBytes(8).toString('hex');
}

/** What is to be done when another machine has the id of this one; `other` says which one that is. */
export function cloneAdvice(machine: string, other: string): string {
  return (
    `Another machine has the id of this one, ${machine}: ${other}. If the disk was copied, stop wunderproxy on one of the two, ` +
    `remove ${FILE} from its --state-dir and start it again. Two on one machine need a --state-dir each.`
  );
}

/** Whether `text` has the form of a machine's id. */
export function isMachineId(text: string): boolean {
  return MACHINE_ID.test(text);
}

/** A new id for a machine of that name. */
export function newMachineId(name: string): string {
  const safe = name.replace(/[^A-Za-z0-9._-]/g, '-').replace(/^[^A-Za-z0-9]+/, '');
  return `${safe.slice(0, 40) || 'machine'}-${randomBytes(4).toString('hex')}`;
}

/**
 * The id in `stateDir`, made when there is none. Of several programs that start at once with one directory all get the
 * same. A damaged file is replaced. A disk that takes no file is no reason not to start: then the id is for this time.
 */
export function machineIn(stateDir: string): Machine {
  const path = join(stateDir, FILE);
  const id = newMachineId(hostname());
  const temporary = `${path}.${id.slice(-8)}.tmp`;
  try {
    const before = readId(path);
    if (before !== null && isMachineId(before)) return { id: before, problem: null };
    writeSynced(temporary, `${id}\n`);
    if (before !== null) renameSync(temporary, path);
    else if (!linkIfMissing(temporary, path)) return machineOf(readId(path), id);
    return { id, problem: null };
  } catch (error) {
    return { id, problem: messageOf(error) };
  } finally {
    rmSync(temporary, { force: true });
  }
}

function machineOf(read: string | null, id: string): Machine {
  if (read !== null && isMachineId(read)) return { id: read, problem: null };
  return { id, problem: `${FILE} changes while it is read` };
}

function readId(path: string): string | null {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

function writeSynced(path: string, text: string): void {
  const fd = openSync(path, 'wx', 0o600);
  try {
    writeFileSync(fd, text);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** A link is made for one of many at once, and is whole from the beginning. */
function linkIfMissing(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}
