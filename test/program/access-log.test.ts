import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { workshop } from '../support/deployable.ts';
import { deploy, statusOf, until } from '../support/deployments.ts';
import { Load } from '../support/load.ts';
import { runProgram, startProgram, type TestProgram } from '../support/program.ts';

type Line = Record<string, unknown>;

async function start(t: TestContext, log: (stateDir: string) => string, more: string[] = []): Promise<TestProgram> {
  const shop = workshop(t);
  mkdirSync(shop.stateDir);
  const args = ['--runtime', 'process', '--workers', '2', '--access-log', log(shop.stateDir), ...more];
  const program = await startProgram(t, { args: [...args, shop.bucket, shop.prefix, 'shop'], stateDir: shop.stateDir });
  await deploy(program, shop.config('v1'));
  return program;
}

function linesIn(file: string): Line[] {
  return readFileSync(file, 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Line);
}

test('every request has one line, over workers, a rotation of the file and the replacement of all workers', async (t) => {
  let file = '';
  const program = await start(t, (stateDir) => (file = join(stateDir, 'access.log')));
  assert.equal(statSync(file).mode & 0o777, 0o640);
  const load = new Load(t, program.proxy, { connections: 8, closeEvery: 2 });
  await load.answered(300);
  const before = (await statusOf(program)).Workers.map(({ Id }) => Id);
  renameSync(file, `${file}.1`);
  program.signal('SIGHUP');
  await until(
    async () => statusOf(program),
    ({ Workers }) =>
      Workers.length === 2 && Workers.every(({ Id, State }) => State === 'serving' && !before.includes(Id)),
  );
  await load.answered(300);
  const { records, outcomes } = await load.stop();
  assert.deepEqual(Object.keys(outcomes), ['ok']);
  await program.stop();
  const [old, fresh] = [linesIn(`${file}.1`), linesIn(file)];
  const targets = [...old, ...fresh].map(({ target, msg }) => `${String(msg)} ${String(target)}`);
  const count = (texts: string[]) => texts.toSorted();
  assert.equal(targets.length, records.length);
  assert.equal(new Set(count(targets)).size, records.length);
  assert.ok(old.length > 0 && fresh.length > 0);
  t.diagnostic(`${records.length} requests, ${old.length} lines in the old file, ${fresh.length} in the new one`);
});

test('on stdout the access log stands between the lines of the program, each whole', async (t) => {
  const program = await start(t, () => 'stdout', ['--log-query', 'off']);
  const load = new Load(t, program.proxy, { connections: 8 });
  await load.answered(500);
  const { records } = await load.stop();
  await program.stop();
  const requests = program.log.filter(({ msg }) => msg === 'request');
  assert.equal(requests.length, records.length);
  assert.deepEqual(
    program.log.filter(({ time }) => typeof time !== 'string'),
    [],
  );
  assert.deepEqual(
    requests.filter(({ target }) => String(target).includes('?')),
    [],
  );
});

test('a file that can not be opened is one line at the start, and later no reason to stop', async (t) => {
  const shop = workshop(t);
  const args = ['--runtime', 'process', '--access-log', join(shop.environment, 'missing/access.log')];
  const { code, stderr } = await runProgram(t, { args: [...args, shop.bucket, shop.prefix, 'shop'] });
  assert.equal(code, 1);
  assert.match(stderr, /^wunderproxy: --access-log .*missing\/access\.log: ENOENT.*\n$/);

  let folder = '';
  const program = await start(t, (stateDir) => {
    folder = join(stateDir, 'logs');
    mkdirSync(folder);
    return join(folder, 'access.log');
  });
  const from = program.log.length;
  renameSync(folder, `${folder}-moved`);
  program.signal('SIGHUP');
  await program.waitForLog(({ msg }) => msg?.startsWith('the access log can not be opened anew') === true, { from });
  assert.equal((await program.get('/after')).status, 200);
  await until(
    async () => Promise.resolve(linesIn(join(`${folder}-moved`, 'access.log'))),
    (lines) => lines.some(({ target }) => target === '/after'),
  );
});
