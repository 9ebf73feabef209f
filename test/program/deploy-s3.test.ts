import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { GetObjectCommand } from '@aws-sdk/client-s3';
import { configFile, runClient, TestClient } from '../support/client.ts';
import { hold, type StatusAnswer, until, versionServed } from '../support/deployments.ts';
import { Load } from '../support/load.ts';
import { endPrograms, startProgram, type TestProgram } from '../support/program.ts';
import { s3ForTest } from '../support/s3.ts';

const TOKEN = 'a-token-of-the-whole-fleet';

interface PeerAnswer {
  Machine: string;
  Self: boolean;
  Stale: boolean;
  Active: { Revision: string } | null;
}

/** Three machines with real S3, one token, and nothing else in common. `client` gives commands of the client what they need. */
async function fleet(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), 'fleet-'));
  t.after(async () => {
    await endPrograms(t);
    rmSync(folder, { recursive: true, force: true });
  });
  const { endpoint, bucket, env, client: s3 } = await s3ForTest(t);
  const token = join(folder, 'token');
  writeFileSync(token, `${TOKEN}\n`);
  const sick = join(folder, 'sick.cfg');
  writeFileSync(sick, '');
  const programs = await Promise.all(
    ['one', 'two', 'three'].map(async (name) =>
      startProgram(t, {
        args: [
          ...['--runtime', 'process', '--workers', '1', '--s3-endpoint', endpoint, '--s3-path-style'],
          ...['--api-token-file', token, '--heartbeat', '1s'],
          ...(name === 'three' ? ['--cfg', sick, '--launch-timeout', '10s'] : []),
          ...[bucket, 'production', 'shop'],
        ],
        env,
        stateDir: join(folder, name),
      }),
    ),
  );
  const [first] = programs;
  assert.ok(first);
  const authorization = `Bearer ${TOKEN}`;
  const status = async (program: TestProgram) => {
    const answer = await program.call('GET', '/status', undefined, { authorization });
    return answer.json<StatusAnswer & { Peers: PeerAnswer[] }>();
  };
  await until(
    async () => status(first),
    ({ Peers }) => Peers.filter(({ Stale }) => !Stale).length === 3,
  );
  const read = async (Key: string) => {
    const { Body } = await s3.send(new GetObjectCommand({ Bucket: bucket, Key: `production/${Key}` }));
    return (await Body?.transformToString()) ?? '';
  };
  const withToken = ['--token-file', token];
  const args = ['--fleet', '--on', `http://${first.api}`, ...withToken];
  return { programs, sick, status, read, args, withToken, place: { stateDir: join(folder, 'x') } };
}

const states = async (
  programs: TestProgram[],
  status: (program: TestProgram) => Promise<{ Containers: { Revision: string; State: string }[] }>,
) =>
  Promise.all(
    programs.map(async (program) =>
      (await status(program)).Containers.map(({ Revision, State }) => `${Revision} ${State}`).join(', '),
    ),
  );

test('with S3: a deploy on the whole fleet under load loses no request; a sick machine stops the next one', async (t) => {
  const { programs, sick, status, read, args, place } = await fleet(t);
  const one = configFile(place, 'v1', { env: { HEALTH_STATUS: '200' } });
  const first = await runClient(t, ['deploy', ...args, '--batch', '3', one.path]);
  assert.equal(first.code, 0, first.err);

  const loads = programs.map(({ proxy }) => new Load(t, proxy, { connections: 3, pause: 10 }));
  const second = await runClient(t, [
    'deploy',
    ...args,
    configFile(place, 'v2', { env: { HEALTH_STATUS: '200' } }).path,
  ]);
  assert.equal(second.code, 0, second.err);
  for (const load of loads) {
    await load.answered(20);
    const { outcomes, versions } = await load.stop();
    assert.deepEqual(Object.keys(outcomes), ['ok']);
    assert.deepEqual(Object.keys(versions).toSorted(), ['v1', 'v2']);
  }
  assert.deepEqual(Object.keys(JSON.parse(await read('deploy-lock.json')) as object), ['Beat']);

  writeFileSync(sick, 'HEALTH_STATUS=500\n');
  programs[2]?.signal('SIGHUP');
  await programs[2]?.waitForLog(({ msg }) => msg === 'reload: new workers take over');
  const third = await runClient(t, ['deploy', ...args, configFile(place, 'v3').path]);
  assert.equal(third.code, 1, third.out + third.err);
  assert.match(third.err, /health check: \d+× 500 Internal Server Error/);
  assert.deepEqual(await states(programs, status), ['v2 active', 'v2 active', 'v2 active']);
  assert.doesNotMatch(third.out + third.err, new RegExp(TOKEN));
});

test('with S3: of deploys that begin at the same moment, each by another machine, one goes through', async (t) => {
  const { programs, status, args, withToken, place } = await fleet(t);
  const before = await runClient(t, ['deploy', ...args, configFile(place, 'before').path]);
  assert.equal(before.code, 0, before.err);
  // Whoever gets the lock has to wait for a drain, until the others have been told.
  const begun = (program: TestProgram) => async () =>
    until(
      async () => status(program),
      ({ Containers }) => Containers.some(({ InFlight }) => InFlight > 0),
    );
  const held = await Promise.all(programs.map(async (program) => hold(t, program, begun(program))));
  const clients = programs.map(
    ({ api }, at) =>
      new TestClient(t, [
        ...['deploy', '--on', `http://${api}`, ...withToken],
        ...['--by', `deployer-${at}`, configFile(place, `v${at}`).path],
      ]),
  );
  const told = clients.map(async (client) => client.says(/is deploying: v\d |draining the one before/));
  await Promise.all(told);
  for (const { giveUp } of held) giveUp();
  const ended = await Promise.all(clients.map(async (client) => client.ended()));
  assert.deepEqual(ended.map(({ code }) => code).toSorted(), [0, 4, 4]);
  const winner = ended.findIndex(({ code }) => code === 0);
  for (const { code, err } of ended)
    if (code === 4) assert.match(err, new RegExp(`deployer-${winner} is deploying: v${winner} `));
  const program = programs[winner];
  assert.ok(program);
  assert.equal(await versionServed(program), `v${winner}`);
});

test('with S3: a machine that does not answer stops a deploy on the fleet before anything changes, or is left out if wanted', async (t) => {
  const { programs, status, args, place } = await fleet(t);
  const [one, two, three] = programs;
  assert.ok(one && two && three);
  await three.kill();
  const { path } = configFile(place, 'v1');
  const refused = await runClient(t, ['deploy', ...args, path]);
  assert.equal(refused.code, 5, refused.err);
  assert.match(refused.err, /can not be asked: connection refused. Leave it out with --skip-stale\./);
  assert.deepEqual(await states([one, two], status), ['', '']);
  const deployed = await runClient(t, ['deploy', ...args, '--skip-stale', path]);
  assert.equal(deployed.code, 0, deployed.err);
  assert.match(deployed.out, /is left out/);
  assert.deepEqual(await states([one, two], status), ['v1 active', 'v1 active']);
});
