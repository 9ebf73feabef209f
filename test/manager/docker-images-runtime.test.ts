import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { createReadStream, createWriteStream, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { test, type TestContext } from 'node:test';
import { createGzip } from 'node:zlib';
import { createLogger } from '../../src/log.ts';
import { DockerRuntime } from '../../src/manager/docker-runtime.ts';
import type { LaunchConfig } from '../../src/manager/launch-config.ts';
import type { ConfigStore } from '../../src/manager/store.ts';
import { dockerForTest, type TestDocker } from '../support/docker.ts';
import { freePort } from '../support/free-port.ts';
import { Gate } from '../support/gate.ts';

const MIB = 2 ** 20;
const ARTIFACT = { Bucket: 'images', Key: 'shop-v1.tar.gz' };

interface Options {
  registryPort?: number;
  dockerHost?: string;
  openArtifact?: ConfigStore['openArtifact'];
}

function open(docker: TestDocker, options: Options = {}): DockerRuntime {
  return new DockerRuntime({
    app: docker.app,
    environment: 'test',
    registryPort: options.registryPort ?? docker.registryPort,
    openArtifact: options.openArtifact ?? (() => Promise.resolve(null)),
    log: createLogger('manager'),
    dockerHost: options.dockerHost ?? docker.host,
  });
}

function config(more: Partial<LaunchConfig> = {}): LaunchConfig {
  return { ContainerConfig: {}, HealthCheckPath: '/up', Revision: 'v1', ...more };
}

async function create(
  runtime: DockerRuntime,
  wanted: LaunchConfig,
  signal = new AbortController().signal,
): Promise<{ id: string; progress: string[] }> {
  const progress: string[] = [];
  const onProgress = (text: string, phase: string) => {
    if (phase === 'image') progress.push(text);
  };
  const id = await runtime.create({ hash: 'ab', config: wanted, environment: {}, signal, onProgress });
  return { id, progress };
}

/** The id of the image that a container was made from. */
async function imageOf(docker: TestDocker, id: string): Promise<string> {
  return (await docker.docker.getContainer(id).inspect()).Image;
}

async function idOf(docker: TestDocker, reference: string): Promise<string> {
  return (await docker.docker.getImage(reference).inspect()).Id;
}

function folderForTest(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'wunderartifact-'));
  t.after(() => {
    rmSync(folder, { recursive: true });
  });
  return folder;
}

/** An application whose only image is an archive, under a name of the caller's, and a store that has just that. */
async function archived(t: TestContext, reference: (docker: TestDocker, registryPort: number) => string[]) {
  const docker = await dockerForTest(t);
  const registryPort = await freePort();
  const names = reference(docker, registryPort);
  const file = join(folderForTest(t), 'archive.tar');
  const ids = new Map<string, string>();
  for (const name of names) {
    await docker.plainImage(name, [MIB, MIB]);
    ids.set(name, await idOf(docker, name));
  }
  await docker.save(file, ...names);
  for (const name of names) await docker.removeImage(name);
  const openArtifact: ConfigStore['openArtifact'] = (bucket, key) => {
    const known = bucket === ARTIFACT.Bucket && key === ARTIFACT.Key;
    return Promise.resolve(known ? createReadStream(file) : null);
  };
  const wanted = `localhost:${registryPort}/${docker.app}:v1`;
  const idOfArchived = (name: string) => ids.get(name) ?? '';
  return { docker, registryPort, file, wanted, openArtifact, idOfArchived };
}

test('an image that the engine lacks is pulled, and what goes on is told', async (t) => {
  const docker = await dockerForTest(t);
  const reference = docker.reference('v1');
  await docker.plainImage(reference, [2 * MIB, MIB]);
  const image = await idOf(docker, reference);
  await docker.push(reference);
  await docker.removeImage(reference);
  const { id, progress } = await create(open(docker), config());
  assert.equal(await imageOf(docker, id), image);
  assert.equal(progress[0], `pulling ${reference}`);
  assert.equal(progress.at(-1), `pulled ${reference}: 2 of 2 layers, 3.0 of 3.0 MiB`);
});

test('an image that the engine has is taken without asking the registry', async (t) => {
  const docker = await dockerForTest(t);
  const registryPort = await freePort();
  await docker.plainImage(`localhost:${registryPort}/${docker.app}:v1`, [1]);
  const { progress } = await create(open(docker, { registryPort }), config());
  assert.deepEqual(progress, []);
});

test('an image that nobody has is named, with the words of the engine', async (t) => {
  const docker = await dockerForTest(t);
  await assert.rejects(create(open(docker), config()), {
    code: 'image_unavailable',
    message: new RegExp(`${docker.reference('v1')} can not be pulled: .*(not found|unknown)`),
  });
  assert.deepEqual(await docker.containerNames(), []);
});

test('an image can not be had from a registry that is not there', async (t) => {
  const docker = await dockerForTest(t);
  const runtime = open(docker, { registryPort: await freePort() });
  await assert.rejects(create(runtime, config()), { code: 'image_unavailable', message: /connection refused/ });
});

test('a name that is no image name never becomes a path of the engine', async (t) => {
  const docker = await dockerForTest(t);
  const wanted = config({ ContainerConfig: { Image: '../containers/x/json?a=b' } });
  await assert.rejects(create(open(docker), wanted), { code: 'image_unavailable', message: /is not the name/ });
});

test('an image is taken by its full name, also by digest', async (t) => {
  const docker = await dockerForTest(t);
  const reference = `localhost:${docker.registryPort}/${docker.app}/inner:other`;
  await docker.plainImage(reference, [MIB]);
  await docker.push(reference);
  const { RepoDigests, Id } = await docker.docker.getImage(reference).inspect();
  await docker.removeImage(reference);
  const [digest = ''] = RepoDigests;
  assert.match(digest, /@sha256:/);
  const { id } = await create(open(docker), config({ ContainerConfig: { Image: digest } }));
  assert.equal(await imageOf(docker, id), Id);
  t.after(async () => {
    await docker.removeImage(Id);
  });
});

test('ForceReload takes what the registry has now', async (t) => {
  const docker = await dockerForTest(t);
  const reference = docker.reference('v1');
  await docker.plainImage(reference, [MIB]);
  const newer = await idOf(docker, reference);
  await docker.push(reference);
  await docker.removeImage(reference);
  await docker.plainImage(reference, [MIB]);
  const runtime = open(docker);
  assert.notEqual(await imageOf(docker, (await create(runtime, config())).id), newer);
  assert.equal(await imageOf(docker, (await create(runtime, config({ ForceReload: true }))).id), newer);
});

test('ForceReload fails when the registry can not be asked, although the image is there', async (t) => {
  const docker = await dockerForTest(t);
  const registryPort = await freePort();
  await docker.plainImage(`localhost:${registryPort}/${docker.app}:v1`, [1]);
  const runtime = open(docker, { registryPort });
  await assert.rejects(create(runtime, config({ ForceReload: true })), { code: 'image_unavailable' });
  assert.deepEqual(await docker.containerNames(), []);
});

test('an image that no registry has is loaded from its archive', async (t) => {
  const { docker, registryPort, wanted, openArtifact, idOfArchived } = await archived(t, ({ app }, port) => [
    `localhost:${port}/${app}:v1`,
  ]);
  const runtime = open(docker, { registryPort, openArtifact });
  const { id, progress } = await create(runtime, config({ ImageArtifact: ARTIFACT }));
  assert.equal(await imageOf(docker, id), idOfArchived(wanted));
  assert.match(progress.at(-1) ?? '', /^loaded .* from images\/shop-v1.tar.gz: 2\.\d MiB$/);
});

test('a compressed archive is loaded, and named as the config wants it', async (t) => {
  const { docker, registryPort, file, wanted, idOfArchived } = await archived(t, ({ app }) => [
    `${app}:built-elsewhere`,
  ]);
  await pipeline(createReadStream(file), createGzip(), createWriteStream(`${file}.gz`));
  const openArtifact = () => Promise.resolve(createReadStream(`${file}.gz`));
  const { id } = await create(open(docker, { registryPort, openArtifact }), config({ ImageArtifact: ARTIFACT }));
  const image = await imageOf(docker, id);
  assert.equal(image, idOfArchived(`${docker.app}:built-elsewhere`));
  assert.equal(await idOf(docker, wanted), image);
});

test('ForceReload loads the archive anew, over an image of the same name', async (t) => {
  const { docker, registryPort, wanted, openArtifact, idOfArchived } = await archived(t, ({ app }) => [`${app}:else`]);
  await docker.plainImage(wanted, [1]);
  const runtime = open(docker, { registryPort, openArtifact });
  const { id } = await create(runtime, config({ ImageArtifact: ARTIFACT, ForceReload: true }));
  assert.equal(await imageOf(docker, id), idOfArchived(`${docker.app}:else`));
});

test('an archive of several images must hold the wanted one', async (t) => {
  const with2 = await archived(t, ({ app }, port) => [`localhost:${port}/${app}:v1`, `${app}:v2`]);
  const options = { registryPort: with2.registryPort, openArtifact: with2.openArtifact };
  const runtime = open(with2.docker, options);
  const { id } = await create(runtime, config({ ImageArtifact: ARTIFACT }));
  assert.equal(await imageOf(with2.docker, id), with2.idOfArchived(with2.wanted));
  await assert.rejects(create(runtime, config({ ImageArtifact: ARTIFACT, Revision: 'v3' })), {
    code: 'image_unavailable',
    message: /holds 2 images, but not .*:v3/,
  });
});

test('a missing archive is told beside why the image can not be pulled', async (t) => {
  const docker = await dockerForTest(t);
  const runtime = open(docker, { registryPort: await freePort() });
  await assert.rejects(create(runtime, config({ ImageArtifact: ARTIFACT })), {
    code: 'image_unavailable',
    message: /connection refused.*no archive of it at images\/shop-v1\.tar\.gz/,
  });
});

test('an archive that breaks off or is none loads nothing', async (t) => {
  const { docker, registryPort, wanted, file } = await archived(t, ({ app }, port) => [`localhost:${port}/${app}:v1`]);
  const breaksOff = () =>
    Promise.resolve(
      Readable.from(
        (async function* () {
          yield* createReadStream(file, { end: 100_000 });
          throw new Error('the connection to the store broke');
        })(),
      ),
    );
  const cutShort = () => Promise.resolve(createReadStream(file, { end: MIB }));
  writeFileSync(`${file}.none`, randomBytes(100_000));
  const none = () => Promise.resolve(createReadStream(`${file}.none`));
  const cases = [
    [breaksOff, /broke off: the connection to the store broke/],
    [cutShort, /can not be loaded: /],
    [none, /can not be loaded: /],
  ] as const;
  for (const [openArtifact, message] of cases) {
    const runtime = open(docker, { registryPort, openArtifact });
    await assert.rejects(create(runtime, config({ ImageArtifact: ARTIFACT })), { code: 'image_unavailable', message });
    assert.equal(await docker.hasImage(wanted), false);
    assert.deepEqual(await docker.containerNames(), []);
  }
});

test('a pull that is given up ends at once, and leaves nothing', async (t) => {
  const docker = await dockerForTest(t);
  const engine = await Gate.toSocket(t, docker.host.slice('unix://'.length));
  const registry = await Gate.toPort(t, docker.registryPort);
  const layer = Promise.withResolvers<void>();
  registry.answer = (asked, passed) => {
    if (!asked.includes('/blobs/') || passed < 10_000) return 'pass';
    layer.resolve();
    return 'hold';
  };
  await docker.plainImage(docker.reference('v1'), [MIB]);
  await docker.push(docker.reference('v1'));
  await docker.removeImage(docker.reference('v1'));
  const given = new AbortController();
  const options = { registryPort: registry.port, dockerHost: `tcp://127.0.0.1:${engine.port}` };
  const created = create(open(docker, options), config(), given.signal);
  await layer.promise;
  given.abort();
  await assert.rejects(created, { code: 'launch_failed', message: /broken off/ });
  // The engine ends a pull with the connection of who asked for it.
  await engine.idle();
  assert.deepEqual(await docker.containerNames(), []);
  assert.equal(await docker.hasImage(`localhost:${registry.port}/${docker.app}:v1`), false);
});

test('loading an archive that is given up ends at once, and leaves nothing', async (t) => {
  const docker = await dockerForTest(t);
  const archive = new Readable({ read() {} });
  archive.push(Buffer.alloc(512));
  const opened = Promise.withResolvers<void>();
  const openArtifact = () => {
    opened.resolve();
    return Promise.resolve(archive);
  };
  const given = new AbortController();
  const runtime = open(docker, { registryPort: await freePort(), openArtifact });
  const created = create(runtime, config({ ImageArtifact: ARTIFACT }), given.signal);
  await opened.promise;
  given.abort();
  await assert.rejects(created, { code: 'launch_failed', message: /broken off/ });
  assert.equal(archive.destroyed, true);
  assert.deepEqual(await docker.containerNames(), []);
});
