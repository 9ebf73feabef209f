import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { pino } from 'pino';
import { WunderproxyError } from '../../src/errors.ts';
import { openStore } from '../../src/manager/open-store.ts';
import { Environment } from '../../src/manager/environment.ts';
import { type Deployment, withDeployment } from '../../src/manager/history.ts';
import { StateCopies } from '../../src/manager/state-copies.ts';
import type { ConfigStore } from '../../src/manager/store.ts';

const log = pino({ level: 'silent' });

function bytesOf(revision: string): Buffer {
  return Buffer.from(JSON.stringify({ ContainerConfig: {}, HealthCheckPath: '/up', Revision: revision }));
}

function deploymentOf(revision: string): Deployment {
  const Hash = createHash('md5').update(bytesOf(revision)).digest('hex');
  return { Revision: revision, DeployedAt: new Date().toISOString(), DeployedBy: 'test', Hash };
}

async function setUp(t: TestContext, wrap: (store: ConfigStore) => ConfigStore = (store) => store) {
  const folder = mkdtempSync(join(tmpdir(), 'environment-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const open = async () => {
    const store = await openStore(
      { bucket: `file://${folder}/store`, prefix: 'p', s3Endpoint: null, s3PathStyle: false },
      log,
    );
    const copies = new StateCopies(join(folder, 'state'), { store: store.name, app: 'shop' }, log);
    return { store, environment: new Environment(wrap(store), copies, log) };
  };
  return { open, ...(await open()) };
}

/** A store of which one operation on one key fails. */
function failing(store: ConfigStore, operation: 'read' | 'replace', when: () => boolean, key: string): ConfigStore {
  const refuse = (given: string) => {
    if (given === key && when()) throw new WunderproxyError('store_unavailable');
  };
  return {
    name: store.name,
    read: async (given) => {
      if (operation === 'read') refuse(given);
      return store.read(given);
    },
    replace: async (given, bytes, expected) => {
      if (operation === 'replace') refuse(given);
      return store.replace(given, bytes, expected);
    },
    write: async (given, bytes) => store.write(given, bytes),
    list: async (prefix) => store.list(prefix),
    entries: async (prefix, limit) => store.entries(prefix, limit),
    remove: async (given) => store.remove(given),
    openArtifact: async (bucket, given, signal) => store.openArtifact(bucket, given, signal),
    close: () => store.close(),
  };
}

async function commit(environment: Environment, revision: string): Promise<Deployment[]> {
  const change = (history: Deployment[]) => withDeployment(history, deploymentOf(revision));
  await environment.commit(bytesOf(revision), change);
  return environment.knownHistory;
}

test('a commit writes the exact bytes and one entry of the history', async (t) => {
  const { environment, store } = await setUp(t);
  await commit(environment, 'v1');
  const history = await commit(environment, 'v2');
  assert.deepEqual(
    history.map((each) => each.Revision),
    ['v1', 'v2'],
  );
  assert.deepEqual((await store.read('current.json'))?.bytes, bytesOf('v2'));
  assert.equal((await environment.current())?.config.Revision, 'v2');
});

test('the config in service goes by the hash that the history has of it', async (t) => {
  const { environment, open } = await setUp(t);
  const bytes = bytesOf('v1');
  const [md5 = '', sha256 = ''] = ['md5', 'sha256'].map((name) => createHash(name).update(bytes).digest('hex'));
  await environment.commit(bytes, (history) => history);
  assert.equal((await environment.current())?.hash, md5, 'without a history');
  for (const hash of [sha256, md5, sha256]) {
    await environment.commit(bytes, (history) => withDeployment(history, { ...deploymentOf('v1'), Hash: hash }));
    const current = await (await open()).environment.current();
    assert.equal(current?.hash, hash);
    assert.deepEqual(current.hashes, [md5, sha256]);
  }
});

test('two managers that commit at the same time lose no entry of one another', async (t) => {
  const { open } = await setUp(t);
  const managers = await Promise.all([open(), open()]);
  const work = managers.map(async ({ environment }, manager) => {
    for (let i = 0; i < 5; i++) await commit(environment, `m${manager}-${i}`);
  });
  await Promise.all(work);
  const revisions = (await managers[0].environment.history()).map((each) => each.Revision);
  const expected = [0, 1].flatMap((manager) => [0, 1, 2, 3, 4].map((i) => `m${manager}-${i}`));
  assert.deepEqual(revisions.toSorted(), expected);
});

test('when current.json can not be written, the history is as it was', async (t) => {
  let down = false;
  const { environment, store } = await setUp(t, (real) => failing(real, 'replace', () => down, 'current.json'));
  await commit(environment, 'v1');
  const before = (await store.read('history.json'))?.bytes;
  down = true;
  await assert.rejects(commit(environment, 'v2'), { code: 'store_unavailable' });
  assert.deepEqual((await store.read('history.json'))?.bytes, before);
  assert.deepEqual((await store.read('current.json'))?.bytes, bytesOf('v1'));
});

test('when the history can not be written, current.json is not touched', async (t) => {
  let down = false;
  const { environment, store } = await setUp(t, (real) => failing(real, 'replace', () => down, 'history.json'));
  await commit(environment, 'v1');
  down = true;
  await assert.rejects(commit(environment, 'v2'), { code: 'store_unavailable' });
  assert.deepEqual((await store.read('current.json'))?.bytes, bytesOf('v1'));
});

test('with the store down the last known good copy is served, and it says so', async (t) => {
  let down = false;
  const { environment } = await setUp(t, (real) => failing(real, 'read', () => down, 'current.json'));
  await commit(environment, 'v1');
  down = true;
  const current = await environment.current();
  assert.equal(current?.config.Revision, 'v1');
  assert.equal(current.fromCopy, true);
  assert.ok(environment.problem);
});

test('with the store down and no copy, there is nothing to go by', async (t) => {
  const { environment } = await setUp(t, (real) => failing(real, 'read', () => true, 'current.json'));
  await assert.rejects(environment.current(), { code: 'store_unavailable' });
});

test('a launch config is found by its hash, and refused when its bytes are others', async (t) => {
  const { environment, store } = await setUp(t);
  const { Hash } = deploymentOf('v1');
  await assert.rejects(environment.launchConfig(Hash), { code: 'launch_config_not_found' });
  await store.write(`container.${Hash}.json`, bytesOf('v1'));
  assert.equal((await environment.launchConfig(Hash)).config.Revision, 'v1');
  await store.write(`container.${Hash}.json`, bytesOf('v2'));
  await assert.rejects(environment.launchConfig(Hash), { code: 'hash_mismatch' });
});
