import assert from 'node:assert/strict';
import { test } from 'node:test';
import { workshop } from '../support/deployable.ts';
import { deploy, statusOf, until } from '../support/deployments.ts';
import { startProgram } from '../support/program.ts';

test('a burst of reloads starts no burst of processes, and costs no request', async (t) => {
  const { bucket, prefix, stateDir, config } = workshop(t);
  const program = await startProgram(t, {
    args: ['--runtime', 'process', '--workers', '2', bucket, prefix, 'shop'],
    stateDir,
  });
  await deploy(program, config('v1'));
  const before = program.pids('worker');
  let most = 0;
  for (let reloads = 0; reloads < 20; reloads++) {
    program.signal('SIGHUP');
    // Each request takes its time, too: the reloads come while workers start.
    assert.equal((await program.get('/slow?ms=25')).status, 200);
    most = Math.max(most, program.pids('worker').length);
  }
  // In each slot one that serves, one that starts, and one that has not finished yet.
  assert.ok(most <= 6, `${most} workers at once`);

  const { Workers } = await until(
    async () => statusOf(program),
    ({ Workers }) => Workers.length === 2 && Workers.every(({ State }) => State === 'serving'),
  );
  assert.ok(Workers.every(({ Pid }) => !before.includes(Pid)));
});
