import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { test, type TestContext } from 'node:test';
import {
  acmeEnvironment,
  acmeOptions,
  acmeStatus,
  certificateShown,
  storedObject,
  tlsAddressOf,
  untilAcme,
} from '../support/acme.ts';
import { workshop, type Workshop } from '../support/deployable.ts';
import { deploy } from '../support/deployments.ts';
import { freePort } from '../support/free-port.ts';
import { connectionTo } from '../support/http.ts';
import { Pebble, type PebbleOptions } from '../support/pebble.ts';
import { startProgram, type TestProgram } from '../support/program.ts';

const DOMAINS = 'shop.example.com,www.shop.example.com';

async function start(t: TestContext, shop: Workshop, pebble: Pebble, port: number): Promise<TestProgram> {
  const args = ['--runtime', 'process', '--workers', '2', '--proxy', `127.0.0.1:${port}`];
  return startProgram(t, {
    args: [...args, ...acmeOptions(pebble, DOMAINS), shop.bucket, shop.prefix, 'shop'],
    stateDir: shop.stateDir,
    env: acmeEnvironment(pebble),
  });
}

async function setUp(t: TestContext, options: Partial<PebbleOptions> = {}) {
  const shop = workshop(t);
  const port = await freePort();
  const pebble = await Pebble.start(t, { httpPort: port, ...options });
  const program = await start(t, shop, pebble, port);
  return { shop, port, pebble, program };
}

test('from nothing to an answer over HTTPS that the authority vouches for', async (t) => {
  const { shop, pebble, program } = await setUp(t, { badNonces: 30 });
  await deploy(program, shop.config('v1'));
  const { NotAfter } = await untilAcme(program, ({ State }) => State === 'ok');
  assert.ok(NotAfter !== null);

  const asked = request({
    ...connectionTo(tlsAddressOf(program)),
    servername: 'www.shop.example.com',
    headers: { host: 'www.shop.example.com' },
    ca: await pebble.root(),
    path: '/',
    agent: false,
  }).end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  assert.equal(response.statusCode, 200);
  assert.equal(
    (JSON.parse(Buffer.concat((await response.toArray()) as Buffer[]).toString()) as { version: string }).version,
    'v1',
  );

  const shown = await certificateShown(tlsAddressOf(program), 'shop.example.com', await pebble.root());
  assert.equal(shown.asn1Curve, 'prime256v1');
  assert.equal(new Date(shown.valid_to).toISOString(), NotAfter);
  assert.deepEqual(storedObject(shop.environment, 'challenges.json'), {});
  assert.equal(storedObject<{ Holder: string | null }>(shop.environment, 'lease.json').Holder, null);
  assert.doesNotMatch(JSON.stringify(program.log), /PRIVATE KEY/);
  assert.doesNotMatch((await program.call('GET', '/status')).text, /PRIVATE KEY/);
  assert.equal((await acmeStatus(program)).LastError, null);
});
