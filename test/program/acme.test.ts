import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { Agent, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { AcmeLease, type HeldLease } from '../../src/manager/acme-lease.ts';
import { openForTest } from '../manager/store.contract.ts';
import {
  acmeEnvironment,
  acmeOptions,
  acmeStatus,
  certificateShown,
  ChallengeRelay,
  storedObject,
  tlsAddressOf,
  untilAcme,
} from '../support/acme.ts';
import { issue, writePair } from '../support/certificates.ts';
import { workshop, type Workshop } from '../support/deployable.ts';
import { deploy, until, versionServed } from '../support/deployments.ts';
import { connectionTo } from '../support/http.ts';
import { memoryLog } from '../support/memory-log.ts';
import { Pebble, type PebbleOptions } from '../support/pebble.ts';
import { startProgram, type TestProgram } from '../support/program.ts';

const DOMAINS = 'shop.example.com,www.shop.example.com';

interface StartOptions {
  domains?: string;
  more?: string[];
  stateDir?: string;
}

async function start(t: TestContext, shop: Workshop, pebble: Pebble, options: StartOptions = {}): Promise<TestProgram> {
  const { domains = DOMAINS, stateDir = shop.stateDir, more = [] } = options;
  const args = ['--runtime', 'process', '--workers', '2', ...acmeOptions(pebble, domains), ...more];
  return startProgram(t, {
    args: [...args, shop.bucket, shop.prefix, 'shop'],
    stateDir,
    env: acmeEnvironment(pebble),
  });
}

type SetUpOptions = Partial<PebbleOptions> & StartOptions & { choose?: ChallengeRelay['choose'] };

/** An authority whose questions reach the program, or whatever `choose` names. */
async function setUp(t: TestContext, options: SetUpOptions = {}) {
  const shop = workshop(t);
  const relay = await ChallengeRelay.start(t);
  const pebble = await Pebble.start(t, { httpPort: relay.port, ...options });
  const proxy = Promise.withResolvers<string>();
  relay.choose = options.choose ?? (async () => proxy.promise);
  const program = await start(t, shop, pebble, options);
  proxy.resolve(program.proxy);
  return { shop, relay, pebble, program };
}

/** What a client gets who trusts the authority alone. */
async function getSecurely(program: TestProgram, ca: string, agent: Agent | false = false): Promise<IncomingMessage> {
  const asked = request({
    ...connectionTo(tlsAddressOf(program)),
    servername: 'www.shop.example.com',
    headers: { host: 'www.shop.example.com' },
    ca,
    path: '/',
    agent,
  }).end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  response.resume();
  await once(response, 'end');
  return response;
}

/** The serial number that clients are shown once it is another than `before`. */
async function serialAfter(program: TestProgram, ca: string, before = ''): Promise<string> {
  const show = async () => certificateShown(tlsAddressOf(program), 'shop.example.com', ca).catch(() => null);
  return (await until(show, (shown) => shown !== null && shown.serialNumber !== before))?.serialNumber ?? '';
}

const isOk = ({ State }: { State: string }) => State === 'ok';

test('from nothing to an answer over HTTPS that the authority vouches for', async (t) => {
  const { shop, pebble, program } = await setUp(t, { badNonces: 30 });
  await deploy(program, shop.config('v1'));
  const { NotAfter } = await untilAcme(program, isOk);
  assert.ok(NotAfter !== null);

  const ca = await pebble.root();
  await serialAfter(program, ca);
  assert.equal((await getSecurely(program, ca)).statusCode, 200);
  const shown = await certificateShown(tlsAddressOf(program), 'shop.example.com', ca);
  assert.equal(shown.asn1Curve, 'prime256v1');
  assert.equal(new Date(shown.valid_to).toISOString(), NotAfter);

  assert.equal((await acmeStatus(program)).LastError, null);
  assert.deepEqual(storedObject(shop.environment, 'challenges.json'), {});
  // Given back as soon as everything else is done.
  await until(
    () => Promise.resolve(storedObject<{ Holder: string | null }>(shop.environment, 'lease.json')),
    ({ Holder }) => Holder === null,
  );
  assert.doesNotMatch(JSON.stringify(program.log), /PRIVATE KEY/);
  assert.doesNotMatch((await program.call('GET', '/status')).text, /PRIVATE KEY/);
});

test('a renewal reaches new connections and leaves the old ones alone', async (t) => {
  const { shop, pebble, program } = await setUp(t, { validity: 15 });
  await deploy(program, shop.config('v1'));
  await untilAcme(program, isOk);
  const ca = await pebble.root();
  const first = await serialAfter(program, ca);
  const { Key } = certificateObject(shop);
  const kept = new Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => kept.destroy());
  const { socket } = await getSecurely(program, ca, kept);

  const second = await serialAfter(program, ca, first);
  assert.notEqual(second, first);
  assert.equal((await getSecurely(program, ca, kept)).socket, socket, 'the same connection goes on');
  assert.notEqual(certificateObject(shop).Key, Key, 'each order has a key of its own');
});

function certificateObject(shop: Workshop): { Key: string; Domains: string[] } {
  const [name = ''] = readdirSync(join(shop.environment, 'acme/certificates'));
  return storedObject(shop.environment, `certificates/${name}`);
}

/** Nobody orders until it is given back. */
async function holdLease(t: TestContext, shop: Workshop): Promise<HeldLease> {
  const store = await openForTest(t, {
    bucket: shop.bucket,
    prefix: shop.prefix,
    s3Endpoint: null,
    s3PathStyle: false,
  });
  return (await new AcmeLease(store, 'the test', memoryLog().log).acquire()) ?? assert.fail();
}

test('of two machines one orders, the other one answers the authority, and both serve the certificate', async (t) => {
  const shop = workshop(t);
  const relay = await ChallengeRelay.start(t);
  const pebble = await Pebble.start(t, { httpPort: relay.port, reused: 0 });
  const lease = await holdLease(t, shop);
  const first = await start(t, shop, pebble);
  const second = await start(t, shop, pebble, { stateDir: join(shop.stateDir, '../second') });
  for (const each of [first, second]) await untilAcme(each, ({ State }) => State === 'waiting');
  relay.choose = () => {
    const { Holder } = storedObject<{ Holder: string }>(shop.environment, 'lease.json');
    return Holder.includes(` ${first.pid} `) ? second.proxy : first.proxy;
  };
  await lease.release();

  await Promise.all([untilAcme(first, isOk), untilAcme(second, isOk)]);
  const ca = await pebble.root();
  assert.equal(await serialAfter(first, ca), await serialAfter(second, ca));
  assert.ok(relay.asked.length >= 2, 'each name was asked for');
  const orders = [...first.log, ...second.log].filter(({ msg }) => msg === 'ordering a certificate');
  assert.equal(orders.length, 1);
});

test('without a certificate plain HTTP is served, and why there is none is told in the words of the authority', async (t) => {
  const choose = () => Promise.reject(new Error('nobody is there'));
  const { shop, relay, program } = await setUp(t, { choose });
  await deploy(program, shop.config('v1'));
  const { State, LastError, NextTry, LastTry, NotAfter } = await untilAcme(program, (seen) => seen.State === 'failed');
  assert.deepEqual([State, NotAfter], ['failed', null]);
  assert.match(LastError ?? '', /^(connection|unauthorized): ./);
  const wait = Date.parse(NextTry ?? '') - Date.parse(LastTry ?? '');
  assert.ok(wait > 60_000 && wait < 10 * 60_000, `the next try comes ${wait} ms after the last`);
  const line = await program.waitForLog(({ msg }) => msg?.startsWith('no certificate by ACME') ?? false);
  assert.deepEqual([line.level, line['why']], ['error', LastError]);
  assert.equal(await versionServed(program), 'v1');
  await assert.rejects(certificateShown(tlsAddressOf(program), 'shop.example.com', ''));

  relay.choose = () => program.proxy;
  program.signal('SIGHUP');
  await untilAcme(program, isOk);
  assert.equal((await acmeStatus(program)).LastError, null);
  const { text: metrics } = await program.call('GET', '/metrics');
  for (const outcome of ['ok', 'failed'])
    assert.match(metrics, new RegExp(`acme_orders_total{outcome="${outcome}"} 1`));
  await until(
    async () => (await program.get('/', { headers: { host: 'shop.example.com' } })).status,
    (status) => status === 308,
  );
});

test('a renewal that fails is told, and what is served stays', async (t) => {
  const { shop, pebble, program } = await setUp(t, { validity: 30 });
  await deploy(program, shop.config('v1'));
  await untilAcme(program, isOk);
  const ca = await pebble.root();
  const serial = await serialAfter(program, ca);
  await pebble.stop();
  const { LastError, NotAfter } = await untilAcme(program, ({ State }) => State === 'failed', 40_000);
  assert.match(LastError ?? '', /can not be used/);
  assert.ok(Date.parse(NotAfter ?? '') > Date.now(), 'it is told before the end');
  assert.equal(await serialAfter(program, ca), serial);
  assert.equal((await getSecurely(program, ca)).statusCode, 200);
});

test('a manager that is killed while it orders has a successor that orders at once', async (t) => {
  const asked = Promise.withResolvers<void>();
  const proxy = Promise.withResolvers<string>();
  const choose = async () => {
    asked.resolve();
    return proxy.promise;
  };
  const { pebble, program } = await setUp(t, { reused: 0, choose });
  await asked.promise;
  const [manager = 0] = program.pids('manager');
  process.kill(manager, 'SIGKILL');
  await program.waitForLog(({ msg }) => msg?.startsWith('manager died') ?? false);
  proxy.resolve(program.proxy);
  // Sooner than the minute after which another machine would take its place.
  await untilAcme(program, isOk);
  await serialAfter(program, await pebble.root());
});

test('a start serves the certificate of the store, or the copy in the state folder when the store has lost it', async (t) => {
  const { shop, pebble, program } = await setUp(t);
  await untilAcme(program, isOk);
  const ca = await pebble.root();
  const serial = await serialAfter(program, ca);
  await program.stop();
  await pebble.stop();

  const elsewhere = await start(t, shop, pebble, { stateDir: join(shop.stateDir, '../second') });
  assert.equal(await serialAfter(elsewhere, ca), serial);
  await elsewhere.stop();

  rmSync(join(shop.environment, 'acme/certificates'), { recursive: true });
  const again = await start(t, shop, pebble);
  assert.equal(await serialAfter(again, ca), serial);
  await untilAcme(again, ({ State }) => State === 'failed');
});

test('with other names the old certificate stays in service until there is a new one', async (t) => {
  const { shop, relay, pebble, program } = await setUp(t);
  await untilAcme(program, isOk);
  const ca = await pebble.root();
  const serial = await serialAfter(program, ca);
  await program.stop();

  const lease = await holdLease(t, shop);
  const second = await start(t, shop, pebble, { domains: 'new.example.com,shop.example.com' });
  relay.choose = () => second.proxy;
  assert.equal(await serialAfter(second, ca), serial);
  await lease.release();
  await untilAcme(second, isOk);
  await serialAfter(second, ca, serial);
  const shown = await certificateShown(tlsAddressOf(second), 'new.example.com', ca);
  assert.match(shown.subjectaltname ?? '', /new\.example\.com/);
});

test('certificates of files go on beside the one by ACME, and are what unknown names get', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'certificates-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const own = issue({ names: ['files.example.com'] });
  const { pebble, program } = await setUp(t, { more: writePair(folder, 'files', own) });
  await untilAcme(program, isOk);
  const ca = await pebble.root();
  await serialAfter(program, ca);
  const address = tlsAddressOf(program);
  assert.equal((await certificateShown(address, 'files.example.com', own.cert)).subject.CN, 'files.example.com');
  await assert.rejects(certificateShown(address, 'unknown.example.com', own.cert), {
    code: 'ERR_TLS_CERT_ALTNAME_INVALID',
  });
  const { Certificates } = (await program.call('GET', '/status')).json<{ Certificates: { Source: string }[] }>();
  assert.deepEqual(
    Certificates.map(({ Source }) => Source),
    [join(folder, 'files.crt'), 'acme'],
  );
});
