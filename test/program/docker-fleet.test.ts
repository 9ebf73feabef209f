import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { rawConfigFile, runClient } from '../support/client.ts';
import { versionServed } from '../support/deployments.ts';
import { DockerDaemon } from '../support/docker-daemon.ts';
import { dockerDeployment } from '../support/docker-deployment.ts';
import { Load } from '../support/load.ts';

/** Healthy everywhere, whatever a machine's --cfg says. */
const HEALTHY = ['HEALTH_STATUS=200'];

test(
  'two machines with an engine each: a deploy under load loses nothing, one that fails on one of them leaves both as they were',
  { timeout: 240_000 },
  async (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'fleet-'));
    const deployment = await dockerDeployment(t, join(dir, 'state-1'));
    const { app } = deployment.docker;
    const daemon = await DockerDaemon.start(join(dir, 'engine'));
    t.after(async () => {
      await daemon.stop();
      rmSync(dir, { recursive: true, force: true });
    });
    const cfg = join(dir, 'sick.cfg');
    writeFileSync(cfg, 'HEALTH_STATUS=500\n');
    const programs = await Promise.all([
      deployment.start(),
      deployment.start({
        dockerHost: daemon.host,
        stateDir: join(dir, 'state-2'),
        args: ['--cfg', cfg, '--launch-timeout', '20s'],
      }),
    ]);
    const on = programs.flatMap(({ api }) => ['--on', `http://${api}`]);
    const deploy = async (revision: string, Env: string[]) => {
      await deployment.docker.push(await deployment.docker.appImage(revision));
      const config = { ContainerConfig: { Env }, HealthCheckPath: 'up', Revision: revision };
      return runClient(t, ['deploy', ...on, rawConfigFile({ stateDir: join(dir, 'state-1') }, config).path]);
    };
    /** The application's containers in each engine, by image and state. */
    const containers = async () =>
      Promise.all(
        [deployment.docker.docker, daemon.docker].map(async (docker) => {
          const found = await docker.listContainers({ all: true, filters: { label: [`wunderproxy.app=${app}`] } });
          return found.map(({ Image, State }) => `${Image.slice(Image.lastIndexOf(':') + 1)} ${State}`);
        }),
      );

    const first = await deploy('v1', HEALTHY);
    assert.equal(first.code, 0, first.out + first.err);
    const loads = programs.map(({ proxy }) => new Load(t, proxy, { connections: 4, pause: 10 }));
    const second = await deploy('v2', HEALTHY);
    assert.equal(second.code, 0, second.out + second.err);
    assert.deepEqual(await containers(), [['v2 running'], ['v2 running']]);

    const third = await deploy('v3', []);
    assert.equal(third.code, 1, third.out + third.err);
    assert.match(third.err, new RegExp(`${programs[1]?.api}: The container was not healthy within 20s; .*500`));
    assert.deepEqual(await containers(), [['v2 running'], ['v2 running']]);
    assert.deepEqual(await Promise.all(programs.map(versionServed)), ['v2', 'v2']);
    assert.deepEqual(await deployment.history(), ['v1', 'v2']);
    for (const load of loads) {
      await load.answered(20);
      const { outcomes, versions } = await load.stop();
      assert.deepEqual(Object.keys(outcomes), ['ok']);
      assert.deepEqual(Object.keys(versions).toSorted(), ['v1', 'v2']);
    }
  },
);
