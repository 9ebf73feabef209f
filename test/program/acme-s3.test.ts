import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import {
  acmeEnvironment,
  acmeOptions,
  certificateShown,
  ChallengeRelay,
  tlsAddressOf,
  untilAcme,
} from '../support/acme.ts';
import { until } from '../support/deployments.ts';
import { Pebble } from '../support/pebble.ts';
import { endPrograms, startProgram } from '../support/program.ts';
import { s3ForTest } from '../support/s3.ts';
import { Tap } from '../support/tap.ts';

const NAME = 'shop.example.com';

const isOk = ({ State }: { State: string }) => State === 'ok';

/** A program whose store is in an S3 behind a tap. `start` starts another one. */
async function setUp(t: TestContext) {
  const stateDir = mkdtempSync(join(tmpdir(), 'state-'));
  t.after(async () => {
    await endPrograms(t);
    rmSync(stateDir, { recursive: true, force: true });
  });
  const { endpoint, bucket, env } = await s3ForTest(t);
  const tap = await Tap.start(t, { url: endpoint });
  const relay = await ChallengeRelay.start(t);
  const pebble = await Pebble.start(t, { httpPort: relay.port });
  const options = ['--runtime', 'process', '--workers', '1', '--s3-endpoint', tap.url, '--s3-path-style'];
  const start = async () =>
    startProgram(t, {
      args: [...options, ...acmeOptions(pebble, NAME), bucket, 'production', 'shop'],
      env: { ...env, ...acmeEnvironment(pebble) },
      stateDir,
    });
  return { tap, relay, pebble, stateDir, start };
}

test('with the store in S3: a certificate, and a start from its copy while S3 is down', async (t) => {
  const { tap, relay, pebble, stateDir, start } = await setUp(t);
  const address = Promise.withResolvers<string>();
  relay.choose = async () => address.promise;
  const first = await start();
  address.resolve(first.proxy);
  await untilAcme(first, isOk);
  const ca = await pebble.root();
  const show = async (at: string) => certificateShown(at, NAME, ca).catch(() => null);
  const shown = await until(
    async () => show(tlsAddressOf(first)),
    (seen) => seen !== null,
  );
  await first.stop();
  const folder = readdirSync(stateDir).find((name) => name.startsWith('shop-')) ?? '';
  const copy = statSync(join(stateDir, folder, 'acme-certificate.json'));
  assert.equal(copy.mode & 0o777, 0o600);

  tap.cut();
  const second = await start();
  assert.equal((await certificateShown(tlsAddressOf(second), NAME, ca)).serialNumber, shown?.serialNumber);
});

test('a store that is down when the certificate comes does not cost a second order', async (t) => {
  const { tap, relay, pebble, start } = await setUp(t);
  const address = Promise.withResolvers<string>();
  relay.choose = async () => address.promise;
  let refused = false;
  tap.before = ({ method, path }) => {
    if (refused || method !== 'PUT' || !path.includes('/acme/certificates/')) return;
    refused = true;
    tap.answer(503);
  };
  const program = await start();
  address.resolve(program.proxy);
  await program.waitForLog(({ msg }) => msg?.startsWith('the new certificate can not be stored') ?? false);
  await tap.restore();
  await untilAcme(program, isOk);
  assert.equal(program.log.filter(({ msg }) => msg === 'ordering a certificate').length, 1);
  const ca = await pebble.root();
  await until(
    async () => certificateShown(tlsAddressOf(program), NAME, ca).catch(() => null),
    (seen) => seen !== null,
  );
});
