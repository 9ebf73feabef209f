import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { workshop, type Workshop } from '../support/deployable.ts';
import { startProgram, type TestProgram } from '../support/program.ts';
import type { JournalEntry } from '../../src/manager/journal.ts';
import { codeOf, deploy, statusOf, until, untilInFlight, versionServed } from '../support/deployments.ts';

async function start(t: TestContext, shop: Workshop, args: string[] = []): Promise<TestProgram> {
  return startProgram(t, {
    args: ['--runtime', 'process', '--workers', '2', ...args, shop.bucket, shop.prefix, 'shop'],
    stateDir: shop.stateDir,
  });
}

async function setUp(t: TestContext, args: string[] = []): Promise<{ shop: Workshop; program: TestProgram }> {
  const shop = workshop(t);
  return { shop, program: await start(t, shop, args) };
}

test("the original's deploy script works: two calls without a content type, two lines of text", async (t) => {
  const { shop, program } = await setUp(t);
  const hash = shop.config('v1');

  const before = await program.get('/');
  assert.equal(before.status, 503);
  assert.ok(before.headers['retry-after']);

  const launched = await program.call('POST', '/launch', hash);
  assert.equal(launched.status, 200, launched.text);
  const started = /^started container ([0-9a-f]{8}) with revision ([0-9a-f]{8}) listening on port (\d+)\n$/.exec(
    launched.text,
  );
  assert.ok(started, launched.text);
  assert.equal(started[2], hash.slice(0, 8));

  const switched = await program.call('POST', '/switch', `${hash}\n`);
  assert.equal(switched.status, 200);
  assert.equal(switched.text, `switched proxy to port ${started[3]} of container ${started[1]}\n`);
  assert.equal(await versionServed(program), 'v1');
});

test('a switch writes current.json byte for byte, the history and the journal', async (t) => {
  const { shop, program } = await setUp(t);
  const hash = shop.config('v1', { algorithm: 'sha256' });
  await program.call('POST', '/launch', JSON.stringify({ Hash: hash }), { 'x-deployed-by': 'ops' });
  const switched = await program.call('POST', '/switch', JSON.stringify({ Hash: hash }), { 'x-deployed-by': 'ops' });
  assert.equal(switched.status, 200, switched.text);

  const stored = readFileSync(join(shop.environment, `container.${hash}.json`));
  assert.deepEqual(readFileSync(join(shop.environment, 'current.json')), stored);
  const history = JSON.parse(readFileSync(join(shop.environment, 'history.json'), 'utf8')) as Record<string, string>[];
  assert.deepEqual(
    history.map((each) => [each['Revision'], each['DeployedBy'], each['Hash']]),
    [['v1', 'ops', hash]],
  );
  const journal = JSON.parse((await program.call('GET', '/journal')).text) as {
    Event: string;
    By: string;
    Outcome: string;
  }[];
  assert.deepEqual(
    journal.map(({ Event, By, Outcome }) => [Event, By, Outcome]),
    [
      ['launch', 'ops', 'ok'],
      ['switch', 'ops', 'ok'],
    ],
  );
});

test('the old container finishes what it does, is stopped and removed; wait=drained waits for that', async (t) => {
  const { shop, program } = await setUp(t);
  const [one, two] = [shop.config('v1'), shop.config('v2')];
  await deploy(program, one);
  const slow = program.get('/slow?ms=1500');
  await untilInFlight(program, 1);

  await program.call('POST', '/launch', two);
  const switching = program.call('POST', '/switch?wait=drained', two);
  assert.equal((JSON.parse((await slow).text) as { version: string }).version, 'v1');
  assert.equal((await switching).status, 200);
  const { Containers } = await statusOf(program);
  assert.deepEqual(
    Containers.map((each) => [each.Revision, each.State]),
    [['v2', 'active']],
  );
});

test('what does not finish by the drain timeout is broken off with 504 drain_timeout', async (t) => {
  const { shop, program } = await setUp(t, ['--drain-timeout', '500ms']);
  const [one, two] = [shop.config('v1'), shop.config('v2')];
  await deploy(program, one);
  const stuck = program.get('/slow?ms=60000');
  await untilInFlight(program, 1);
  await program.call('POST', '/launch', two);
  await program.call('POST', '/switch?wait=drained', two);
  const answer = await stuck;
  assert.equal(answer.status, 504);
  assert.equal(answer.headers['wunderproxy-error'], 'drain_timeout');
  const drained = (await program.call('GET', '/journal')).json<JournalEntry[]>().find(({ Event }) => Event === 'drain');
  assert.match(drained?.Message ?? '', /^broken off after \d+\.\ds: requests in flight 1, tunnels 0$/);
  assert.equal((await statusOf(program)).Containers.length, 1);
});

test('launching and switching in any order never stops the container in service', async (t) => {
  const { shop, program } = await setUp(t);
  const [one, two] = [shop.config('v1'), shop.config('v2')];
  await program.call('POST', '/launch', one);
  await program.call('POST', '/launch', two);
  await program.call('POST', '/switch', two);
  assert.equal(await versionServed(program), 'v2');
  assert.deepEqual(
    (await statusOf(program)).Containers.map((each) => [each.Revision, each.State]),
    [
      ['v1', 'ready'],
      ['v2', 'active'],
    ],
  );
  assert.equal((await program.call('POST', '/switch', one)).status, 200);
  assert.equal(await versionServed(program), 'v1');
  const again = await program.call('POST', '/switch', one);
  assert.equal(again.status, 200, 'a switch to what is in service changes nothing');
});

test('a container that drains can be launched and switched back to', async (t) => {
  const { shop, program } = await setUp(t);
  const [one, two] = [shop.config('v1'), shop.config('v2')];
  await deploy(program, one);
  const { Active } = await statusOf(program);
  const slow = program.get('/slow?ms=8000');
  await untilInFlight(program, 1);
  await deploy(program, two);
  assert.equal((await program.call('POST', '/switch', one)).status, 200);
  assert.equal((await statusOf(program)).Active?.Id, Active?.Id);
  assert.equal((await slow).status, 200);
  assert.equal(await versionServed(program), 'v1');
});

test('a second launch of a hash joins the first, and a launch of what runs answers with it', async (t) => {
  const { shop, program } = await setUp(t);
  const hash = shop.config('v1', { env: { START_DELAY: '700' } });
  const answers = await Promise.all([1, 2, 3].map(async () => program.call('POST', '/launch', hash)));
  answers.push(await program.call('POST', '/launch', hash.toUpperCase()));
  assert.deepEqual(new Set(answers.map((answer) => answer.text)).size, 1);
  assert.equal((await statusOf(program)).Containers.length, 1);
});

test('ForceReload creates anew what already runs', async (t) => {
  const { shop, program } = await setUp(t);
  const hash = shop.config('v1', { more: { ForceReload: true } });
  const first = await program.call('POST', '/launch', hash);
  const second = await program.call('POST', '/launch', hash);
  assert.equal(second.status, 200);
  assert.notEqual(first.text, second.text);
  assert.equal((await statusOf(program)).Containers.length, 1, 'the one that waited is gone');
});

test('two switches at once go one after the other', async (t) => {
  const { shop, program } = await setUp(t);
  const hashes = [shop.config('v1'), shop.config('v2')];
  for (const hash of hashes) await program.call('POST', '/launch', hash);
  const answers = await Promise.all(hashes.map(async (hash) => program.call('POST', '/switch', hash)));
  assert.deepEqual(
    answers.map((answer) => answer.status),
    [200, 200],
  );
  const { Active, History } = await statusOf(program);
  assert.equal(Active?.Hash, History.at(-1)?.Hash);
  assert.equal(History.length, 2);
});

test('rollback goes to the deployment before, or to a named one, and cuts the history', async (t) => {
  const { shop, program } = await setUp(t);
  const hashes = [shop.config('v1'), shop.config('v2'), shop.config('v3')];
  for (const hash of hashes) await deploy(program, hash);
  assert.equal((await program.call('POST', '/rollback', '')).status, 200);
  assert.equal(await versionServed(program), 'v2');
  assert.equal((await program.call('POST', '/rollback', hashes[0])).status, 200);
  assert.equal(await versionServed(program), 'v1');
  const history = JSON.parse((await program.call('GET', '/history')).text) as { Revision: string }[];
  assert.deepEqual(
    history.map((each) => each.Revision),
    ['v1'],
  );
  assert.deepEqual(await codeOf(program, 'POST', '/rollback'), [409, 'empty_history']);
  assert.deepEqual(await codeOf(program, 'POST', '/rollback', hashes[2]), [409, 'not_in_history']);
});

test('what was deployed by its SHA-256 is rolled back from after a restart, too', async (t) => {
  const shop = workshop(t);
  const program = await start(t, shop);
  await deploy(program, shop.config('v1'));
  const hash = shop.config('v2', { algorithm: 'sha256' });
  await deploy(program, hash);
  assert.equal((await program.stop()).code, 0);
  const next = await start(t, shop);
  await until(
    async () => statusOf(next),
    ({ Active }) => Active?.State === 'active',
  );
  assert.equal((await statusOf(next)).Active?.Hash, hash);
  assert.equal((await next.call('POST', '/rollback')).status, 200);
  assert.equal(await versionServed(next), 'v1');
});

test('stop-old leaves the container in service alone', async (t) => {
  const { shop, program } = await setUp(t);
  const [one, two] = [shop.config('v1'), shop.config('v2')];
  await deploy(program, one);
  await program.call('POST', '/launch', two);
  const { Containers } = await statusOf(program);
  const waiting = Containers.find((each) => each.Revision === 'v2');
  const stopped = await program.call('POST', '/stop-old', '', { accept: 'application/json' });
  assert.deepEqual((JSON.parse(stopped.text) as { Stopped: string[] }).Stopped, [waiting?.Id]);
  assert.equal(await versionServed(program), 'v1');
  assert.deepEqual(await codeOf(program, 'POST', '/switch', two), [409, 'not_launched']);
});

test('stop-old with a hash leaves other containers that wait', async (t) => {
  const { shop, program } = await setUp(t);
  const [one, two, three] = [shop.config('v1'), shop.config('v2'), shop.config('v3')];
  await deploy(program, one);
  for (const hash of [two, three]) await program.call('POST', '/launch', hash);
  assert.match((await program.call('POST', '/stop-old', two)).text, /^stopped [0-9a-f]{8}\n$/);
  assert.equal((await program.call('POST', '/stop-old', one)).text, 'no old containers to stop\n');
  assert.deepEqual(
    (await statusOf(program)).Containers.map(({ Revision, State }) => [Revision, State]),
    [
      ['v1', 'active'],
      ['v3', 'ready'],
    ],
  );
  assert.deepEqual(await codeOf(program, 'POST', '/stop-old', 'v3'), [400, 'bad_identifier']);
});

test('what is wrong with a call is said by code, and nothing is left behind', async (t) => {
  const { shop, program } = await setUp(t);
  const missing = 'd41d8cd98f00b204e9800998ecf8427e';
  const changed = shop.config('v1');
  writeFileSync(join(shop.environment, `container.${changed}.json`), '{}');
  const unknownKey = shop.config('v2', { more: { Colour: 'blue' } });

  assert.deepEqual(await codeOf(program, 'POST', '/launch', 'v1'), [400, 'bad_identifier']);
  assert.deepEqual(await codeOf(program, 'POST', '/launch', ''), [400, 'bad_identifier']);
  assert.deepEqual(await codeOf(program, 'POST', '/launch', '{"Hash":7}'), [400, 'bad_identifier']);
  assert.deepEqual(await codeOf(program, 'POST', '/launch', 'x'.repeat(100_000)), [413, 'request_too_large']);
  assert.deepEqual(await codeOf(program, 'POST', '/launch', missing), [404, 'launch_config_not_found']);
  assert.deepEqual(await codeOf(program, 'POST', '/launch', changed), [422, 'hash_mismatch']);
  assert.deepEqual(await codeOf(program, 'POST', '/launch', unknownKey), [422, 'invalid_launch_config']);
  assert.deepEqual(await codeOf(program, 'POST', '/switch', missing), [409, 'not_launched']);
  assert.deepEqual(await codeOf(program, 'GET', '/launch'), [405, 'api_method_not_allowed']);
  assert.deepEqual(await codeOf(program, 'GET', '/nothing'), [404, 'not_found']);
  const nothingToRun = shop.config('v4', { more: { ContainerConfig: { Cmd: ['/does/not/exist'] } } });
  assert.deepEqual(await codeOf(program, 'POST', '/launch', nothingToRun), [502, 'launch_failed']);
  assert.deepEqual((await statusOf(program)).Containers, []);
});

const unhealthy: [string, Record<string, string>, RegExp][] = [
  ['exits', { EXIT_CODE: '3' }, /exited with status 3/],
  ['answers 500', { HEALTH_STATUS: '500' }, /500 Internal Server Error/],
  [
    'redirects',
    { HEALTH_STATUS: '301', HEALTH_LOCATION: 'https://shop.example/up' },
    /301 Moved Permanently to https:\/\/shop\.example\/up/,
  ],
  ['never listens', { NEVER_LISTENS: '1' }, /connection refused/],
  ['never answers', { HEALTH_DELAY: '60000' }, /not healthy within 10s/],
];

// Side by side: each waits for the whole launch timeout, which is long enough for a busy machine.
describe('a launch that fails', { concurrency: true }, () => {
  for (const [what, env, expected] of unhealthy) {
    test(`an application that ${what} fails its launch with the reasons, and is gone`, async (t) => {
      const { shop, program } = await setUp(t, ['--launch-timeout', '10s']);
      const hash = shop.config('v1', { env });
      const answer = await program.call('POST', '/launch', hash, { accept: 'application/json' });
      assert.equal(answer.status, 504);
      const { Error: error } = JSON.parse(answer.text) as {
        Error: {
          Code: string;
          Message: string;
          Detail: { Probes: { Result: string; FirstAt: string }[]; Logs: string[] };
        };
      };
      assert.equal(error.Code, 'not_healthy');
      assert.match(error.Message, expected);
      for (const probe of error.Detail.Probes) assert.ok(Date.parse(probe.FirstAt) > 0);
      if (env['EXIT_CODE']) assert.match(error.Detail.Logs.join('\n'), /exiting with status 3/);
      assert.deepEqual((await statusOf(program)).Containers, []);
    });
  }
});

test('a container that ends in service is told in the journal with its last words, and counts go on', async (t) => {
  const shop = workshop(t);
  const args = ['--runtime', 'process', '--workers', '1', shop.bucket, shop.prefix, 'shop'];
  const program = await startProgram(t, { args, stateDir: shop.stateDir });
  await deploy(program, shop.config('v1'));
  assert.equal((await program.get('/log?text=last-words')).status, 200);
  assert.equal((await program.get('/exit?code=3')).status, 200);
  await until(
    async () => statusOf(program),
    ({ Active }) => Active?.State === 'failed',
  );
  assert.equal((await program.get('/')).status, 503);
  const entry = await until(
    async () => {
      const journal = (await program.call('GET', '/journal')).json<JournalEntry[]>();
      return journal.find(({ Event }) => Event === 'failure');
    },
    (found) => found !== undefined,
  );
  assert.deepEqual([entry?.Revision, entry?.By, entry?.Outcome], ['v1', '', 'failed']);
  assert.match(entry?.Message ?? '', /^in service: it exited with status 3/);
  assert.match((entry?.Detail as { Logs: string[] }).Logs.join('\n'), /last-words/);
  const { Requests } = await until(
    async () => (await program.call('GET', '/status')).json<{ Requests: number }>(),
    (status) => status.Requests === 3,
  );
  assert.equal(Requests, 3, 'since the switch, whoever answers');
});

test('the token is asked for, a foreign page and a foreign name are turned away', async (t) => {
  const shop = workshop(t);
  const tokenFile = join(shop.environment, 'token');
  writeFileSync(tokenFile, 'secret-token\n');
  const guarded = await start(t, shop, ['--api-token-file', tokenFile]);
  assert.deepEqual(await codeOf(guarded, 'GET', '/status'), [401, 'unauthorized']);
  const wrong = await guarded.call('GET', '/status', '', { authorization: 'Bearer secret-tokem' });
  assert.equal(wrong.status, 401);
  assert.equal((await guarded.call('GET', '/status', '', { authorization: 'Bearer secret-token' })).status, 200);
  assert.equal(JSON.stringify(guarded.log).includes('secret-toke'), false);

  const open = await start(t, workshop(t));
  assert.equal((await open.call('GET', '/status', '', { host: 'attacker.example' })).status, 403);
  assert.equal((await open.call('POST', '/stop-old', '', { origin: 'https://attacker.example' })).status, 403);
});
