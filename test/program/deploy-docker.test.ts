import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { rawConfigFile, runClient } from '../support/client.ts';
import { dockerDeployment, sharedImages } from '../support/docker-deployment.ts';
import { Load } from '../support/load.ts';

test('with Docker: a deploy on two machines under load loses no request, and one that ends stops the next', async (t) => {
  const images = await sharedImages(t, ['v1', 'v2', 'v3']);
  const here = mkdtempSync(join(tmpdir(), 'state-'));
  const one = await dockerDeployment(t, here);
  const two = await dockerDeployment(t, mkdtempSync(join(tmpdir(), 'state-')), one.s3);
  const machines = [one, two];
  const programs = await Promise.all(machines.map(async (machine) => machine.start()));
  const on = programs.flatMap(({ api }) => ['--on', `http://${api}`]);
  const configFor = (revision: string, env: string[] = []) =>
    rawConfigFile(
      { stateDir: here },
      {
        Revision: revision,
        HealthCheckPath: 'up',
        ContainerConfig: { Image: images.reference(revision), Env: env },
      },
    ).path;
  const settledAt = async (container: string) =>
    Promise.all(machines.map(async (machine) => machine.settledAt(container)));

  const first = await runClient(t, ['deploy', ...on, configFor('v1')]);
  assert.equal(first.code, 0, first.err);
  const loads = programs.map(({ proxy }) => new Load(t, proxy, { connections: 3, pause: 10 }));
  const second = await runClient(t, ['deploy', ...on, configFor('v2')]);
  assert.equal(second.code, 0, second.err);
  for (const load of loads) {
    await load.answered(20);
    const { outcomes, versions } = await load.stop();
    assert.deepEqual(Object.keys(outcomes), ['ok']);
    assert.deepEqual(Object.keys(versions).toSorted(), ['v1', 'v2']);
  }
  await settledAt('v2-ID running');

  const third = await runClient(t, ['deploy', ...on, configFor('v3', ['EXIT_CODE=3'])]);
  assert.equal(third.code, 1, third.out + third.err);
  assert.match(third.err, /exited with status 3/);
  await settledAt('v2-ID running');

  const back = await runClient(t, ['rollback', ...on]);
  assert.equal(back.code, 0, back.err);
  await settledAt('v1-ID running');
});
