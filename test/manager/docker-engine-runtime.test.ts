import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, afterEach, describe, test } from 'node:test';
import { createLogger } from '../../src/log.ts';
import { DockerRuntime } from '../../src/manager/docker-runtime.ts';
import type { LaunchConfig } from '../../src/manager/launch-config.ts';
import type { ContainerInfo } from '../../src/manager/runtime.ts';
import { Changes } from '../support/changes.ts';
import { dockerForTest } from '../support/docker.ts';
import { freePort } from '../support/free-port.ts';
import { get, untilItAnswers } from './runtime.contract.ts';

describe('containers on a Docker Engine', { timeout: 300_000 }, async () => {
  const docker = await dockerForTest({ after });
  await docker.appImage('v1');
  const runtime = open(docker.app);
  const changes = new Changes(runtime);
  after(() => {
    runtime.close();
  });
  afterEach(async () => {
    for (const { id } of await runtime.list()) await runtime.remove(id);
  });

  function open(app: string, environment = 'test'): DockerRuntime {
    return new DockerRuntime({
      app,
      environment,
      registryPort: docker.registryPort,
      openArtifact: () => Promise.resolve(null),
      log: createLogger('manager'),
      dockerHost: docker.host,
    });
  }

  async function create(
    containerConfig: Record<string, unknown> = {},
    hostConfig: Record<string, unknown> = {},
    more: Partial<LaunchConfig> = {},
  ): Promise<string> {
    return runtime.create({
      hash: 'c0ffee',
      config: {
        ContainerConfig: containerConfig,
        HostConfig: hostConfig,
        HealthCheckPath: '/up',
        Revision: 'v1',
        ...more,
      },
      environment: {},
      signal: new AbortController().signal,
      onProgress: () => {},
    });
  }

  async function launch(...given: Parameters<typeof create>): Promise<ContainerInfo> {
    const id = await create(...given);
    await runtime.start(id);
    const info = await runtime.inspect(id);
    assert.ok(info);
    await untilItAnswers(info);
    return info;
  }

  /** A network of this test alone, with addresses that can be asked for. */
  async function network(t: { after: (fn: () => Promise<void>) => void }, subnet: number): Promise<string> {
    const name = `${docker.app}-${randomBytes(3).toString('hex')}`;
    const made = await docker.docker.createNetwork({
      Name: name,
      IPAM: { Driver: 'default', Config: [{ Subnet: `198.19.255.${subnet}/28` }] },
    });
    t.after(async () => {
      await made.remove();
    });
    return name;
  }

  test('carry labels, and a name that says how far they have come', async () => {
    const id = await create({ Labels: { team: 'shop', 'wunderproxy.app': 'not this' } }, {}, { ContainerPort: 8_000 });
    const short = id.slice(0, 8);
    const inspected = await docker.docker.getContainer(id).inspect();
    assert.deepEqual(inspected.Config.Labels, {
      team: 'shop',
      'wunderproxy.app': docker.app,
      'wunderproxy.environment': 'test',
      'wunderproxy.hash': 'c0ffee',
      'wunderproxy.revision': 'v1',
      'wunderproxy.port': '8000',
    });
    const [name = ''] = await docker.containerNames();
    assert.match(name, new RegExp(`^${docker.app}-v1-[0-9a-f]{8}-launching$`));
    await runtime.mark(id, 'launched');
    assert.deepEqual(await docker.containerNames(), [`${docker.app}-v1-${short}`]);
    await runtime.mark(id, 'superseded');
    assert.deepEqual(await docker.containerNames(), [`${docker.app}-v1-${short}-superseded`]);
    await runtime.remove(id);
    assert.deepEqual(await docker.containerNames(), []);
  });

  test('are left alone under a name that a person gave them', async () => {
    const id = await create();
    await docker.docker.getContainer(id).rename({ name: `${docker.app}-precious` });
    assert.equal((await runtime.inspect(id))?.mark, 'launched');
  });

  test('that belong to somebody else stay out of sight', async () => {
    const id = await create();
    for (const other of [open(`${docker.app}2`), open(docker.app, 'another environment')]) {
      assert.equal(await other.inspect(id), null);
      assert.deepEqual(await other.list(), []);
    }
  });

  test('can not take a name that somebody else has', async () => {
    const id = await create();
    const name = `${docker.app}-v1-${id.slice(0, 8)}`;
    const foreign = await docker.docker.createContainer({ Image: docker.reference('v1'), name });
    await assert.rejects(runtime.mark(id, 'launched'), {
      code: 'launch_failed',
      message: new RegExp(`can not be named ${name}: .*already in use`),
    });
    assert.equal((await runtime.inspect(id))?.mark, 'launching');
    await foreign.remove();
  });

  test("get the config's own parts as they are", async () => {
    const id = await create(
      { Hostname: 'shop', User: '1000:1000', StopSignal: 'SIGINT', Entrypoint: ['/bin/node'], Cmd: ['-v'] },
      { Memory: 64 * 2 ** 20, ReadonlyRootfs: true, RestartPolicy: { Name: 'on-failure', MaximumRetryCount: 2 } },
    );
    const { Config, HostConfig } = await docker.docker.getContainer(id).inspect();
    const { Hostname, User, Entrypoint, Cmd } = Config;
    assert.deepEqual(
      { Hostname, User, Entrypoint, Cmd, StopSignal: (Config as { StopSignal?: string }).StopSignal },
      { Hostname: 'shop', User: '1000:1000', Entrypoint: ['/bin/node'], Cmd: ['-v'], StopSignal: 'SIGINT' },
    );
    assert.equal(HostConfig.Memory, 64 * 2 ** 20);
    assert.equal(HostConfig.ReadonlyRootfs, true);
    assert.deepEqual(HostConfig.RestartPolicy, { Name: 'on-failure', MaximumRetryCount: 2 });
  });

  test('that the engine refuses are refused in its words, without a secret', async () => {
    await assert.rejects(create({}, { Memory: 1 }), { code: 'launch_failed', message: /[Mm]inimum memory limit/ });
    await assert.rejects(create({ Env: ['=hunter2-secret'] }), (error: Error & { code: string }) => {
      assert.equal(error.code, 'launch_failed');
      assert.match(error.message, /invalid environment variable/);
      assert.doesNotMatch(JSON.stringify([error.message, error.stack, error.cause]), /hunter2/);
      return true;
    });
    assert.deepEqual(await docker.containerNames(), []);
  });

  test('are reached at their own address, on the port that the image exposes', async () => {
    await docker.appImage('port', { env: { PORT: '7777' }, changes: ['EXPOSE 7777/tcp'] });
    // The base image exposes another: two are no answer, so the default holds, and the one that is named wins.
    const info = await launch({ Env: ['PORT=9292'] }, {}, { Revision: 'port' });
    assert.equal(info.address?.port, 9_292);
    const named = await launch({}, {}, { Revision: 'port', ContainerPort: 7_777 });
    assert.equal(named.address?.port, 7_777);
  });

  test('are reached at their own address also where a port is published', async () => {
    const info = await launch({}, { PortBindings: { '9292/tcp': [{ HostIp: '127.0.0.1', HostPort: '' }] } });
    const { NetworkSettings } = await docker.docker.getContainer(info.id).inspect();
    assert.deepEqual(info.address, { host: NetworkSettings.Networks['bridge']?.IPAddress, port: 9_292 });
    assert.ok(Number(NetworkSettings.Ports['9292/tcp']?.[0]?.HostPort) > 0);
  });

  test("are reached on this host's address where they use its network", async () => {
    const port = await freePort();
    const info = await launch({ Env: [`PORT=${port}`] }, { NetworkMode: 'host' }, { ContainerPort: port });
    assert.deepEqual(info.address, { host: '127.0.0.1', port });
  });

  test('without a network are reached nowhere', async () => {
    const id = await create({}, { NetworkMode: 'none' });
    await runtime.start(id);
    const info = await runtime.inspect(id);
    assert.equal(info?.running, true);
    assert.equal(info.address, null);
  });

  test('are reached on the network that they were created on, and the report of another address comes by itself', async (t) => {
    const own = await network(t, 0);
    const info = await launch({}, { NetworkMode: own });
    assert.match(info.address?.host ?? '', /^198\.19\.255\./);
    const connected = docker.docker.getNetwork(own);
    await connected.disconnect({ Container: info.id });
    await changes.untilContainer(info.id, (now) => now?.address === null, 'the loss of its network');
    await connected.connect({
      Container: info.id,
      EndpointConfig: { IPAMConfig: { IPv4Address: '198.19.255.9' } },
    });
    await changes.untilContainer(info.id, (now) => now?.address?.host === '198.19.255.9', 'its new address');
    await untilItAnswers({ ...info, address: { host: '198.19.255.9', port: 9_292 } });
  });

  test('that their policy restarts are reported down and up, with the new start', async () => {
    const info = await launch({}, { RestartPolicy: { Name: 'always' } });
    const since = changes.seen.length;
    await get(info, '/exit?code=1');
    await changes.untilContainer(
      info.id,
      (now) => now?.running === true && now.startedAt !== info.startedAt,
      'its restart',
    );
    const reports = changes.seen.slice(since).filter((id) => id === info.id);
    assert.ok(reports.length >= 2, `die and start are reported: ${reports.length}`);
    const now = await runtime.inspect(info.id);
    assert.ok(now);
    await untilItAnswers(now);
    await runtime.stop(info.id, 1_000);
    assert.equal((await runtime.inspect(info.id))?.running, false);
  });

  test('that exit again and again neither run nor have exited for good', async () => {
    const id = await create({ Env: ['EXIT_CODE=4'] }, { RestartPolicy: { Name: 'always' } });
    await runtime.start(id);
    const container = docker.docker.getContainer(id);
    await changes.until(async () => (await container.inspect()).RestartCount > 0, 'its first restart');
    for (let looks = 0, down = 0; down < 3; looks++) {
      assert.ok(looks < 5_000, 'it is never seen between two restarts');
      const info = await runtime.inspect(id);
      assert.equal(info?.exitCode, null);
      if (info.running) continue;
      assert.equal(info.address, null);
      assert.deepEqual(info.lastExit, { status: 4, outOfMemory: false });
      down++;
    }
  });

  test('that somebody kills or removes are reported', async () => {
    const [killed, removed] = [await launch(), await launch()];
    await docker.docker.getContainer(killed.id).kill();
    await changes.untilContainer(killed.id, (now) => now?.exitCode === 137, 'the kill');
    await docker.docker.getContainer(removed.id).remove({ force: true });
    await changes.untilContainer(removed.id, (now) => now === null, 'the removal');
  });

  test('that the engine removes by itself are gone as they should be', async () => {
    const info = await launch({}, { AutoRemove: true });
    await runtime.stop(info.id, 5_000);
    await runtime.remove(info.id);
    assert.equal(await runtime.inspect(info.id), null);
  });

  test('take their anonymous volumes along', async () => {
    const id = await create({ Volumes: { '/data': {} } });
    const [mount] = (await docker.docker.getContainer(id).inspect()).Mounts;
    assert.ok(mount?.Name);
    await runtime.remove(id);
    await assert.rejects(docker.docker.getVolume(mount.Name).inspect(), { statusCode: 404 });
  });

  test('with a terminal have logs too', async () => {
    const info = await launch({ Tty: true });
    await get(info, '/log?text=%1B%5B1mon%20a%20terminal');
    for (let tries = 0; !(await runtime.logs(info.id, 50)).includes('on a terminal'); tries++) {
      assert.ok(tries < 200, JSON.stringify(await runtime.logs(info.id, 50)));
    }
  });

  test('whose log the engine does not keep have an empty one', async () => {
    const info = await launch({}, { LogConfig: { Type: 'none', Config: {} } });
    assert.deepEqual(await runtime.logs(info.id, 50), []);
  });
});
