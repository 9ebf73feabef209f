/**
 * A process of its own that writes to a store, for tests: `{ settings, key, mode, name, count }` as JSON is its argument.
 *
 * `append`: adds `count` entries to the JSON array at `key`, each by compare-and-swap until it succeeds.
 * `fill`: replaces the object for ever by 1 MiB of one letter after the other.
 * Prints a line for each write that succeeded.
 */
import { memoryLog } from '../support/memory-log.ts';
import { openStore } from '../../src/manager/open-store.ts';
import type { Config } from '../../src/config.ts';

export type StoreSettings = Pick<Config, 'bucket' | 'prefix' | 's3Endpoint' | 's3PathStyle'>;

export interface WriterJob {
  settings: StoreSettings;
  key: string;
  mode: 'append' | 'fill';
  name: string;
  count: number;
}

const job = JSON.parse(process.argv[2] ?? '') as WriterJob;
const store = await openStore(job.settings, memoryLog().log);

/** True once it is written, false when somebody was faster. */
async function append(entry: string): Promise<boolean> {
  const current = await store.read(job.key);
  const entries = current ? (JSON.parse(current.bytes.toString()) as string[]) : [];
  return store.replace(job.key, Buffer.from(JSON.stringify([...entries, entry])), current?.version ?? null);
}

async function fill(turn: number): Promise<boolean> {
  const bytes = Buffer.alloc(2 ** 20, 'abcdefgh'[turn % 8]);
  return store.replace(job.key, bytes, (await store.read(job.key))?.version ?? null);
}

let lost = 0;
for (let written = 0; written < job.count;) {
  if (await (job.mode === 'append' ? append(`${job.name}-${written}`) : fill(written))) {
    written++;
    console.log(written);
  } else if (++lost > 100_000) throw new Error('every write is lost');
}
store.close();
