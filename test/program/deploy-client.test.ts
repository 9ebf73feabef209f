import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { join } from 'node:path';
import { test } from 'node:test';
import { configFile, rawConfigFile, runClient, startFleet, TestClient } from '../support/client.ts';
import { workshop } from '../support/deployable.ts';
import { codeOf, statusOf, until, versionServed } from '../support/deployments.ts';
import { connectionTo } from '../support/http.ts';
import { killIfThere } from '../support/processes.ts';
import type { TestProgram } from '../support/program.ts';

const VARIABLES = { WUNDERPROXY_BY: 'ci@build' };

test('a deploy writes the config, launches, switches, and leaves no lock; status, history, logs and rollback follow', async (t) => {
  const shop = workshop(t);
  const { programs, on } = await startFleet(t, shop, 1);
  const [program] = programs;
  assert.ok(program);
  const [one, two] = [configFile(shop, 'v1'), configFile(shop, 'v2')];

  for (const { path } of [one, two]) {
    const deployed = await runClient(t, ['deploy', ...on, path], VARIABLES);
    assert.equal(deployed.code, 0, deployed.err + deployed.out);
    assert.equal(deployed.err, '');
  }
  assert.equal(await versionServed(program), 'v2');
  assert.ok(existsSync(join(shop.environment, `container.${two.hash}.json`)));
  assert.deepEqual(
    (await statusOf(program)).Containers.map(({ Revision, State }) => [Revision, State]),
    [['v2', 'active']],
    'the one before has been drained',
  );
  const lock = JSON.parse(readFileSync(join(shop.environment, 'deploy-lock.json'), 'utf8')) as object;
  assert.deepEqual(Object.keys(lock), ['Beat'], 'it is nobody’s');

  const status = await runClient(t, ['status', ...on]);
  assert.equal(status.code, 0);
  assert.match(status.out, /^shop: v2 is in service, and nothing fails\./);
  const json = await runClient(t, ['status', ...on, '--json']);
  assert.equal((JSON.parse(json.out) as { Active: { Hash: string } }).Active.Hash, two.hash);

  const history = await runClient(t, ['history', ...on]);
  const rows = history.out.trimEnd().split('\n');
  assert.match(rows[0] ?? '', /^REVISION +DEPLOYED AT +BY +HASH$/);
  assert.match(rows[1] ?? '', new RegExp(`^v1 +\\d{4}-\\S+Z +ci@build +${one.hash}$`));
  assert.match(rows[2] ?? '', new RegExp(`^v2 .* ${two.hash}$`));
  const lines = (await runClient(t, ['history', ...on, '--json'])).out.trimEnd().split('\n');
  assert.deepEqual(
    lines.map((line) => (JSON.parse(line) as { Hash: string }).Hash),
    [one.hash, two.hash],
  );

  await program.get('/hello');
  const logs = await runClient(t, ['logs', ...on, '--tail', '3', two.hash]);
  assert.equal(logs.code, 0, logs.err);
  assert.ok(logs.out.trimEnd().split('\n').length <= 3);
  assert.match(logs.out, /\/hello/);
  assert.equal((await runClient(t, ['logs', ...on, one.hash])).code, 1, 'that container is gone');

  const back = await runClient(t, ['rollback', ...on], VARIABLES);
  assert.equal(back.code, 0, back.err);
  assert.match(back.out, / serves v1 again\nrolled back: [^\n]+\n$/);
  assert.equal(await versionServed(program), 'v1');
  const [left] = (await runClient(t, ['history', ...on, '--json'])).out.trimEnd().split('\n');
  assert.equal((JSON.parse(left ?? '') as { Hash: string }).Hash, one.hash);
  const again = await runClient(t, ['rollback', ...on]);
  assert.equal(again.code, 1);
  assert.match(again.err, /no earlier deployment/);
});

test('logs are followed on all machines at once, until the container ends', async (t) => {
  const shop = workshop(t);
  const { programs, on } = await startFleet(t, shop, 2);
  const [one, two] = programs;
  assert.ok(one && two);
  assert.equal((await runClient(t, ['deploy', ...on, configFile(shop, 'v1').path])).code, 0);
  const follower = new TestClient(t, ['logs', ...on, '-f']);
  const patterns = programs.map(({ api }, at) => new RegExp(`^${api}: .*"/from-${at}"`, 'm'));
  for (const [at, program] of programs.entries()) {
    await program.get(`/from-${at}`);
    await follower.says(patterns[at] ?? /never/);
  }
  await one.get('/later');
  await follower.says(/"\/later"/);
  assert.equal((await runClient(t, ['deploy', ...on, configFile(shop, 'v2').path])).code, 0);
  assert.equal((await follower.ended()).code, 0, 'both containers are gone');

  const others = await Promise.all(Array.from({ length: 17 }, async () => startFollowing(one)));
  assert.deepEqual(
    others.map(({ status }) => status).toSorted((a, b) => a - b),
    [...Array.from({ length: 16 }, () => 200), 503],
  );
  for (const { leave } of others) leave();
  await until(
    async () => startFollowing(one),
    ({ status, leave }) => {
      leave();
      return status === 200;
    },
  );

  const last = new TestClient(t, ['logs', ...on.slice(0, 2), '--follow', '--json']);
  await last.says(/"Line":/);
  for (const pid of one.pids('manager')) killIfThere(pid, 'SIGKILL');
  const { code, err } = await last.ended();
  assert.equal(code, 5);
  assert.match(err, /^\S+: the connection broke before the answer was complete\n$/);
});

/** Follows the logs of a program, without reading them. */
async function startFollowing(program: TestProgram): Promise<{ status: number; leave: () => void }> {
  const asked = request({ ...connectionTo(program.api), path: '/logs?follow=true', agent: false });
  asked.on('error', () => {});
  asked.end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  return { status: response.statusCode ?? 0, leave: () => void asked.destroy() };
}

test('a config that is not valid, or not there, changes nothing', async (t) => {
  const shop = workshop(t);
  const { programs, on } = await startFleet(t, shop, 1);
  const wrong = rawConfigFile(shop, { ContainerConfig: {}, HealthCheckPath: '/up', Revision: 'v 1', Colour: 'blue' });
  const refused = await runClient(t, ['deploy', ...on, wrong.path]);
  assert.equal(refused.code, 1);
  assert.match(refused.err, /Revision: must be usable as an image tag.*unknown key Colour/);
  assert.equal(existsSync(join(shop.environment, `container.${wrong.hash}.json`)), false);
  const missing = await runClient(t, ['deploy', ...on, `${wrong.path}.not-there`]);
  assert.equal(missing.code, 1);
  assert.match(missing.err, /not-there can not be read: ENOENT/);
  assert.equal(existsSync(join(shop.environment, 'deploy-lock.json')), false);
  const [program] = programs;
  assert.ok(program);
  assert.deepEqual(await codeOf(program, 'POST', '/configs', 'no JSON'), [422, 'invalid_launch_config']);
  assert.deepEqual(await codeOf(program, 'POST', '/configs', ' '.repeat(2 ** 20 + 1)), [413, 'request_too_large']);
  assert.deepEqual(await codeOf(program, 'POST', '/lock', '{"Token":"short"}'), [400, 'bad_parameters']);
  assert.deepEqual(await codeOf(program, 'GET', '/logs?tail=x'), [400, 'bad_parameters']);
});

test('POST /configs answers the hash, so that scripts without S3 can go on with curl; a copy cut short is mended', async (t) => {
  const shop = workshop(t);
  const { programs } = await startFleet(t, shop, 1);
  const [program] = programs;
  const { path, hash } = configFile(shop, 'v1');
  const bytes = readFileSync(path, 'utf8');
  const stored = join(shop.environment, `container.${hash}.json`);
  for (const before of [null, bytes, bytes.slice(0, 20)]) {
    if (before !== null) writeFileSync(stored, before);
    const answer = await program?.call('POST', '/configs', bytes);
    assert.equal(answer?.text, `${hash}\n`);
    assert.equal(readFileSync(stored, 'utf8'), bytes);
  }
});

test('a manager on a unix socket is deployed to as well', async (t) => {
  const shop = workshop(t);
  const socket = join(shop.environment, 'manager.sock');
  const { programs } = await startFleet(t, shop, 1, ['--api', `unix:${socket}`]);
  const [program] = programs;
  assert.ok(program);
  const deployed = await runClient(t, ['deploy', '--on', program.api, configFile(shop, 'v1').path]);
  assert.equal(deployed.code, 0, deployed.err);
  assert.equal(await versionServed(program), 'v1');
  assert.match((await runClient(t, ['status', '--on', `unix:${socket}`])).out, /v1 is in service/);
});

test('a manager that can not be reached, or does not take the token, is exit status 5; the token is never shown', async (t) => {
  const shop = workshop(t);
  const token = join(shop.environment, 'token');
  writeFileSync(token, 'secret-token-of-the-manager\n');
  const { on } = await startFleet(t, shop, 1, ['--api-token-file', token]);
  const { path } = configFile(shop, 'v1');
  const wrong = join(shop.environment, 'wrong');
  writeFileSync(wrong, 'another-secret\n');
  for (const [args, why] of [
    [[], /needs the token.* --token-file/],
    [['--token-file', wrong], /The token is wrong.* --token-file/],
  ] as const) {
    const refused = await runClient(t, ['deploy', ...on, ...args, path]);
    assert.equal(refused.code, 5, refused.err);
    assert.match(refused.err, why);
    assert.doesNotMatch(refused.err + refused.out, /another-secret/);
    assert.equal((await runClient(t, ['status', ...on, ...args])).code, 5);
  }
  const nobody = await runClient(t, ['deploy', '--on', 'http://127.0.0.1:9', path]);
  assert.equal(nobody.code, 5);
  assert.match(nobody.err, /127\.0\.0\.1:9: connection refused/);

  const deployed = await runClient(t, ['deploy', ...on, path, '--json'], { WUNDERPROXY_TOKEN_FILE: token });
  assert.equal(deployed.code, 0, deployed.out);
  assert.doesNotMatch(deployed.err + deployed.out, /secret/);
  assert.doesNotMatch(readFileSync(join(shop.environment, 'history.json'), 'utf8'), /secret/);
});
