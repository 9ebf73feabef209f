import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, test, type TestContext } from 'node:test';
import { WunderproxyError } from '../../src/errors.ts';
import { openStore } from '../../src/manager/open-store.ts';
import type { ConfigStore } from '../../src/manager/store.ts';
import { memoryLog } from '../support/memory-log.ts';
import { exitOf, spawnForTest } from '../support/processes.ts';
import type { StoreSettings, WriterJob } from './store-writer.ts';

/** Fresh and empty, for one test. */
export interface StoreUnderTest {
  settings: StoreSettings;
  store: ConfigStore;
  /** An image archive as an operator would put it there, and the bucket's name in a launch config. */
  putArtifact(key: string, bytes: Buffer): Promise<string>;
}

export type Prepare = (t: TestContext) => Promise<StoreUnderTest>;

/** Opens what `settings` name, for one test. */
export async function openForTest(t: TestContext, settings: StoreSettings): Promise<ConfigStore> {
  const store = await openStore(settings, memoryLog().log);
  t.after(() => {
    store.close();
  });
  return store;
}

/** For assert.rejects: the one error that a store may fail with, its message matching. */
export function unavailable(message: RegExp): (error: unknown) => true {
  return (error) => {
    assert.ok(error instanceof WunderproxyError, String(error));
    assert.equal(error.code, 'store_unavailable');
    assert.match(error.message, message);
    return true;
  };
}

/** Starts a process that writes to the store until it is done or killed. */
export function startWriter(t: TestContext, job: WriterJob) {
  const script = join(import.meta.dirname, 'store-writer.ts');
  return spawnForTest(t, process.execPath, [script, JSON.stringify(job)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

const text = (object: { bytes: Buffer } | null) => object && object.bytes.toString();

/** What every ConfigStore does (src/manager/store.ts). */
export function storeContract(kind: string, prepare: Prepare): void {
  describe(`${kind}: reading and writing`, () => {
    test('an object that is not there is null', async (t) => {
      const { store } = await prepare(t);
      assert.equal(await store.read('current.json'), null);
      assert.equal(await store.read('no/such/path.json'), null);
    });

    test('what was written is read, and the last write wins', async (t) => {
      const { store } = await prepare(t);
      await store.write('journal/1.json', Buffer.from('one'));
      await store.write('journal/1.json', Buffer.from('two'));
      assert.equal(text(await store.read('journal/1.json')), 'two');
    });

    test('every byte value comes back, and so does an empty object', async (t) => {
      const { store } = await prepare(t);
      const every = Buffer.from(Array.from({ length: 256 }, (_, value) => value));
      await store.write('bytes', every);
      await store.write('empty', Buffer.alloc(0));
      assert.deepEqual((await store.read('bytes'))?.bytes, every);
      assert.equal((await store.read('empty'))?.bytes.length, 0);
    });

    test('an object of 16 MiB comes back whole', async (t) => {
      const { store } = await prepare(t);
      const big = Buffer.alloc(16 * 2 ** 20);
      for (let at = 0; at < big.length; at += 4) big.writeUInt32LE((at * 2_654_435_761) % 2 ** 32, at);
      assert.equal(await store.replace('big', big, null), true);
      const read = await store.read('big');
      assert.equal(digest(read?.bytes), digest(big));
    });

    test('another store on the same place sees the same objects', async (t) => {
      const { store, settings } = await prepare(t);
      await store.write('current.json', Buffer.from('seen'));
      assert.equal(text(await (await openForTest(t, settings)).read('current.json')), 'seen');
    });

    test('another prefix is another place', async (t) => {
      const { store, settings } = await prepare(t);
      await store.write('current.json', Buffer.from('mine'));
      const other = await openForTest(t, { ...settings, prefix: `${settings.prefix}-2` });
      assert.equal(await other.read('current.json'), null);
      assert.deepEqual(await other.list(''), []);
    });
  });

  describe(`${kind}: compare-and-swap`, () => {
    test('an object is created only where there is none', async (t) => {
      const { store } = await prepare(t);
      assert.equal(await store.replace('current.json', Buffer.from('first'), null), true);
      assert.equal(await store.replace('current.json', Buffer.from('second'), null), false);
      assert.equal(text(await store.read('current.json')), 'first');
    });

    test('an object is replaced only at the version that was read', async (t) => {
      const { store } = await prepare(t);
      await store.write('current.json', Buffer.from('first'));
      const { version } = (await store.read('current.json')) ?? assert.fail();
      assert.equal(await store.replace('current.json', Buffer.from('second'), version), true);
      assert.equal(await store.replace('current.json', Buffer.from('third'), version), false);
      assert.equal(text(await store.read('current.json')), 'second');
      const again = (await store.read('current.json')) ?? assert.fail();
      assert.equal(await store.replace('current.json', Buffer.from('fourth'), again.version), true);
    });

    test('a version of an object that is gone replaces nothing', async (t) => {
      const { store } = await prepare(t);
      await store.write('other.json', Buffer.from('x'));
      const { version } = (await store.read('other.json')) ?? assert.fail();
      assert.equal(await store.replace('current.json', Buffer.from('y'), version), false);
      assert.equal(await store.read('current.json'), null);
    });

    for (const writers of [2, 8]) {
      test(`${writers} processes that add to one object at once lose no entry`, { timeout: 120_000 }, async (t) => {
        const { store, settings } = await prepare(t);
        const names = Array.from({ length: writers }, (_, at) => `writer${at}`);
        const count = 48 / writers;
        const exits = names.map(async (name) => {
          const child = startWriter(t, { settings, key: 'history.json', mode: 'append', name, count });
          child.stdout?.resume();
          return (await exitOf(child)).code;
        });
        assert.deepEqual(await Promise.all(exits), Array<number>(writers).fill(0));
        const entries = JSON.parse(text(await store.read('history.json')) ?? '') as string[];
        const expected = names.flatMap((name) => Array.from({ length: count }, (_, at) => `${name}-${at}`));
        assert.deepEqual(entries.toSorted(), expected.toSorted());
      });
    }

    test('a writer that is killed leaves a whole object, and nothing that stops others', async (t) => {
      const { store, settings } = await prepare(t);
      for (let round = 0; round < 5; round++) {
        const child = startWriter(t, { settings, key: 'current.json', mode: 'fill', name: 'x', count: 10_000 });
        const lines = createInterface({ input: child.stdout ?? assert.fail() });
        for (let writes = 0; writes <= round; writes++) await once(lines, 'line');
        child.kill('SIGKILL');
        assert.equal((await exitOf(child)).signal, 'SIGKILL');
        const object = (await store.read('current.json')) ?? assert.fail();
        assert.equal(object.bytes.length, 2 ** 20);
        assert.deepEqual(object.bytes, Buffer.alloc(2 ** 20, object.bytes[0]));
        assert.equal(await store.replace('current.json', Buffer.from(`after ${round}`), object.version), true);
      }
    });
  });

  describe(`${kind}: listing`, () => {
    test('nothing is an empty list', async (t) => {
      const { store } = await prepare(t);
      assert.deepEqual(await store.list(''), []);
      assert.deepEqual(await store.list('journal/'), []);
    });

    test('the keys with a prefix come in ascending order, as they were written', async (t) => {
      const { store } = await prepare(t);
      const keys = ['journal/2026-b.json', 'journal/2026-a.json', 'journal/2025.json', 'journal2.json', 'current.json'];
      for (const key of keys) await store.write(key, Buffer.from(key));
      assert.deepEqual(await store.list(''), keys.toSorted());
      assert.deepEqual(await store.list('journal/'), [
        'journal/2025.json',
        'journal/2026-a.json',
        'journal/2026-b.json',
      ]);
      assert.deepEqual(await store.list('journal/2026'), ['journal/2026-a.json', 'journal/2026-b.json']);
      assert.deepEqual(await store.list('journal'), keys.filter((key) => key.startsWith('journal')).toSorted());
      assert.deepEqual(await store.list('absent/'), []);
    });
  });

  describe(`${kind}: entries`, () => {
    test('each has its size, and another tag after each change', async (t) => {
      const { store } = await prepare(t);
      await store.write('machines/b.json', Buffer.from('one'));
      await store.write('machines/a.json', Buffer.from('three'));
      await store.write('machines2.json', Buffer.from('x'));
      const before = await store.entries('machines/', 10);
      assert.deepEqual(
        before.map(({ key, size }) => [key, size]),
        [
          ['machines/a.json', 5],
          ['machines/b.json', 3],
        ],
      );
      assert.deepEqual(await store.entries('machines/', 10), before);
      await store.write('machines/a.json', Buffer.from('seven'));
      const after = await store.entries('machines/', 10);
      assert.notEqual(after[0]?.tag, before[0]?.tag);
      assert.deepEqual(after[1], before[1]);
    });

    test('no more than asked for are told', async (t) => {
      const { store } = await prepare(t);
      for (const name of ['a', 'b', 'c']) await store.write(`machines/${name}`, Buffer.from(name));
      const keys = async (limit: number) => (await store.entries('machines/', limit)).map(({ key }) => key);
      assert.deepEqual(await keys(2), ['machines/a', 'machines/b']);
      assert.deepEqual(await keys(3), ['machines/a', 'machines/b', 'machines/c']);
      assert.deepEqual(await store.entries('absent/', 3), []);
    });

    test('what was removed is gone, and removing it again is no failure', async (t) => {
      const { store } = await prepare(t);
      await store.write('machines/a', Buffer.from('a'));
      await store.remove('machines/a');
      assert.equal(await store.read('machines/a'), null);
      assert.deepEqual(await store.entries('machines/', 3), []);
      await store.remove('machines/a');
      await store.remove('absent/b');
    });

    test('an object that is larger than it may be is not read', async (t) => {
      const { store } = await prepare(t);
      await store.write('machines/a', Buffer.alloc(1_000));
      assert.equal((await store.read('machines/a', 1_000))?.bytes.length, 1_000);
      await assert.rejects(store.read('machines/a', 999), unavailable(/read machines\/a: it has more than 999 bytes/));
      await store.write('machines/big', Buffer.alloc(8 * 2 ** 20));
      await assert.rejects(store.read('machines/big', 64 * 1024), unavailable(/it has more than 65536 bytes/));
      assert.equal((await store.read('machines/a'))?.bytes.length, 1_000);
    });
  });

  describe(`${kind}: image archives`, () => {
    test('an archive is streamed whole from its bucket and key', async (t) => {
      const { store, putArtifact } = await prepare(t);
      const archive = Buffer.alloc(3 * 2 ** 20 + 17, 'archive');
      const bucket = await putArtifact('images/shop-v42.tar.gz', archive);
      const stream = await store.openArtifact(bucket, 'images/shop-v42.tar.gz', new AbortController().signal);
      assert.equal(digest(Buffer.concat((await stream?.toArray()) as Buffer[])), digest(archive));
    });

    test('an archive that is not there is null', async (t) => {
      const { store, putArtifact } = await prepare(t);
      const bucket = await putArtifact('other.tar', Buffer.from('x'));
      assert.equal(await store.openArtifact(bucket, 'missing.tar', new AbortController().signal), null);
    });

    test('an archive that is no longer wanted ends its stream', async (t) => {
      const { store, putArtifact } = await prepare(t);
      const bucket = await putArtifact('big.tar', Buffer.alloc(32 * 2 ** 20));
      const controller = new AbortController();
      const stream = (await store.openArtifact(bucket, 'big.tar', controller.signal)) ?? assert.fail();
      await once(stream, 'readable');
      const failed = once(stream, 'error');
      controller.abort();
      assert.equal(((await failed) as [Error])[0].name, 'AbortError');
      assert.equal(stream.destroyed, true);
    });
  });
}

function digest(bytes: Buffer | undefined): string {
  return createHash('sha256')
    .update(bytes ?? '')
    .digest('hex');
}
