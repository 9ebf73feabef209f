import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { Acme } from '../../src/manager/acme.ts';
import { AcmeLease, LEASE_TIMES } from '../../src/manager/acme-lease.ts';
import { AcmeObjects } from '../../src/manager/acme-objects.ts';
import { StateCopies } from '../../src/manager/state-copies.ts';
import { issue } from '../support/certificates.ts';
import { until } from '../support/deployments.ts';
import { freePort } from '../support/free-port.ts';
import { memoryLog } from '../support/memory-log.ts';
import { openForTest } from './store.contract.ts';

const DOMAINS = ['shop.example.com'];
const DAY = 86_400_000;
const TIMES = { poll: 50, busyPoll: 50, lease: LEASE_TIMES };

/** Machines that share a store and an authority that nobody reaches: what they do is seen without one. */
async function machines(t: TestContext, port?: number) {
  const folder = mkdtempSync(join(tmpdir(), 'acme-'));
  const running: Acme[] = [];
  t.after(async () => {
    for (const each of running) await each.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  const directory = `https://127.0.0.1:${port ?? (await freePort())}/dir`;
  const settings = { bucket: `file://${folder}/store`, prefix: 'p', s3Endpoint: null, s3PathStyle: false };
  const store = await openForTest(t, settings);
  const { log } = memoryLog();
  return {
    store,
    objects: new AcmeObjects(store, directory, DOMAINS, log),
    machine: async (name: string) => {
      const { log, lines } = memoryLog();
      const served: string[] = [];
      const acme = new Acme({
        ...{ domains: DOMAINS, email: null, directory, store: await openForTest(t, settings), holder: name, log },
        copies: new StateCopies(join(folder, name), { store: store.name, app: 'shop' }, log),
        onCertificates: (certificates) => served.push(...certificates.map(({ cert }) => cert)),
        times: TIMES,
      });
      running.push(acme);
      const orders = () => lines.filter(({ msg }) => msg === 'ordering a certificate').length;
      return { acme, lines, served, orders };
    },
  };
}

async function untilState(acme: Acme, state: string) {
  return until(
    () => Promise.resolve(acme.status()),
    ({ State }) => State === state,
  );
}

test('a certificate that another machine has stored is served soon, each new one again', async (t) => {
  const { objects, machine } = await machines(t);
  const [first, second] = [issue({ names: DOMAINS }), issue({ names: DOMAINS })];
  await objects.putCertificate(first.cert, first.key, null);
  const { acme, served, orders } = await machine('one');
  await acme.load();
  assert.deepEqual(served, [first.cert]);
  acme.start();
  await objects.putCertificate(second.cert, second.key, (await objects.certificate()).version);
  await until(
    () => Promise.resolve(served),
    ({ length }) => length === 2,
  );
  assert.deepEqual(served, [first.cert, second.cert]);
  assert.equal((await untilState(acme, 'ok')).LastError, null);
  assert.equal(orders(), 0);
});

test('a failure counts for all machines: none of them tries again before its time', async (t) => {
  const { objects, machine } = await machines(t);
  const [one, two] = [await machine('one'), await machine('two')];
  one.acme.start();
  const failed = await untilState(one.acme, 'failed');
  assert.match(failed.LastError ?? '', /ECONNREFUSED/);

  two.acme.start();
  const seen = await untilState(two.acme, 'failed');
  assert.deepEqual([seen.LastError, seen.NextTry, seen.LastTry], [failed.LastError, failed.NextTry, failed.LastTry]);
  assert.deepEqual([one.orders(), two.orders()], [1, 0]);
  assert.equal((await objects.attempt())?.Failures, 1);
});

test('who is told to hurry tries at once, and the waits go on growing', async (t) => {
  const { objects, machine } = await machines(t);
  const { acme, orders } = await machine('one');
  acme.start();
  const first = await untilState(acme, 'failed');
  acme.hurry();
  const attempt = await until(
    async () => objects.attempt(),
    (seen) => seen?.Failures === 2,
  );
  assert.equal(orders(), 2);
  const wait = (from: string | null | undefined, to: string | null | undefined) =>
    Date.parse(to ?? '') - Date.parse(from ?? '');
  assert.ok(wait(attempt?.At, attempt?.NextTry) > wait(first.LastTry, first.NextTry));
});

test('a try that is put off for longer than any wait was put off by a wrong clock', async (t) => {
  const { objects, machine } = await machines(t);
  const NextTry = new Date(Date.now() + 400 * DAY).toISOString();
  await objects.putAttempt({ At: new Date(Date.now() + 400 * DAY).toISOString(), Error: 'x', Failures: 1, NextTry });
  const { acme, orders } = await machine('one');
  acme.start();
  await until(
    () => Promise.resolve(orders()),
    (count) => count === 1,
  );
});

test('while another machine orders, one waits', async (t) => {
  const { store, objects, machine } = await machines(t);
  const held = (await new AcmeLease(store, 'another', memoryLog().log).acquire()) ?? assert.fail();
  const { acme, served, orders } = await machine('one');
  acme.start();
  await untilState(acme, 'waiting');
  const { cert, key } = issue({ names: DOMAINS });
  await objects.putCertificate(cert, key, null);
  await held.release();
  await untilState(acme, 'ok');
  assert.deepEqual(served, [cert]);
  assert.equal(orders(), 0);
});

test('an expired certificate is served as long as there is no other', async (t) => {
  const { objects, machine } = await machines(t);
  const past = { notBefore: new Date(Date.now() - 90 * DAY), notAfter: new Date(Date.now() - DAY) };
  const { cert, key } = issue({ names: DOMAINS, ...past });
  await objects.putCertificate(cert, key, null);
  const { acme, served } = await machine('one');
  acme.start();
  await untilState(acme, 'failed');
  assert.deepEqual(served, [cert]);
});

test('who stops gives back the lease', async (t) => {
  const silent = createServer((socket) => void connections.push(socket)).listen(0, '127.0.0.1');
  const connections: Socket[] = [];
  t.after(() => {
    silent.close();
    for (const each of connections) each.destroy();
  });
  await once(silent, 'listening');
  const { store, machine } = await machines(t, (silent.address() as AddressInfo).port);
  const { acme } = await machine('one');
  acme.start();
  await untilState(acme, 'ordering');
  await acme.stop();
  const next = await new AcmeLease(store, 'another', memoryLog().log).acquire();
  await (next ?? assert.fail()).release();
});
