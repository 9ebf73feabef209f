import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { formatHeartbeat, type Heartbeat, heartbeatKey } from '../../src/manager/heartbeat.ts';
import { openStore } from '../../src/manager/open-store.ts';
import type { ConfigStore } from '../../src/manager/store.ts';
import { memoryLog } from './memory-log.ts';
import type { Cleanup } from './processes.ts';

/** The time at which the clocks of these tests begin. */
export const BEGIN = Date.parse('2026-03-14T15:09:26.000Z');

/** A heartbeat of a machine that is well. */
export function heartbeatOf(machine: string, more: Partial<Heartbeat> = {}): Heartbeat {
  return {
    Machine: machine,
    Name: machine.slice(0, -9),
    App: 'shop',
    Version: '0.1.0',
    Api: 'http://10.0.0.1:8001',
    Proxy: 'http://10.0.0.1',
    Tls: null,
    StartedAt: '2026-03-14T15:00:00.000Z',
    At: new Date(BEGIN).toISOString(),
    Every: 10,
    Active: { Hash: '3'.repeat(32), Revision: 'v3', SwitchedAt: '2026-03-14T15:00:01.000Z' },
    State: 'ready',
    InFlight: 7,
    Requests: 1_284,
    ErrorsLastMinute: 2,
    Boot: 'boot-1',
    Sequence: 1,
    ...more,
  };
}

/** A store in a fresh directory, and what other machines would do to it. */
export async function sharedStore(t: Cleanup) {
  const folder = mkdtempSync(join(tmpdir(), 'fleet-'));
  const settings = { bucket: `file://${folder}`, prefix: 'p', s3Endpoint: null, s3PathStyle: false };
  const store: ConfigStore = await openStore(settings, memoryLog().log);
  t.after(() => {
    store.close();
    rmSync(folder, { recursive: true, force: true });
  });
  return {
    store,
    /** The environment's own folder. */
    folder: join(folder, 'p'),
    beat: async (machine: string, more: Partial<Heartbeat> = {}) => {
      await store.write(heartbeatKey(machine), formatHeartbeat(heartbeatOf(machine, more)));
    },
  };
}
