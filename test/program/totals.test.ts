import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CountingLoad } from '../support/counting-load.ts';
import { workshop } from '../support/deployable.ts';
import { deploy, type StatusAnswer, until } from '../support/deployments.ts';
import { startProgram } from '../support/program.ts';

interface Counts extends StatusAnswer {
  Totals: StatusAnswer['Totals'] & { ConnectionsAccepted: number; ConnectionsClosed: number };
  Latency: { Count: number };
  ContainerLatency: { Count: number };
  Requests: number;
  Recent: { Requests: number; Latency: { Count: number } }[];
  Deploys: { Event: string; Revision: string; By: string }[];
  Deaths: { Workers: number; Managers: number };
}

const CODES = [200, 200, 201, 204, 304, 404, 418, 500, 503];
const CONNECTIONS = 24;
/** How far back (ms) the last report of a killed worker may lie: its interval, and what a busy machine adds. */
const LAST_REPORT = 1_500;

test('the totals are those of a client that counts: workers replaced, a worker killed, a manager killed', async (t) => {
  const shop = workshop(t);
  const args = ['--runtime', 'process', '--workers', '3', shop.bucket, shop.prefix, 'shop'];
  const program = await startProgram(t, { args, stateDir: shop.stateDir });
  await deploy(program, shop.config('v1'));
  const paths = CODES.map((code) => `/status?code=${code}`);
  const load = new CountingLoad(t, program.proxy, CONNECTIONS);
  const status = async () => (await program.call('GET', '/status')).json<Counts>();
  const settled = async (requests: number) => until(status, ({ Totals }) => Totals.Requests === requests);

  await load.send(30_000, paths);
  const whole = await settled(30_000);
  assert.deepEqual(whole.Totals.StatusCodes, load.codes);
  assert.equal(whole.Totals.ConnectionsAccepted, CONNECTIONS);
  assert.deepEqual([whole.Latency.Count, whole.ContainerLatency.Count, whole.Requests], [30_000, 30_000, 30_000]);

  // All workers are replaced in the middle of it.
  const before = whole.Workers.map(({ Id }) => Id);
  await load.send(20_000, paths, (sent) => sent === 32_000 && program.signal('SIGHUP'));
  await until(status, ({ Workers }) => Workers.length === 3 && Workers.every(({ Id }) => !before.includes(Id)));
  const replaced = await settled(50_000);
  assert.equal(load.failed, 0);
  assert.deepEqual(replaced.Totals.StatusCodes, load.codes);
  assert.deepEqual(
    [replaced.Latency.Count, replaced.ContainerLatency.Count, replaced.Requests],
    [50_000, 50_000, 50_000],
  );
  assert.equal(replaced.Containers.length, 1);

  // One worker is killed half way through the rest.
  const [victim] = program.pids('worker');
  assert.ok(victim);
  let killedAt = 0;
  await load.send(50_000, paths, (sent) => {
    if (sent !== 75_000) return;
    killedAt = performance.now();
    process.kill(victim, 'SIGKILL');
  });
  const broken = new Set(load.lostAt.flatMap((at, line) => (at >= killedAt ? [line] : [])));
  const doubtful = load.answers.filter(({ line, at }) => {
    return broken.has(line) && at > killedAt - LAST_REPORT && at <= (load.lostAt[line] ?? 0);
  });
  const seen = load.answers.length;
  // Every worker that lives has reported once nothing changes any more.
  let last = { requests: 0, since: performance.now() };
  const after = await until(status, ({ Totals: { Requests: requests }, Deaths, States }) => {
    if (requests !== last.requests) last = { requests, since: performance.now() };
    return Deaths.Workers === 1 && States.active === 0 && performance.now() - last.since > 2 * LAST_REPORT;
  });
  // Every line that was broken lost one request at the most, and a request may have been counted whose answer was lost.
  const missing = seen - after.Totals.Requests;
  assert.ok(load.failed <= broken.size, `${load.failed} requests failed on ${broken.size} connections`);
  assert.ok(missing >= -load.failed && missing <= doubtful.length, `${missing} missing, ${doubtful.length} in doubt`);
  const counted = Object.values(after.Totals.StatusCodes).reduce((sum, count) => sum + count, 0);
  assert.equal(counted, after.Totals.Requests);
  assert.equal(after.Latency.Count, after.Totals.Requests);
  assert.equal(after.Totals.ConnectionsAccepted - after.Totals.ConnectionsClosed, after.States.idle);
  t.diagnostic(
    `${seen} answers counted by the client, ${load.failed} requests failed; ${missing} answers of the killed worker's last second are missing, of ${doubtful.length} in doubt`,
  );

  // The next manager knows all of it, and the hour has no gap.
  const [manager] = program.pids('manager');
  assert.ok(manager);
  process.kill(manager, 'SIGKILL');
  const later = await until(
    async () => status().catch(() => null),
    (answer) => answer !== null && answer.Deaths.Managers === 1 && answer.Containers.length === 1,
  );
  assert.ok(later);
  assert.deepEqual(later.Totals.StatusCodes, after.Totals.StatusCodes);
  assert.deepEqual([later.Requests, later.Latency.Count], [after.Requests, after.Latency.Count]);
  await load.send(1_000, paths);
  const sum = ({ Recent }: Counts) => Recent.reduce((total, { Requests }) => total + Requests, 0);
  const end = await until(status, (answer) => sum(answer) === after.Totals.Requests + 1_000);
  assert.equal(end.Totals.Requests, after.Totals.Requests + 1_000);
  assert.deepEqual(
    end.Deploys.map(({ Event, Revision }) => [Event, Revision]),
    [['switch', 'v1']],
  );
});
