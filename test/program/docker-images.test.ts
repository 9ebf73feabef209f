import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test, type TestContext } from 'node:test';
import { PutObjectCommand } from '@aws-sdk/client-s3';
import { deploy, statusOf, versionServed } from '../support/deployments.ts';
import { dockerDeployment, sharedImages } from '../support/docker-deployment.ts';
import type { TestDocker } from '../support/docker.ts';
import { freePort } from '../support/free-port.ts';
import { Gate } from '../support/gate.ts';

const LIMIT = { timeout: 120_000 };

let images: TestDocker;
const cleanups: (() => Promise<void> | void)[] = [];
before(async () => {
  images = await sharedImages({ after: (end) => void cleanups.push(end) }, ['v1', 'v2']);
  for (const version of ['v1', 'v2']) await images.push(images.reference(version));
});
after(async () => {
  for (const end of cleanups) await end();
});

async function setUp(t: TestContext) {
  const deployment = await dockerDeployment(t, mkdtempSync(join(tmpdir(), 'state-')));
  const taps = await deployment.tapped();
  return { deployment, taps, program: await deployment.start(taps.start) };
}

describe('images', { concurrency: 2 }, () => {
  test('a rollback to a version whose container is gone pulls nothing', LIMIT, async (t) => {
    const { deployment, taps, program } = await setUp(t);
    const registry = await Gate.toPort(t, images.registryPort);
    const { port } = registry;
    const image = (version: string) => `localhost:${port}/${images.app}:${version}`;
    t.after(async () => {
      for (const version of ['v1', 'v2']) await images.removeImage(image(version));
    });
    const pulls = () => taps.docker.seen.filter(({ path }) => path.startsWith('/images/create')).length;
    for (const version of ['v1', 'v2'])
      await deploy(program, await deployment.store(version, { image: image(version) }));
    assert.equal(pulls(), 2);
    await deployment.settledAt('v2-ID running');
    registry.close();

    const answer = await program.call('POST', '/rollback');
    assert.equal(answer.status, 200, answer.text);
    assert.equal(pulls(), 2);
    assert.equal(await versionServed(program), 'v1');
    await deployment.settledAt('v1-ID running');
    assert.equal(await deployment.current(), 'v1');
    assert.deepEqual(await deployment.history(), ['v1']);
  });

  test('ForceReload pulls what has changed, and takes the place of what runs', LIMIT, async (t) => {
    const { deployment, program } = await setUp(t);
    const { docker } = deployment;
    const reference = docker.reference('v1');
    await docker.appImage('v1', { env: { MARK: 'new' } });
    await docker.push(reference);
    await docker.appImage('v1', { env: { MARK: 'old' } });
    const old = await deployment.store('v1');
    await deploy(program, old);
    assert.equal((await program.get('/env?name=MARK')).text, 'old');
    const before = (await statusOf(program)).Active?.Id;

    const reload = await deployment.store('v1', { more: { ForceReload: true } });
    await deploy(program, reload);
    assert.equal((await program.get('/env?name=MARK')).text, 'new');
    await deployment.settledAt('v1-ID running');

    // The same config once more: it already runs, and is recreated all the same.
    const running = (await statusOf(program)).Active?.Id;
    await deploy(program, reload);
    await deployment.settledAt('v1-ID running');
    const now = (await statusOf(program)).Active?.Id;
    assert.equal(new Set([before, running, now]).size, 3);
    assert.deepEqual(await deployment.history(), ['v1', 'v1']);
  });

  test('an image that no registry has is loaded from its archive in S3', LIMIT, async (t) => {
    const deployment = await dockerDeployment(t, mkdtempSync(join(tmpdir(), 'state-')));
    const { docker, s3 } = deployment;
    const nobody = await freePort();
    const reference = `localhost:${nobody}/${docker.app}:v1`;
    const image = docker.docker.getImage(images.reference('v1'));
    await image.tag({ repo: `localhost:${nobody}/${docker.app}`, tag: 'v1' });
    const file = join(deployment.stateDir, 'archive.tar');
    await docker.save(file, reference);
    await docker.removeImage(reference);
    const Body = await readFile(file);
    await rm(file);
    await s3.client.send(new PutObjectCommand({ Bucket: s3.bucket, Key: 'images/shop-v1.tar', Body }));

    const program = await deployment.start({ args: ['--registry-port', String(nobody)] });
    const without = await deployment.store('v1');
    const refused = await program.call('POST', '/launch', without);
    assert.equal(refused.status, 502);
    assert.match(refused.text, /can not be pulled/);
    const ImageArtifact = { Bucket: s3.bucket, Key: 'images/shop-v1.tar' };
    await deploy(program, await deployment.store('v1', { more: { ImageArtifact } }));
    assert.equal(await versionServed(program), 'v1');
    const { Active } = await statusOf(program);
    assert.ok(Active);
    const { Config } = await docker.docker.getContainer(Active.Id).inspect();
    assert.equal(Config.Image, reference);
    await program.waitForLog(({ msg }) => String(msg).startsWith(`loaded ${reference} from `));
  });
});
