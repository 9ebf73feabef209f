import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { DatabaseSync } from 'node:sqlite';
import { describe, test, type TestContext } from 'node:test';
import { openForTest, storeContract, type StoreUnderTest, unavailable } from './store.contract.ts';
import { spawnForTest } from '../support/processes.ts';

const prefix = 'shop/production';

function directoryForTest(t: TestContext, letGo: (directory: string) => void = () => {}): string {
  const directory = mkdtempSync(join(tmpdir(), 'store-'));
  t.after(() => {
    letGo(directory);
    rmSync(directory, { recursive: true, force: true });
  });
  return directory;
}

function settingsFor(directory: string) {
  return { bucket: `file://${directory}`, prefix, s3Endpoint: null, s3PathStyle: false };
}

async function prepare(t: TestContext): Promise<StoreUnderTest & { root: string }> {
  const directory = directoryForTest(t);
  const settings = settingsFor(directory);
  return {
    settings,
    root: join(directory, prefix),
    store: await openForTest(t, settings),
    putArtifact: (key, bytes) => {
      const path = join(directory, 'artifacts', key);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, bytes);
      return Promise.resolve(`file://${directory}/artifacts`);
    },
  };
}

storeContract('directory store', prepare);

describe('directory store: files', () => {
  test('only the owner can read what is in the store', async (t) => {
    const { store, root } = await prepare(t);
    await store.write('journal/1.json', Buffer.from('x'));
    await store.replace('current.json', Buffer.from('x'), null);
    const modes = ['', 'journal', 'journal/1.json', 'current.json', '.lock'].map((name) => [
      name,
      (statSync(join(root, name)).mode & 0o777).toString(8),
    ]);
    assert.deepEqual(modes, [
      ['', '700'],
      ['journal', '700'],
      ['journal/1.json', '600'],
      ['current.json', '600'],
      ['.lock', '600'],
    ]);
  });

  test('a store below directories that do not exist is empty, and reading it creates nothing', async (t) => {
    const { store, root } = await prepare(t);
    assert.equal(await store.read('current.json'), null);
    assert.deepEqual(await store.list('journal/'), []);
    assert.equal(existsSync(dirname(root)), false);
  });

  test('no key leads out of the directory or to the files of the store itself', async (t) => {
    const { store, settings } = await prepare(t);
    const signal = new AbortController().signal;
    for (const key of ['../escape', 'a/../../escape', '/etc/passwd', '', 'a//b', '.', 'a/.', '.lock', 'a\0b']) {
      await assert.rejects(store.read(key), unavailable(/a key is a relative path/), key);
      await assert.rejects(store.write(key, Buffer.from('x')), unavailable(/a key is a relative path/), key);
      await assert.rejects(store.replace(key, Buffer.from('x'), null), unavailable(/a key is/), key);
      await assert.rejects(store.openArtifact(settings.bucket, key, signal), unavailable(/a key is/), key);
    }
    await assert.rejects(store.list('../'), unavailable(/a key is a relative path/));
  });

  test('a directory or a named pipe in the place of an object is no object', async (t) => {
    const { store, root } = await prepare(t);
    mkdirSync(join(root, 'a-directory'), { recursive: true });
    assert.equal(spawnSync('mkfifo', [join(root, 'a-pipe')]).status, 0);
    assert.equal(await store.read('a-directory'), null);
    assert.equal(await store.read('a-pipe'), null);
    assert.equal(await store.read('a-directory/below'), null);
    await assert.rejects(
      store.write('a-directory', Buffer.from('x')),
      unavailable(/there is a directory in its place/),
    );
    assert.deepEqual(await store.list(''), []);
  });

  test('a link to a directory elsewhere is not listed', async (t) => {
    const { store, root } = await prepare(t);
    const elsewhere = directoryForTest(t);
    writeFileSync(join(elsewhere, 'secret'), 'x');
    await store.write('current.json', Buffer.from('x'));
    symlinkSync(elsewhere, join(root, 'link'));
    assert.deepEqual(await store.list(''), ['current.json']);
  });

  test('temp files that a crash left are removed by the next write, fresh ones are not', async (t) => {
    const { store, root } = await prepare(t);
    mkdirSync(root, { recursive: true });
    const [stale, fresh, foreign] = ['.0123456789abcdef.tmp', '.fedcba9876543210.tmp', 'notes.tmp'] as const;
    const longAgo = new Date(Date.now() - 3_600_000);
    for (const name of [stale, fresh, foreign]) writeFileSync(join(root, name), 'half');
    for (const name of [stale, foreign]) utimesSync(join(root, name), longAgo, longAgo);
    await store.write('current.json', Buffer.from('x'));
    assert.deepEqual(readdirSync(root).toSorted(), [fresh, 'current.json', foreign].toSorted());
    assert.deepEqual(await store.list(''), ['current.json', foreign]);
  });

  test('no temp file is left by writes that succeed or lose', async (t) => {
    const { store, root } = await prepare(t);
    await store.replace('current.json', Buffer.from('x'), null);
    await store.replace('current.json', Buffer.from('y'), null);
    await store.write('current.json', Buffer.from('z'));
    assert.deepEqual(readdirSync(root).toSorted(), ['.lock', 'current.json']);
  });
});

describe('directory store: failures', () => {
  test('a lock that another process never gives back is reported, and the store works once it is free', async (t) => {
    const { store, root } = await prepare(t);
    await store.replace('current.json', Buffer.from('x'), null);
    const holder = spawnForTest(
      t,
      process.execPath,
      [
        '-e',
        `${holdLock}; hold(process.argv[1]); console.log('held'); setInterval(() => {}, 1000)`,
        join(root, '.lock'),
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    await once(createInterface({ input: holder.stdout ?? assert.fail() }), 'line');
    const replaced = store.replace('current.json', Buffer.from('y'), null);
    await assert.rejects(replaced, unavailable(/failed to write current\.json: another process holds its lock/));
    assert.equal((await store.read('current.json'))?.bytes.toString(), 'x');
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    assert.equal(await store.replace('current.json', Buffer.from('y'), null), false);
  });

  test('two stores in one process keep out of each other’s way', async (t) => {
    const { store, settings, root } = await prepare(t);
    const other = await openForTest(t, settings);
    const outcomes = await Promise.all(
      [store, other, store, other].map((each, at) => each.replace('current.json', Buffer.from(`${at}`), null)),
    );
    assert.equal(outcomes.filter(Boolean).length, 1);
    const database = new DatabaseSync(join(root, '.lock'), { timeout: 0 });
    database.exec('BEGIN IMMEDIATE');
    database.close();
  });

  test('a directory that may not be written says so', { skip: notRoot() }, (t) => {
    const directory = directoryForTest(t);
    mkdirSync(join(directory, prefix), { recursive: true });
    chmodSync(directory, 0o755);
    const script = join(import.meta.dirname, 'store-writer.ts');
    const job = { settings: settingsFor(directory), key: 'current.json', mode: 'append', name: 'x', count: 1 };
    const done = spawnSync(process.execPath, [script, JSON.stringify(job)], { uid: 65_534, encoding: 'utf8' });
    assert.notEqual(done.status, 0);
    assert.match(done.stderr, /failed to write current\.json: permission denied/);
  });

  test(
    'a full disk says so, leaves the old object, and is no obstacle once there is room',
    { skip: notRoot() },
    async (t) => {
      const directory = directoryForTest(t, (mountPoint) => spawnSync('umount', [mountPoint]));
      const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'none', directory], { encoding: 'utf8' });
      if (mounted.status !== 0) {
        t.skip(`no file system can be mounted here: ${mounted.stderr.trim()}`);
        return;
      }
      const store = await openForTest(t, settingsFor(directory));
      assert.equal(await store.replace('current.json', Buffer.from('old'), null), true);
      const { version } = (await store.read('current.json')) ?? assert.fail();
      const large = Buffer.alloc(2 ** 20);
      await assert.rejects(store.replace('current.json', large, version), unavailable(/no space is left on the disk/));
      assert.equal((await store.read('current.json'))?.bytes.toString(), 'old');
      assert.deepEqual(readdirSync(join(directory, prefix)).toSorted(), ['.lock', 'current.json']);
      assert.equal(await store.replace('current.json', Buffer.from('new'), version), true);
    },
  );

  test('a bucket that is no path is refused at once', async (t) => {
    const settings = { ...settingsFor('/x'), bucket: 'file://host/dir' };
    await assert.rejects(openForTest(t, settings), unavailable(/this is not file:\/\/\/absolute\/dir/));
  });
});

const holdLock = `
  const { DatabaseSync } = require('node:sqlite');
  const hold = (path) => {
    globalThis.database = new DatabaseSync(path);
    globalThis.database.exec('BEGIN IMMEDIATE');
  }`;

function notRoot(): string | false {
  return process.getuid?.() === 0 ? false : 'needs root';
}
