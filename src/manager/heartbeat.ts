import * as z from 'zod';
import { isMachineId } from '../machine.ts';
import { isPlainUrl } from '../units.ts';

/*
 * What a machine says of itself to the others that share its store: one object each, which only it writes.
 */

/** A heartbeat is never larger, in bytes. */
export const LARGEST_HEARTBEAT = 64 * 1024;

/** What `--heartbeat` may be, in seconds. */
const LONGEST_INTERVAL = 300;

/** Keys of heartbeats begin with it. */
export const HEARTBEATS = 'machines/';

/** What a machine's own clients meet, the worst first. */
export const MACHINE_STATES = [
  'stopping',
  'no_workers',
  'no_active_container',
  'docker_down',
  'deploying',
  'draining',
  'ready',
] as const;
export type MachineState = (typeof MACHINE_STATES)[number];

/** The config in service. */
export interface HeartbeatActive {
  Hash: string;
  Revision: string;
  /** ISO 8601, when it last came into service there; null: before what is known. */
  SwitchedAt: string | null;
}

/** The content of `machines/<id>.json`. Times are ISO 8601. */
export interface Heartbeat {
  Machine: string;
  /** The machine's host name. */
  Name: string;
  App: string;
  Version: string;
  /** URLs under which other machines reach its listeners; null: not over TCP, or there is none. */
  Api: string | null;
  Proxy: string | null;
  Tls: string | null;
  StartedAt: string;
  /** By the machine's own clock. */
  At: string;
  /** Seconds until the next one at the latest, if all is well. */
  Every: number;
  Active: HeartbeatActive | null;
  /** One of MACHINE_STATES, or of those of another version. */
  State: string;
  InFlight: number;
  /** Since the program started. */
  Requests: number;
  /** 5xx answers. */
  ErrorsLastMinute: number;
  /** Another one for each start of the program. */
  Boot: string;
  /** Grows with each heartbeat of a manager. */
  Sequence: number;
}

/** Longer text than any of ours. */
const text = z.string().max(300);
const time = z.iso.datetime().max(40);
const count = z.number().min(0).max(Number.MAX_SAFE_INTEGER);
/** It becomes a link: nothing but an address, and nothing secret in it. */
const url = z
  .string()
  .max(2_048)
  .refine((value) => isPlainUrl(value), 'is not an http or https URL');

const schema = z.object({
  Machine: text,
  Name: text,
  App: text,
  Version: text,
  Api: url.nullable(),
  Proxy: url.nullable(),
  Tls: url.nullable(),
  StartedAt: time,
  At: time,
  Every: z.number().min(0).max(LONGEST_INTERVAL),
  Active: z.object({ Hash: text, Revision: text, SwitchedAt: time.nullable() }).nullable(),
  State: z.string().regex(/^[a-z_]{1,40}$/),
  InFlight: count,
  Requests: count,
  ErrorsLastMinute: count,
  Boot: text,
  Sequence: count,
});

/** The key of a machine's heartbeat, below the prefix. */
export function heartbeatKey(machine: string): string {
  return `${HEARTBEATS}${machine}.json`;
}

/** The machine whose heartbeat has this key, or null when it is no key of one. */
export function machineOfKey(key: string): string | null {
  const machine =
    key.startsWith(HEARTBEATS) && key.endsWith('.json') ? key.slice(HEARTBEATS.length, -'.json'.length) : '';
  return isMachineId(machine) ? machine : null;
}

export function formatHeartbeat(heartbeat: Heartbeat): Buffer {
  return Buffer.from(`${JSON.stringify(heartbeat, null, 2)}\n`);
}

/** Reads the heartbeat of `machine`, whoever wrote it. Throws a RangeError that says what is wrong with it. */
export function parseHeartbeat(machine: string, bytes: Buffer): Heartbeat {
  let json: unknown;
  try {
    json = JSON.parse(bytes.toString('utf8'));
  } catch {
    throw new RangeError('it is not JSON');
  }
  const parsed = schema.safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new RangeError(`${issue?.path.join('.') || 'it'} is not what it should be`);
  }
  if (parsed.data.Machine !== machine) throw new RangeError('it is of another machine than its key');
  return parsed.data;
}
