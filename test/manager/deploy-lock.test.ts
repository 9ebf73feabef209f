import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { WunderproxyError } from '../../src/errors.ts';
import { DeployLock, type LockRequest } from '../../src/manager/deploy-lock.ts';
import { until } from '../support/deployments.ts';
import { memoryLog } from '../support/memory-log.ts';
import { openForTest } from './store.contract.ts';

const LONG = 300_000;

async function place(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), 'lock-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const settings = { bucket: `file://${directory}`, prefix: 'p', s3Endpoint: null, s3PathStyle: false };
  const { log, lines } = memoryLog();
  return {
    lines,
    file: join(directory, 'p/deploy-lock.json'),
    lock: async () => new DeployLock(await openForTest(t, settings), 'a machine', log),
  };
}

const request = (owner: string, life = LONG): LockRequest => ({
  token: `the token of ${owner}`,
  owner,
  what: 'v2',
  life,
});

const locked = (owner: RegExp) => (error: unknown) => {
  assert.ok(error instanceof WunderproxyError);
  assert.equal(error.code, 'deploy_locked');
  assert.match(error.message, owner);
  return true;
};

test('one at a time has the lock; who comes second is told who has it, since when and until when', async (t) => {
  const { lock } = await place(t);
  const [one, two] = [await lock(), await lock()];
  const held = await one.take(request('alice'));
  await assert.rejects(two.take(request('bob')), (error: WunderproxyError) => {
    assert.deepEqual(error.detail, held);
    return locked(/alice is deploying: v2, since \d{4}-.* ends at \d{4}-/)(error);
  });
  assert.deepEqual(await two.holder(), held);
  await one.release('the token of alice');
  assert.equal(await two.holder(), null);
  assert.equal((await two.take(request('bob'))).Owner, 'bob');
});

test('of many that want it at once one gets it', async (t) => {
  const { lock } = await place(t);
  const all = await Promise.all(Array.from({ length: 8 }, async () => lock()));
  const results = await Promise.allSettled(all.map(async (each, index) => each.take(request(`owner ${index}`))));
  assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 1);
  for (const result of results) if (result.status === 'rejected') locked(/./)(result.reason);
});

test('its owner may take it again, and renews it through any machine; the time it was taken stays', async (t) => {
  const { lock, file } = await place(t);
  const [one, two] = [await lock(), await lock()];
  const first = await one.take(request('alice'));
  const versions = new Set([readFileSync(file, 'utf8')]);
  for (const again of [() => one.take(request('alice')), () => two.renew(request('alice'))]) {
    assert.equal((await again()).TakenAt, first.TakenAt);
    versions.add(readFileSync(file, 'utf8'));
  }
  assert.equal(versions.size, 3, 'every renewal changes the object');
});

test('whose token is not the holder’s can neither renew nor release it', async (t) => {
  const { lock } = await place(t);
  const one = await lock();
  await one.take(request('alice'));
  await assert.rejects(one.renew(request('bob')), locked(/alice/));
  await assert.rejects(one.release('the token of bob'), locked(/alice/));
  await one.release('the token of alice');
  await one.release('the token of alice');
  await assert.rejects(one.renew(request('alice')), locked(/no longer held/));
});

test('a holder that has not renewed it for its life, as another machine saw, loses it', async (t) => {
  const { lock, lines } = await place(t);
  const [one, two] = [await lock(), await lock()];
  await one.take(request('alice', 200));
  await assert.rejects(two.take(request('bob')), locked(/alice/));
  const taken = await until(
    async () => two.take(request('bob')).catch(() => null),
    (held) => held !== null,
  );
  assert.equal(taken?.Owner, 'bob');
  assert.ok(lines.some(({ level, owner }) => level === 'warn' && owner === 'alice'));
  await assert.rejects(one.renew(request('alice', 200)), locked(/bob/));
});

test('a clock that is minutes ahead does not take it from a holder that lives', async (t) => {
  const { lock, file } = await place(t);
  const [one, two] = [await lock(), await lock()];
  await one.take(request('alice'));
  const rewrite = (minutes: number) => {
    const object = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
    const ExpiresAt = new Date(Date.now() - minutes * 60_000).toISOString();
    writeFileSync(file, JSON.stringify({ ...object, ExpiresAt }));
  };
  rewrite(10);
  await assert.rejects(two.take(request('bob')), locked(/alice/));
  rewrite(31);
  assert.equal((await two.take(request('bob'))).Owner, 'bob');
});

test('what the store shows is not the token, and a damaged object is nobody’s', async (t) => {
  const { lock, file } = await place(t);
  const one = await lock();
  await one.take(request('alice'));
  assert.equal(readFileSync(file, 'utf8').includes('the token of'), false);
  for (const damaged of ['', '{', '[]', 'null', '7', '{"Owner":"eve","Beat":"x"}']) {
    writeFileSync(file, damaged);
    assert.equal(await one.holder(), null);
    assert.equal((await one.take(request('bob'))).Owner, 'bob');
  }
});
