import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { workshop, type Workshop } from '../support/deployable.ts';
import { deploy, statusOf, until, untilInFlight, versionServed } from '../support/deployments.ts';
import { connectionTo, send } from '../support/http.ts';
import { Load } from '../support/load.ts';
import { runProgram, startProgram, type TestProgram } from '../support/program.ts';

function argsFor(shop: Workshop, more: string[] = []): string[] {
  return ['--runtime', 'process', '--workers', '2', ...more, shop.bucket, shop.prefix, 'shop'];
}

async function setUp(t: TestContext, more: string[] = []): Promise<{ shop: Workshop; program: TestProgram }> {
  const shop = workshop(t);
  const program = await startProgram(t, { args: argsFor(shop, more), stateDir: shop.stateDir });
  return { shop, program };
}

test('killing the manager costs no request; the next one sees the same containers and goes on with drains', async (t) => {
  const { shop, program } = await setUp(t, ['--drain-timeout', '5m']);
  await deploy(program, shop.config('v1'));
  const draining = program.get('/slow?ms=6000');
  await untilInFlight(program, 1);
  // The drain lasts for as long as this test wants it to, however slow the machine is.
  const asked = request({
    ...connectionTo(program.proxy),
    headers: {
      connection: 'upgrade',
      upgrade: 'websocket',
      'sec-websocket-key': 'a2V5',
      'sec-websocket-version': '13',
    },
  }).end();
  const [, tunnel] = (await once(asked, 'upgrade')) as [unknown, Socket];
  t.after(() => tunnel.destroy());
  await deploy(program, shop.config('v2'));
  const before = await statusOf(program);
  assert.deepEqual(
    before.Containers.map((each) => [each.Revision, each.State]),
    [
      ['v1', 'draining'],
      ['v2', 'active'],
    ],
  );
  const load = new Load(t, program.proxy, { connections: 32 });
  await load.answered(500);

  const [manager] = program.pids('manager');
  assert.ok(manager);
  process.kill(manager, 'SIGKILL');
  const killedAt = performance.now();
  const after = await until(
    async () => statusOf(program),
    (status) => status.Containers.length === 2,
  );
  t.diagnostic(`the API was back after ${Math.round(performance.now() - killedAt)} ms`);
  assert.deepEqual(
    after.Containers.map((each) => [each.Id, each.State]),
    before.Containers.map((each) => [each.Id, each.State]),
  );
  assert.equal((await draining).status, 200);
  tunnel.destroy();
  await until(
    async () => statusOf(program),
    (status) => status.Containers.length === 1,
  );
  const { outcomes } = await load.stop();
  assert.deepEqual(Object.keys(outcomes), ['ok']);
});

test('killing a worker fails only its own requests; the next one serves the present route at once', async (t) => {
  const { shop, program } = await setUp(t);
  await deploy(program, shop.config('v1'));
  await deploy(program, shop.config('v2'));
  const load = new Load(t, program.proxy, { connections: 16, slowEvery: 0 });
  await load.answered(300);
  const [worker] = program.pids('worker');
  assert.ok(worker);
  process.kill(worker, 'SIGKILL');
  const killedAt = performance.now();
  await until(
    async () => statusOf(program),
    ({ Workers }) => Workers.length === 2 && Workers.every((each) => each.State === 'serving' && each.Pid !== worker),
  );
  t.diagnostic(`it was replaced after ${Math.round(performance.now() - killedAt)} ms`);
  await load.answered(300);
  const { records, outcomes, versions } = await load.stop();
  const failed = records.filter((each) => each.outcome !== 'ok');
  assert.ok(failed.length <= 16, JSON.stringify(outcomes));
  for (const each of failed) assert.match(each.outcome, /ECONNRESET|socket hang up|aborted|EPIPE/);
  assert.deepEqual(Object.keys(versions), ['v2']);
});

test('a reload under load fails no request', async (t) => {
  const { shop, program } = await setUp(t);
  await deploy(program, shop.config('v1'));
  const load = new Load(t, program.proxy, { connections: 32 });
  for (let i = 0; i < 5; i++) {
    await load.answered(300);
    const before = program.pids('worker');
    program.signal('SIGHUP');
    await until(
      async () => statusOf(program),
      ({ Workers }) => Workers.filter((each) => each.State === 'serving' && !before.includes(each.Pid)).length === 2,
    );
  }
  const { outcomes } = await load.stop();
  assert.deepEqual(Object.keys(outcomes), ['ok']);
});

test('an idle connection gets one more answer after a reload, with Connection: close', async (t) => {
  const { shop, program } = await setUp(t);
  await deploy(program, shop.config('v1'));
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => agent.destroy());
  const first = await program.get('/', { agent });
  assert.notEqual(first.headers.connection, 'close');
  const before = program.pids('worker');
  program.signal('SIGHUP');
  await until(
    async () => statusOf(program),
    ({ Workers }) => Workers.every((each) => each.State === 'retiring' || !before.includes(each.Pid)),
  );
  const second = await program.get('/', { agent });
  assert.equal(second.status, 200);
  assert.equal(second.headers.connection, 'close');
});

test('SIGTERM finishes what runs, takes nothing new, and leaves no process', async (t) => {
  const { shop, program } = await setUp(t);
  await deploy(program, shop.config('v1'));
  const slow = program.get('/slow?ms=1500');
  await untilInFlight(program, 1);
  const pids = program.processes().map((each) => each.pid);
  program.signal('SIGTERM');
  await program.waitForLog((line) => String(line.msg).startsWith('stopping'));
  await until(
    async () => refuses(program.proxy),
    (refused) => refused,
  );
  assert.equal((await slow).status, 200);
  assert.equal((await program.ended).code, 0);
  for (const pid of pids) assert.equal(existsSync(`/proc/${pid}`), false, `process ${pid}`);
});

async function refuses(address: string): Promise<boolean> {
  const { port } = connectionTo(address) as { port: number };
  const socket = connect(port, '127.0.0.1');
  const refused = await new Promise<boolean>((resolve) => {
    socket.once('connect', () => resolve(false));
    socket.once('error', () => resolve(true));
  });
  socket.destroy();
  return refused;
}

test('a second signal ends it at once', async (t) => {
  const { shop, program } = await setUp(t);
  await deploy(program, shop.config('v1'));
  program.get('/slow?ms=60000').catch(() => {});
  await untilInFlight(program, 1);
  const pids = program.processes().map((each) => each.pid);
  program.signal('SIGTERM');
  await program.waitForLog((line) => String(line.msg).startsWith('stopping'));
  // One Ctrl-C may arrive twice, so only what comes later is a second one.
  const again = setInterval(() => program.signal('SIGTERM'), 100);
  const { code } = await program.ended;
  clearInterval(again);
  assert.equal(code, 143);
  await until(
    async () => pids.filter((pid) => existsSync(`/proc/${pid}`)),
    (left) => left.length === 0,
  );
});

test('after a kill -9 of everything, the config in service is served again by the next start', async (t) => {
  const { shop, program } = await setUp(t);
  await deploy(program, shop.config('v1'));
  const children = program.processes().map((each) => each.pid);
  await program.kill();
  await until(
    async () => children.filter((pid) => existsSync(`/proc/${pid}`)),
    (left) => left.length === 0,
  );
  const next = await startProgram(t, { args: argsFor(shop), stateDir: shop.stateDir });
  await until(
    async () => next.get('/'),
    (answer) => answer.status === 200,
  );
  assert.equal(await versionServed(next), 'v1');
});

test('workers carry no secrets in their environment', async (t) => {
  const shop = workshop(t);
  const program = await startProgram(t, {
    args: argsFor(shop),
    stateDir: shop.stateDir,
    env: { AWS_SECRET_ACCESS_KEY: 'very-secret', SOME_TOKEN: 'very-secret' },
  });
  for (const pid of [...program.pids('worker'), ...program.pids('engine')]) {
    assert.equal(readFileSync(`/proc/${pid}/environ`, 'utf8').includes('very-secret'), false);
  }
});

test('what keeps it from starting is one line and an exit status', async (t) => {
  const shop = workshop(t);
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  t.after(() => taken.close());
  const address = taken.address();
  const port = typeof address === 'object' ? address?.port : 0;
  const file = join(shop.environment, 'file');
  writeFileSync(file, 'no = KEY\nbroken line\n');
  const empty = join(shop.environment, 'empty');
  writeFileSync(empty, '\n');
  const nowhere = join(shop.environment, 'nowhere');
  const cases: [string[], number, RegExp][] = [
    [['--proxy', `127.0.0.1:${port}`], 1, /--proxy 127\.0\.0\.1:\d+: the address is already in use/],
    [['--api', `127.0.0.1:${port}`], 1, /--api 127\.0\.0\.1:\d+: the address is already in use/],
    [['--state-dir', join(file, 'below')], 1, /--state-dir .*below/],
    [['--cfg', file], 1, /--cfg .*line 2 is not KEY=value/],
    [['--api-token-file', '/does/not/exist'], 1, /--api-token-file \/does\/not\/exist/],
    [['--api-token-file', empty], 1, /--api-token-file .*empty: the file is empty/],
    [['--api-token-file', file], 1, /--api-token-file .*file: line 1 holds no token/],
    [['--spool-dir', nowhere], 1, /--spool-dir .*nowhere/],
    [['--state-dir', '/proc/wunderproxy'], 1, /--state-dir \/proc\/wunderproxy: ENOENT/],
    [['--proxy', `unix:${nowhere}/p.sock`], 1, /--proxy unix:.*: there is no folder .*nowhere$/m],
    [['--user', 'nobody-of-that-name'], 1, /--user nobody-of-that-name: there is no such user/],
    [['--workers', 'many'], 2, /--workers/],
    [['--unknown'], 2, /--unknown/],
    [['--api', '0.0.0.0:0'], 2, /--api-token-file/],
  ];
  for (const [more, code, message] of cases) {
    const ended = await runProgram(t, { args: argsFor(shop, more) });
    assert.equal(ended.code, code, more.join(' '));
    assert.match(ended.stderr, message);
    assert.equal(ended.stderr.trim().split('\n').length, 1, ended.stderr);
    assert.equal(ended.stdout, '');
  }
});

test('unix sockets serve as listeners, and one that a crash left behind is taken over', async (t) => {
  const shop = workshop(t);
  const sockets = [
    '--proxy',
    `unix:${join(shop.environment, 'p.sock')}`,
    '--api',
    `unix:${join(shop.environment, 'a.sock')}`,
  ];
  const first = await startProgram(t, { args: argsFor(shop, sockets), stateDir: shop.stateDir });
  await deploy(first, shop.config('v1'));
  assert.equal(await versionServed(first), 'v1');
  const second = await runProgram(t, { args: argsFor(shop, sockets) });
  assert.match(second.stderr, /already in use/);
  await first.kill();
  const third = await startProgram(t, { args: argsFor(shop, sockets), stateDir: shop.stateDir });
  await until(
    async () => third.get('/'),
    (answer) => answer.status === 200,
  );
  assert.equal((await third.stop()).code, 0);
  assert.equal(existsSync(join(shop.environment, 'p.sock')), false);
});

test('started by root whose TMPDIR is its own alone, workers spool where everybody may', async (t) => {
  if (process.getuid?.() !== 0) return t.skip('only root can become another user');
  const shop = workshop(t);
  const own = join(shop.environment, 'tmp');
  mkdirSync(own, { mode: 0o700 });
  const program = await startProgram(t, {
    args: argsFor(shop, ['--user', 'nobody', '--buffer-memory', '1KiB']),
    stateDir: shop.stateDir,
    env: { TMPDIR: own },
  });
  await deploy(program, shop.config('v1'));
  const { status } = await send(program.proxy, '/', { method: 'POST', body: 'x'.repeat(100_000) });
  assert.equal(status, 200);
  assert.deepEqual(readdirSync(own), []);
});

test('a spool folder in which the user of the workers can write nothing keeps it from starting', async (t) => {
  if (process.getuid?.() !== 0) return t.skip('only root can become another user');
  const shop = workshop(t);
  const spool = join(shop.environment, 'spool');
  mkdirSync(spool, { mode: 0o700 });
  const open = join(shop.environment, '../..');
  for (const folder of [open, join(open, 'store'), shop.environment]) chmodSync(folder, 0o755);
  const ended = await runProgram(t, { args: argsFor(shop, ['--user', 'nobody', '--spool-dir', spool]) });
  assert.equal(ended.code, 1);
  assert.match(ended.stderr, /^wunderproxy: --spool-dir .*spool \(as the user of the workers\): EACCES.*\n$/);
  chmodSync(spool, 0o777);
  const program = await startProgram(t, {
    args: argsFor(shop, ['--user', 'nobody', '--spool-dir', spool]),
    stateDir: shop.stateDir,
  });
  assert.deepEqual(readdirSync(spool), []);
  // What was done as that user is over: files of the program are still its own.
  assert.equal(statSync(shop.stateDir).uid, 0);
  assert.equal((await program.stop()).code, 0);
});
