import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { markedRequest } from '../proxy/support/machines.ts';
import { workshop } from '../support/deployable.ts';
import { deploy, reload, until } from '../support/deployments.ts';
import { freePort } from '../support/free-port.ts';
import { connectionTo } from '../support/http.ts';
import { Load } from '../support/load.ts';
import { runClient } from '../support/client.ts';
import { killIfThere } from '../support/processes.ts';
import { startProgram, type TestProgram } from '../support/program.ts';
import { sendRaw } from '../support/raw.ts';

/** What this test reads of `/status`. */
interface Answer {
  Active: { State: string } | null;
  Totals: { Fallbacks: { Outcome: string; Count: number }[]; Markers: Record<string, number> };
  Peers: { Fallback: { State: string } | null }[];
}

const statusOf = async (machine: TestProgram) => (await machine.call('GET', '/status')).json<Answer>();

test(
  "the secret of two machines is changed in three steps while one's requests fall back: none is refused",
  { timeout: 150_000 },
  async (t) => {
    const shop = workshop(t);
    const port = await freePort();
    const hosts = [1, 2].map((last) => `127.0.0.${last}:${port}`);
    const peers = hosts.flatMap((host) => ['--peer', `http://${host}`]);
    const [old, next] = [randomBytes(32).toString('hex'), randomBytes(32).toString('hex')];
    const fileOf = (at: number) => join(shop.environment, `secret-${at}`);
    const started = hosts.map(async (host, at) => {
      writeFileSync(fileOf(at), `${old}\n`);
      const options = ['--runtime', 'process', '--workers', '2', '--proxy', host, '--peer-secret-file', fileOf(at)];
      const args = [...options, ...peers, shop.bucket, shop.prefix, 'shop'];
      return startProgram(t, { args, stateDir: `${shop.stateDir}-${at}` });
    });
    const [here, other] = await Promise.all(started);
    assert.ok(here && other);
    const hash = shop.config('v1');
    for (const machine of [here, other]) await deploy(machine, hash);
    await until(
      async () => statusOf(here),
      ({ Peers }) => Peers.some(({ Fallback }) => Fallback?.State === 'healthy'),
    );
    const applications = here.processes().filter(({ command }) => command.includes('app/server.js'));
    assert.equal(applications.length, 1);
    for (const { pid } of applications) killIfThere(pid, 'SIGKILL');
    await until(
      async () => statusOf(here),
      ({ Active }) => Active?.State === 'failed',
    );

    const load = new Load(t, here.proxy, { connections: 8, slowEvery: 15, slowFor: 200, pause: 5 });
    await load.answered(50);
    const steps = [[old, next], [next, old], [next]];
    for (const [step, secrets] of steps.entries()) {
      for (const at of step % 2 === 0 ? [0, 1] : [1, 0]) {
        writeFileSync(fileOf(at), secrets.map((secret) => `${secret}\n`).join(''));
        await reload(at === 0 ? here : other);
        await load.answered(100);
      }
    }
    const { records, outcomes } = await load.stop();
    assert.deepEqual(outcomes, { ok: records.length });
    const { Totals } = await until(
      async () => statusOf(here),
      ({ Totals: { Fallbacks } }) => Fallbacks.reduce((sum, { Count }) => sum + Count, 0) >= records.length,
    );
    assert.deepEqual(
      Totals.Fallbacks.filter(({ Outcome }) => Outcome !== 'ok'),
      [],
    );
    t.diagnostic(`${records.length} requests fell back over six reloads`);

    // The old one is worth nothing any more, on either machine.
    const material = { secrets: [Buffer.from(old).toString('base64')], ca: null };
    assert.match(await sendRaw(other.proxy, markedRequest(material)), /^HTTP\/1\.1 200 /);
    const { Totals: there } = await until(
      async () => statusOf(other),
      ({ Totals: { Markers } }) => (Markers['trusted'] ?? 0) >= records.length && Markers['forged'] !== undefined,
    );
    assert.deepEqual(there.Markers, { trusted: records.length, forged: 1 });
    for (const machine of [here, other]) {
      const said = JSON.stringify(machine.log);
      for (const secret of [old, next]) assert.ok(!said.includes(secret), 'a secret is in the log');
      const counts = machine.log.filter(({ msg }) => msg === "the peers' secret was read");
      assert.deepEqual(
        counts.map(({ secrets }) => secrets),
        [2, 2, 1],
      );
    }
  },
);

/** An answer that goes on. */
interface Stream {
  status: number;
  /** Resolves to how it ended. */
  ended: Promise<'whole' | 'broken off'>;
  /** Resolves once something more has come. */
  more: () => Promise<unknown>;
}

async function follow(
  t: TestContext,
  program: TestProgram,
  path: string,
  headers: Record<string, string>,
): Promise<Stream> {
  const asked = request({ ...connectionTo(program.api), path, headers, agent: false });
  t.after(() => asked.destroy());
  asked.on('error', () => {});
  asked.end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  response.on('error', () => {});
  const { promise: ended, resolve } = Promise.withResolvers<'whole' | 'broken off'>();
  response.on('close', () => resolve(response.complete ? 'whole' : 'broken off'));
  response.resume();
  return { status: response.statusCode ?? 0, ended, more: async () => once(response, 'data') };
}

test('a token is changed in three steps: both count meanwhile, and what the old one has opened ends with it', async (t) => {
  const shop = workshop(t);
  const tokenFile = join(shop.environment, 'token');
  writeFileSync(tokenFile, 'the-old-token\n');
  const options = ['--runtime', 'process', '--workers', '1', '--api-token-file', tokenFile];
  const program = await startProgram(t, {
    args: [...options, shop.bucket, shop.prefix, 'shop'],
    stateDir: shop.stateDir,
  });
  const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
  const statusFor = async (headers: Record<string, string>) =>
    (await program.call('GET', '/status', undefined, headers)).status;
  const logIn = async (token: string) => {
    const answer = await program.call('POST', '/login', `token=${token}`, { origin: `http://${program.api}` });
    assert.equal(answer.status, 303);
    return { cookie: String(answer.headers['set-cookie']).split(';')[0] ?? '' };
  };
  const setTokens = async (...tokens: string[]) => {
    const from = program.log.length;
    writeFileSync(tokenFile, tokens.map((token) => `${token}\n`).join(''));
    await reload(program);
    const read = await program.waitForLog(({ msg }) => msg === 'the tokens of the API were read', { from });
    assert.equal(read['tokens'], tokens.length);
  };
  const hash = shop.config('v1');
  for (const path of ['/launch', '/switch']) {
    assert.equal((await program.call('POST', path, hash, bearer('the-old-token'))).status, 200);
  }
  const oldLogin = await logIn('the-old-token');
  const logs = await follow(t, program, '/logs?follow=true', bearer('the-old-token'));
  const events = await follow(t, program, '/events', bearer('the-old-token'));
  const page = await follow(t, program, '/events', oldLogin);
  const pageLogs = await follow(t, program, '/logs?follow=true', oldLogin);
  const old = [logs, events, page, pageLogs];

  await setTokens('the-old-token', 'the-new-token');
  const newLogin = await logIn('the-new-token');
  const newLogs = await follow(t, program, '/logs?follow=true', bearer('the-new-token'));
  const newPage = await follow(t, program, '/events', newLogin);
  assert.deepEqual(
    [...old, newLogs, newPage].map(({ status }) => status),
    [200, 200, 200, 200, 200, 200],
  );
  await setTokens('the-new-token', 'the-old-token');
  for (const headers of [bearer('the-old-token'), bearer('the-new-token'), oldLogin, newLogin]) {
    assert.equal(await statusFor(headers), 200);
  }
  // Two ticks: they would have ended at the first.
  await page.more();
  await page.more();
  const deployed = await runClient(t, ['status', '--on', `http://${program.api}`, '--token-file', tokenFile]);
  assert.equal(deployed.code, 0, deployed.err);

  await setTokens('the-new-token');
  assert.deepEqual(await Promise.all(old.map(async ({ ended }) => ended)), [
    'broken off',
    'whole',
    'whole',
    'broken off',
  ]);
  for (const headers of [bearer('the-old-token'), oldLogin]) assert.equal(await statusFor(headers), 401);
  for (const headers of [bearer('the-new-token'), newLogin]) assert.equal(await statusFor(headers), 200);
  await newPage.more();
  const line = newLogs.more();
  await program.get('/one-more-line');
  await line;

  // A file that was emptied by mistake opens nothing, and shuts nobody out.
  const from = program.log.length;
  writeFileSync(tokenFile, '\n');
  await reload(program);
  const refused = await program.waitForLog(({ option }) => option === '--api-token-file', { from });
  assert.equal(refused['why'], 'the file is empty');
  assert.equal(await statusFor({}), 401);
  assert.equal(await statusFor(bearer('the-new-token')), 200);
  assert.doesNotMatch(JSON.stringify(program.log), /the-(?:old|new)-token/);
});
