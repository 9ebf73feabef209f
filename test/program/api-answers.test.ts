import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { type Workshop, workshop } from '../support/deployable.ts';
import { deploy, statusOf, until } from '../support/deployments.ts';
import { startProgram, type TestProgram } from '../support/program.ts';

async function setUp(t: TestContext, args: string[] = []): Promise<{ shop: Workshop; program: TestProgram }> {
  const shop = workshop(t);
  const program = await startProgram(t, {
    args: ['--runtime', 'process', '--workers', '1', ...args, shop.bucket, shop.prefix, 'shop'],
    stateDir: shop.stateDir,
  });
  return { shop, program };
}

test('a call with the wrong method is told the right one, in Allow as well', async (t) => {
  const { program } = await setUp(t);
  const launch = await program.call('GET', '/launch');
  assert.equal(launch.status, 405);
  assert.equal(launch.headers['allow'], 'POST');
  assert.equal(launch.text, '/launch takes POST, not GET.\n');
  const status = await program.call('POST', '/status');
  assert.equal(status.headers['allow'], 'HEAD, GET');
  const lock = await program.call('PUT', '/lock');
  assert.deepEqual(lock.headers['allow']?.toString().split(', ').toSorted(), ['DELETE', 'GET', 'HEAD', 'POST']);
});

test('who waits for what there is not is refused before anything is switched', async (t) => {
  const { shop, program } = await setUp(t);
  const [one, two] = [shop.config('v1'), shop.config('v2')];
  await deploy(program, one);
  await program.call('POST', '/launch', two);
  for (const path of ['/switch?wait=drain', '/switch?wait', '/rollback?wait=true']) {
    const answer = await program.call('POST', path, two);
    assert.equal(answer.status, 400, path);
    assert.match(answer.text, /^wait: .*drained/);
  }
  assert.equal((await statusOf(program)).Active?.Hash, one);
});

test('a launch config that is missing is missing in a store that is named, under its whole key', async (t) => {
  const { shop, program } = await setUp(t);
  const missing = 'd41d8cd98f00b204e9800998ecf8427e';
  const answer = await program.call('POST', '/launch', missing);
  assert.equal(answer.text, `There is no container.${missing}.json in ${shop.bucket}/${shop.prefix}.\n`);
});

test('a body that is too large is told how large it may be', async (t) => {
  const { program } = await setUp(t);
  assert.match((await program.call('POST', '/launch', 'x'.repeat(5_000))).text, /larger than 4096 bytes/);
  assert.match((await program.call('POST', '/configs', 'x'.repeat(1_100_000))).text, /larger than 1048576 bytes/);
});

test('a missing token and a wrong one are told apart, and the log says who came without', async (t) => {
  const shop = workshop(t);
  const file = join(shop.environment, 'token');
  writeFileSync(file, 'first-secret\n');
  const program = await startProgram(t, {
    args: ['--runtime', 'process', '--api-token-file', file, shop.bucket, shop.prefix, 'shop'],
    stateDir: shop.stateDir,
  });
  const as = async (token: string) => program.call('GET', '/healthz', '', { authorization: `Bearer ${token}` });
  assert.match((await program.call('GET', '/status')).text, /^This needs the token/);
  assert.match((await as('other-secret')).text, /^The token is wrong/);
  const refused = program.log.filter(({ msg }) => msg === 'request refused');
  assert.deepEqual(
    refused.map((line) => [line['client'], line['code']]),
    [
      ['127.0.0.1', 'unauthorized'],
      ['127.0.0.1', 'unauthorized'],
    ],
  );

  // A token file that is being changed, or was spoilt, does not lock everybody out, and is named.
  for (const text of ['', 'two secret-words\n']) {
    writeFileSync(file, text);
    const before = program.log.length;
    program.signal('SIGHUP');
    await until(
      async () => Promise.resolve(program.log.slice(before)),
      (lines) => lines.some(({ option }) => option === `--api-token-file ${file}`),
    );
    assert.equal((await as('first-secret')).status, 200);
  }
  writeFileSync(file, 'second-secret\n');
  program.signal('SIGHUP');
  await until(
    async () => as('second-secret'),
    ({ status }) => status === 200,
  );
  assert.equal(JSON.stringify(program.log).includes('-secret'), false);
  assert.equal(JSON.stringify(program.log).includes('secret-words'), false);
});
