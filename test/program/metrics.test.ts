import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { workshop } from '../support/deployable.ts';
import { codeOf, deploy, statusOf, until } from '../support/deployments.ts';
import { readExposition, sumOf } from '../support/exposition.ts';
import type { TestProgram } from '../support/program.ts';
import { startProgram } from '../support/program.ts';
import { complaintsOfPromtool } from '../support/promtool.ts';

async function scrape(program: TestProgram, headers = {}): Promise<{ text: string; type: string | undefined }> {
  const answer = await program.call('GET', '/metrics', undefined, headers);
  assert.equal(answer.status, 200, answer.text);
  return { text: answer.text, type: answer.headers['content-type'] };
}

test('a scrape tells what /status tells, over deployments and failures, and promtool finds nothing to say', async (t) => {
  const shop = workshop(t);
  const args = ['--runtime', 'process', '--workers', '2', shop.bucket, shop.prefix, 'shop'];
  const program = await startProgram(t, { args, stateDir: shop.stateDir });
  const { text: empty, type } = await scrape(program);
  assert.equal(type, 'text/plain; version=0.0.4; charset=utf-8');
  assert.equal(complaintsOfPromtool(empty), '');
  assert.equal((await program.get('/')).status, 503);

  await deploy(program, shop.config('v1'));
  for (const code of [200, 200, 404]) await program.get(`/status?code=${code}`);
  await deploy(program, shop.config('v2'));
  await program.get('/break');
  await program.get('/status?code=201');
  const bad = shop.config('v3', { env: { EXIT_CODE: '1' } });
  assert.deepEqual(await codeOf(program, 'POST', '/launch', bad), [504, 'not_healthy']);
  const status = await until(
    async () => statusOf(program),
    ({ Totals, Containers }) => Totals.Requests === 6 && Containers.length === 1,
  );

  const { text } = await scrape(program);
  assert.equal(complaintsOfPromtool(text), '');
  const samples = readExposition(text);
  const sum = (name: string, labels?: Record<string, string>) => sumOf(samples, `wunderproxy_${name}`, labels);
  assert.equal(sum('requests_total'), 6);
  for (const [code, count] of Object.entries(status.Totals.StatusCodes))
    assert.equal(sum('requests_total', { code }), count);
  assert.equal(sum('requests_total', { revision: 'v1', code: '200' }), 2);
  assert.equal(sum('requests_total', { revision: 'v2', code: '201' }), 1);
  assert.equal(sum('requests_total', { revision: '', code: '503' }), 1);
  assert.equal(sum('request_duration_seconds_count'), 6);
  assert.equal(sum('container_duration_seconds_count', { revision: 'v1' }), 3);
  assert.equal(sum('request_errors_total', { code: 'upstream_broken' }), 1);
  assert.equal(sum('launches_total', { outcome: 'ok' }), 2);
  assert.equal(sum('launches_total', { outcome: 'not_healthy' }), 1);
  assert.equal(sum('switches_total', { outcome: 'ok' }), 2);
  assert.equal(sum('drains_total', { outcome: 'ok' }), 1);
  assert.equal(sum('active_container_info', { revision: 'v2' }), 1);
  assert.equal(sum('containers', { state: 'active' }), 1);
  assert.equal(sum('workers', { state: 'serving' }), 2);
  assert.equal(sum('process_deaths_total'), 0);
  for (const role of ['primary', 'manager', 'worker']) {
    assert.ok(sum('process_resident_memory_bytes', { role }) > 2 ** 20, role);
    assert.ok(sum('process_cpu_seconds_total', { role }) > 0, role);
  }

  const [worker] = program.pids('worker');
  assert.ok(worker);
  process.kill(worker, 'SIGKILL');
  await until(
    async () => readExposition((await scrape(program)).text),
    (now) =>
      sumOf(now, 'wunderproxy_process_deaths_total', { role: 'worker' }) === 1 &&
      sumOf(now, 'wunderproxy_requests_total') === 6 &&
      sumOf(now, 'wunderproxy_workers', { state: 'serving' }) === 2,
  );
});

test('metrics are for those who may call the API', async (t) => {
  const shop = workshop(t);
  const tokenFile = join(shop.environment, 'token');
  writeFileSync(tokenFile, 't0ken\n');
  const args = ['--runtime', 'process', '--workers', '1', '--api-token-file', tokenFile];
  const program = await startProgram(t, { args: [...args, shop.bucket, shop.prefix, 'shop'], stateDir: shop.stateDir });
  assert.equal((await program.call('GET', '/metrics')).status, 401);
  await scrape(program, { authorization: 'Bearer t0ken', accept: 'application/openmetrics-text,text/plain;q=0.5' });
});
