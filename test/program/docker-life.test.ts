import assert from 'node:assert/strict';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test, type TestContext } from 'node:test';
import type Docker from 'dockerode';
import { type ContainerAnswer, deploy, statusOf, until, versionServed } from '../support/deployments.ts';
import { dockerDeployment, sharedImages } from '../support/docker-deployment.ts';
import type { TestDocker } from '../support/docker.ts';
import type { TestProgram } from '../support/program.ts';

const LIMIT = { timeout: 120_000 };

let images: TestDocker;
const cleanups: (() => Promise<void> | void)[] = [];
before(async () => {
  images = await sharedImages({ after: (end) => void cleanups.push(end) }, ['v1', 'v2']);
});
after(async () => {
  for (const end of cleanups) await end();
});

async function setUp(t: TestContext, args: string[] = []) {
  const deployment = await dockerDeployment(t, mkdtempSync(join(tmpdir(), 'state-')));
  const taps = await deployment.tapped();
  const program = await deployment.start({ ...taps.start, args });
  const store = async (revision: string, HostConfig: object = {}, env: Record<string, string> = {}) =>
    deployment.store(revision, { image: images.reference(revision), env, more: { HostConfig } });
  return { deployment, taps, program, store };
}

async function activeOf(program: TestProgram): Promise<ContainerAnswer> {
  const { Active } = await statusOf(program);
  assert.ok(Active);
  return Active;
}

/** Resolves to the container in service once it is in this state. */
async function untilActive(program: TestProgram, state: string): Promise<ContainerAnswer> {
  const { Active } = await until(
    async () => statusOf(program),
    (status) => status.Active?.State === state,
  );
  assert.ok(Active);
  return Active;
}

/** Where the engine says that a container listens. */
async function addressesOf(container: Docker.Container): Promise<string[]> {
  const { Networks } = (await container.inspect()).NetworkSettings;
  return Object.values(Networks).map(({ IPAddress }) => `${IPAddress}:9292`);
}

/** What the program has asked Docker to do so far. */
function created(taps: { docker: { seen: { method: string; path: string }[] } }): number {
  return taps.docker.seen.filter(({ method, path }) => method === 'POST' && path.includes('/containers/create')).length;
}

describe('starts', { concurrency: 2 }, () => {
  test('a start adopts what runs: the same container, nothing launched, no answer missing', LIMIT, async (t) => {
    const { deployment, taps, program, store } = await setUp(t);
    await deploy(program, await store('v1'));
    assert.equal((await program.call('POST', '/launch', await store('v2'))).status, 200);
    const before = await statusOf(program);
    assert.equal((await program.stop()).code, 0);
    assert.deepEqual(await deployment.containers(), ['v1-ID running', 'v2-ID running']);
    const launches = created(taps);

    const next = await deployment.start(taps.start);
    for (let i = 0; i < 20; i++) assert.equal(await versionServed(next), 'v1');
    const { Containers, Active } = await statusOf(next);
    assert.equal(Active?.Id, before.Active?.Id);
    assert.deepEqual(
      Containers.map(({ Id, State }) => [Id, State]).toSorted(),
      before.Containers.map(({ Id, State }) => [Id, State]).toSorted(),
    );
    assert.deepEqual(Containers.map(({ State }) => State).toSorted(), ['active', 'ready']);
    assert.equal(created(taps), launches);
    assert.deepEqual(await deployment.containers(), ['v1-ID running', 'v2-ID running']);
  });

  test('a container that was started by hand with the labels shows up and is left alone', LIMIT, async (t) => {
    const { deployment, taps, program, store } = await setUp(t);
    const hash = await store('v1');
    await deploy(program, hash);
    assert.equal((await program.stop()).code, 0);
    const { app, docker } = deployment.docker;
    const Labels = { 'wunderproxy.app': app, 'wunderproxy.hash': 'e'.repeat(32), 'wunderproxy.revision': 'by-hand' };
    const byHand = await docker.createContainer({ Image: images.reference('v2'), name: `${app}-mine`, Labels });
    await byHand.start();

    const next = await deployment.start(taps.start);
    const { Containers } = await statusOf(next);
    assert.deepEqual(Containers.map(({ Revision, State }) => `${Revision} ${State}`).toSorted(), [
      'by-hand ready',
      'v1 active',
    ]);
    assert.deepEqual(await deployment.containers(), ['mine running', 'v1-ID running']);
  });

  test('a start launches the config in service anew when its container is gone', LIMIT, async (t) => {
    const { deployment, taps, program, store } = await setUp(t);
    await deploy(program, await store('v1'));
    const { Id } = await activeOf(program);
    assert.equal((await program.stop()).code, 0);
    await deployment.docker.docker.getContainer(Id).remove({ force: true });

    const next = await deployment.start(taps.start);
    await until(
      async () => next.get('/'),
      ({ status }) => status === 200,
    );
    assert.equal(await versionServed(next), 'v1');
    assert.notEqual((await activeOf(next)).Id, Id);
    assert.deepEqual(await deployment.containers(), ['v1-ID running']);
  });

  test('a start replaces a container that has died meanwhile', LIMIT, async (t) => {
    const { deployment, taps, program, store } = await setUp(t);
    await deploy(program, await store('v1'));
    const { Id } = await activeOf(program);
    await program.kill();
    await deployment.docker.docker.getContainer(Id).kill();

    const next = await deployment.start(taps.start);
    await until(
      async () => next.get('/'),
      ({ status }) => status === 200,
    );
    assert.notEqual((await activeOf(next)).Id, Id);
    await deployment.settledAt('v1-ID running');
  });
});

describe('containers that change by themselves', { concurrency: 2 }, () => {
  test('one that is killed is out of service at once, and can be replaced', LIMIT, async (t) => {
    const { deployment, program, store } = await setUp(t);
    const hash = await store('v1');
    await deploy(program, hash);
    const { Id } = await activeOf(program);
    const killedAt = performance.now();
    await deployment.docker.docker.getContainer(Id).kill();
    const dead = await untilActive(program, 'failed');
    t.diagnostic(`it was noticed after ${Math.round(performance.now() - killedAt)} ms`);
    assert.equal(dead.Id, Id);
    assert.equal(dead.Address, null);
    assert.match(String(dead.Failure), /exited with status 137/);
    const answer = await program.get('/');
    assert.deepEqual([answer.status, answer.headers['wunderproxy-error']], [503, 'no_active_container']);
    assert.ok(answer.headers['retry-after']);

    await deploy(program, hash);
    assert.equal(await versionServed(program), 'v1');
    await deployment.settledAt('v1-ID running');
    assert.notEqual((await activeOf(program)).Id, Id);
  });

  test('one in service that is removed by hand is said to be gone', LIMIT, async (t) => {
    const { deployment, program, store } = await setUp(t);
    await deploy(program, await store('v1'));
    const { Id } = await activeOf(program);
    await deployment.docker.docker.getContainer(Id).remove({ force: true });
    await until(
      async () => statusOf(program),
      ({ Active }) => Active?.State === 'failed' && Active.Failure === 'it was removed',
    );
    assert.match((await program.call('GET', '/')).text, /v1, in service, has failed \(it was removed\)/);
  });

  test('one whose policy restarts it comes back by itself', LIMIT, async (t) => {
    const { deployment, program, store } = await setUp(t);
    await deploy(program, await store('v1', { RestartPolicy: { Name: 'always' } }));
    const { Id } = await activeOf(program);
    assert.equal((await program.get('/exit?code=3')).status, 200);
    // It takes its time to listen again, if only because Node has to start.
    await program.waitForLog(({ to, container }) => to === 'starting' && Id.startsWith(String(container)), {
      from: program.log.findLastIndex(({ to }) => to === 'active'),
    });
    const back = await untilActive(program, 'active');
    assert.equal(back.Id, Id);
    assert.equal(await versionServed(program), 'v1');
    assert.deepEqual(await addressesOf(deployment.docker.docker.getContainer(Id)), [back.Address]);
    assert.deepEqual(await deployment.containers(), ['v1-ID running']);
  });

  test('one that is stopped and started again is followed to its address', LIMIT, async (t) => {
    const { deployment, program, store } = await setUp(t);
    await deploy(program, await store('v1'));
    const { Id } = await activeOf(program);
    const { docker } = deployment.docker;
    await docker.getContainer(Id).stop({ t: 1 });
    await untilActive(program, 'failed');
    // Another one takes the address that has become free.
    const other = await docker.createContainer({
      Image: images.reference('v2'),
      name: `${deployment.docker.app}-other`,
    });
    await other.start();
    assert.equal((await program.get('/')).status, 503);
    await docker.getContainer(Id).start();
    const back = await untilActive(program, 'active');
    assert.deepEqual(await addressesOf(docker.getContainer(Id)), [back.Address]);
    assert.equal(await versionServed(program), 'v1');
  });

  test('one that moves to another network is followed', LIMIT, async (t) => {
    const { deployment, program, store } = await setUp(t);
    const { app, docker } = deployment.docker;
    await deploy(program, await store('v1'));
    const { Id, Address } = await activeOf(program);
    const network = await docker.createNetwork({ Name: `${app}-net` });
    t.after(async () => {
      await docker
        .getContainer(Id)
        .remove({ force: true })
        .catch(() => {});
      await network.remove();
    });
    await network.connect({ Container: Id });
    assert.equal(await versionServed(program), 'v1');
    await docker.getNetwork('bridge').disconnect({ Container: Id });
    const moved = await until(
      async () => activeOf(program),
      (active) => active.Address !== null && active.Address !== Address,
    );
    assert.deepEqual(await addressesOf(docker.getContainer(Id)), [moved.Address]);
    assert.equal(await versionServed(program), 'v1');

    await network.disconnect({ Container: Id });
    await until(
      async () => activeOf(program),
      (active) => active.Address === null,
    );
    assert.equal((await program.get('/')).status, 503);
    await docker.getNetwork('bridge').connect({ Container: Id });
    await until(
      async () => program.get('/'),
      ({ status }) => status === 200,
    );
    assert.equal(await versionServed(program), 'v1');
  });

  test('one that waits and is removed by hand is forgotten', LIMIT, async (t) => {
    const { deployment, program, store } = await setUp(t);
    const hash = await store('v1');
    await program.call('POST', '/launch', hash);
    const [waiting] = (await statusOf(program)).Containers;
    await deployment.docker.docker.getContainer(waiting?.Id ?? '').remove({ force: true });
    await until(
      async () => statusOf(program),
      ({ Containers }) => Containers.length === 0,
    );
    assert.equal((await program.call('POST', '/switch', hash)).status, 409);
  });
});

describe('what containers are given', { concurrency: 2 }, () => {
  test('names, labels and environment are as documented', LIMIT, async (t) => {
    const file = join(mkdtempSync(join(tmpdir(), 'cfg-')), 'cfg');
    writeFileSync(file, '# for all\nCOMMON=from-cfg\nOWN=from-cfg\n');
    const { deployment, program, store } = await setUp(t, ['--cfg', file]);
    const hash = await store('v1', {}, { OWN: 'from-config' });
    const answer = await program.call('POST', '/launch', hash, { accept: 'application/json' });
    const { Id } = answer.json<{ Id: string }>();
    await program.call('POST', '/switch', hash);
    assert.equal((await program.get('/env?name=COMMON')).text, 'from-cfg');
    assert.equal((await program.get('/env?name=OWN')).text, 'from-config');
    const { Name, Config } = await deployment.docker.docker.getContainer(Id).inspect();
    const { app } = deployment.docker;
    assert.equal(Name, `/${app}-v1-${Id.slice(0, 8)}`);
    assert.deepEqual(ownLabels(Config.Labels), {
      'wunderproxy.app': app,
      'wunderproxy.environment': `s3://${deployment.s3.bucket}/test/docker`,
      'wunderproxy.hash': hash,
      'wunderproxy.revision': 'v1',
      'wunderproxy.port': '9292',
    });
  });
});

function ownLabels(labels: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(labels).filter(([name]) => name.startsWith('wunderproxy.')));
}
