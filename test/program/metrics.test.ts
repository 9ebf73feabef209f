import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { issue, writePair } from '../support/certificates.ts';
import { workshop } from '../support/deployable.ts';
import { codeOf, deploy, statusOf, until } from '../support/deployments.ts';
import { readExposition, sumOf } from '../support/exposition.ts';
import type { TestProgram } from '../support/program.ts';
import { startProgram } from '../support/program.ts';
import { complaintsOfPromtool } from '../support/promtool.ts';

/** When the certificate of a test ends, in ms since the epoch. */
const END = Date.parse('2100-01-01T00:00:00Z');

const portOf = (address: string) => Number(address.split(':').at(-1));

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

test('what deployments came to is counted on by the next manager, whatever they failed at', async (t) => {
  const shop = workshop(t);
  const args = ['--runtime', 'process', '--workers', '1', shop.bucket, shop.prefix, 'shop'];
  const program = await startProgram(t, { args, stateDir: shop.stateDir });
  await deploy(program, shop.config('v1'));
  await deploy(program, shop.config('v2'));
  await codeOf(program, 'POST', '/switch', '0'.repeat(32));
  await codeOf(program, 'POST', '/launch', '0'.repeat(32));
  await codeOf(program, 'POST', '/rollback', '0'.repeat(32));
  await until(
    async () => statusOf(program),
    ({ Containers }) => Containers.length === 1,
  );
  const counts = async () => {
    const samples = readExposition((await scrape(program)).text);
    const deploys = samples.filter(({ name }) => /_(?:launches|switches|rollbacks|drains)_total$/.test(name));
    return deploys.map(({ name, labels, value }) => `${name} ${labels['outcome']} ${value}`).toSorted();
  };
  const before = await counts();
  assert.deepEqual(before, [
    'wunderproxy_drains_total ok 1',
    'wunderproxy_launches_total launch_config_not_found 1',
    'wunderproxy_launches_total ok 2',
    'wunderproxy_rollbacks_total not_in_history 1',
    'wunderproxy_rollbacks_total ok 0',
    'wunderproxy_switches_total not_launched 1',
    'wunderproxy_switches_total ok 2',
  ]);
  const [manager] = program.pids('manager');
  assert.ok(manager);
  process.kill(manager, 'SIGKILL');
  await until(
    async () => statusOf(program).catch(() => null),
    (status) => status?.Containers.length === 1,
  );
  assert.notEqual(program.pids('manager')[0], manager);
  assert.deepEqual(await counts(), before);
  await deploy(program, shop.config('v3'));
  assert.ok((await counts()).includes('wunderproxy_switches_total ok 3'));
});

test('every certificate says when it ends, and every limit how often it decided', async (t) => {
  const shop = workshop(t);
  const pair = writePair(shop.environment, 'shop', issue({ names: ['shop.example'], notAfter: new Date(END) }));
  const options = ['--runtime', 'process', '--workers', '1', '--tls', '127.0.0.1:0', ...pair, '--plain-path', '/up'];
  const limits = ['--max-body', '10B', '--max-connections-per-ip', '2'];
  const program = await startProgram(t, {
    args: [...options, ...limits, shop.bucket, shop.prefix, 'shop'],
    stateDir: shop.stateDir,
  });
  const source = pair[1] ?? '';
  const tooLarge = await program.get('/up', { method: 'POST', body: 'x'.repeat(11) });
  assert.equal(tooLarge.status, 413);
  await until(
    async () => statusOf(program),
    ({ Totals, States }) => Totals.Requests === 1 && Object.values(States).every((count) => count === 0),
  );
  const idle = [1, 2].map(() => connect(portOf(program.proxy), '127.0.0.1'));
  t.after(() => idle.forEach((socket) => socket.destroy()));
  await until(
    async () => statusOf(program),
    ({ States }) => States.new === 2,
  );
  await assert.rejects(program.get('/up'));
  const samples = await until(
    async () => readExposition((await scrape(program)).text),
    (seen) => sumOf(seen, 'wunderproxy_limits_hit_total') === 2,
  );
  const sum = (name: string, labels: Record<string, string>) => sumOf(samples, `wunderproxy_${name}`, labels);
  assert.equal(sum('limits_hit_total', { limit: 'max-body' }), 1);
  assert.equal(sum('limits_hit_total', { limit: 'max-connections-per-ip' }), 1);
  assert.equal(sum('certificate_not_after_timestamp_seconds', { source, name: 'shop.example' }), END / 1_000);
  assert.equal(sum('certificate_file_ok', { source }), 1);

  writeFileSync(source, 'no certificate');
  program.signal('SIGHUP');
  const { text } = await until(
    async () => scrape(program),
    (scraped) => sumOf(readExposition(scraped.text), 'wunderproxy_certificate_file_ok', { source }) === 0,
  );
  assert.equal(complaintsOfPromtool(text), '');
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
