import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import type { JournalEntry } from '../../src/manager/journal.ts';
import { processConfig, type Workshop, workshop } from '../support/deployable.ts';
import { deploy, statusOf, until } from '../support/deployments.ts';
import { connectionTo } from '../support/http.ts';
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
      (lines) => lines.some(({ option }) => option === '--api-token-file'),
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

test('a start that can not launch what the store names says why, until it can', async (t) => {
  const shop = workshop(t);
  const path = join(shop.environment, 'lasting-failure');
  writeFileSync(path, '');
  // Healthy once the file is gone.
  const script = `test ! -e ${path} || exit 3; exec "$0" "$1"`;
  const { ContainerConfig } = JSON.parse(processConfig('v1').bytes.toString()) as {
    ContainerConfig: { Cmd: string[] };
  };
  const [node = '', app = ''] = ContainerConfig.Cmd;
  shop.write(
    'current.json',
    JSON.stringify({
      ContainerConfig: { Cmd: ['/bin/sh', '-c', script, node, app], Env: ['VERSION=v1', 'HOST=127.0.0.1'] },
      HealthCheckPath: '/up',
      Revision: 'v1',
    }),
  );
  const program = await startProgram(t, {
    args: ['--runtime', 'process', '--workers', '1', shop.bucket, shop.prefix, 'shop'],
    stateDir: shop.stateDir,
  });
  const { text } = await until(
    async () => program.call('GET', '/'),
    (answer) => answer.text.includes('Nothing is in service'),
  );
  assert.match(text, /clients get 503\. What the store names can not be launched, .* exited with status 3/);
  rmSync(path);
  await until(
    async () => program.get('/'),
    ({ status }) => status === 200,
  );
  const status = (await program.call('GET', '/status?keys=StartProblem')).json<{ StartProblem: string | null }>();
  assert.equal(status.StartProblem, null);
});

test('a switch to what is in service already is told from one that changes something', async (t) => {
  const { shop, program } = await setUp(t);
  const hash = shop.config('v1');
  await deploy(program, hash);
  await program.call('POST', '/switch', hash);
  const journal = (await program.call('GET', '/journal')).json<JournalEntry[]>();
  assert.deepEqual(
    journal.filter(({ Event }) => Event === 'switch').map(({ Message }) => Message),
    ['', 'it was in service already'],
  );
});

test('what the health check answered stands in the text with its times', async (t) => {
  const { shop, program } = await setUp(t, ['--launch-timeout', '3s']);
  const answer = await program.call('POST', '/launch', shop.config('v1', { env: { NEVER_LISTENS: '1' } }));
  const time = '\\d{4}-\\d\\d-\\d\\dT[\\d:.]+Z';
  assert.match(
    answer.text,
    new RegExp(`\nProbes:\n  \\d+× connection refused, (?:at ${time}|from ${time} to ${time})\n`),
  );
});

test('who deploys may have any name', async (t) => {
  const { shop, program } = await setUp(t);
  const hash = shop.config('v1');
  await program.call('POST', '/launch', hash);
  const latin1 = 'Jörg';
  const utf8 = Buffer.from('Jörg Żółty').toString('latin1');
  for (const [sent, seen] of [
    [utf8, 'Jörg Żółty'],
    [latin1, 'Jörg'],
    ['ops', 'ops'],
  ] as const) {
    // Byte for byte: Node's own client writes UTF-8 whatever it is given.
    const socket = connect(connectionTo(program.api) as { host: string; port: number });
    const head = `POST /switch HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: ${hash.length}`;
    socket.write(Buffer.from(`${head}\r\nX-Deployed-By: ${sent}\r\n\r\n${hash}`, 'latin1'));
    assert.match(Buffer.concat((await socket.toArray()) as Buffer[]).toString(), /^HTTP\/1\.1 200 /);
    const journal = (await program.call('GET', '/journal')).json<JournalEntry[]>();
    assert.equal(journal.at(-1)?.By, seen);
  }
});

test('what is asked of a log and not understood is named', async (t) => {
  const { shop, program } = await setUp(t);
  await deploy(program, shop.config('v1'));
  for (const [query, message] of [
    ['tail=many', /^tail: /],
    ['follow=maybe', /^follow: /],
    ['hash=v1', /^hash: .*32 \(MD5\) or 64 \(SHA-256\) hex digits/],
  ] as const) {
    const answer = await program.call('GET', `/logs?${query}`);
    assert.equal(answer.status, 400, query);
    assert.match(answer.text, message);
  }
});
