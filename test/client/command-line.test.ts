import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  clientCall,
  clientOptions,
  COMMANDS,
  parseClientCommandLine,
  parseManagerUrl,
} from '../../src/client/command-line.ts';
import { CommandFailure } from '../../src/client/exit-codes.ts';
import { options as serverOptions } from '../../src/config.ts';
import { UsageError } from '../../src/option.ts';
import { runClient } from '../support/client.ts';

const HASH = 'd41d8cd98f00b204e9800998ecf8427e';

test('without options the local manager is asked, one machine at a time, and whoever calls deploys', () => {
  const { command, argument, options } = parseClientCommandLine('deploy', ['config.json']);
  assert.deepEqual([command, argument], ['deploy', 'config.json']);
  assert.deepEqual(options, {
    on: ['http://127.0.0.1:8001'],
    fleet: false,
    skipStale: false,
    batch: 1,
    rollbackOnFailure: false,
    tail: 100,
    follow: false,
    token: null,
    timeout: 600_000,
    lockWait: 0,
    lockLife: 60_000,
    by: `${userInfo().username}@${hostname()}`,
    json: false,
  });
});

test('managers are named again and again, with commas, or in the environment', (t) => {
  const on = (...argv: string[]) => parseClientCommandLine('status', argv).options.on;
  const both = ['http://web1:8001', 'https://web2'];
  assert.deepEqual(on('--on', 'http://web1:8001/', '--on=https://web2:443'), both);
  assert.deepEqual(on('--on', 'http://web1:8001,https://web2'), both);
  // One that is named twice is one machine, not two.
  assert.deepEqual(on('--on', 'http://web1:8001', '--on', 'http://web1:8001/,https://web2'), both);
  process.env['WUNDERPROXY_ON'] = both.join(',');
  t.after(() => delete process.env['WUNDERPROXY_ON']);
  assert.deepEqual(on(), both);
  assert.deepEqual(on('--on', 'unix:/run/wunderproxy.sock'), ['unix:/run/wunderproxy.sock']);
});

for (const url of [
  ...[
    'web1',
    'web1:8001',
    '127.0.0.1:8001',
    'ftp://web1',
    'http://',
    'http://web1/path',
    'http://web1?x',
    'http://web1#x',
  ],
  ...['unix:run/x', 'unix:', '', 'http://user:secret@web1'],
]) {
  test(`${JSON.stringify(url)} is no manager`, () => {
    assert.throws(
      () => parseManagerUrl(url),
      (error) => error instanceof RangeError && !error.message.includes('secret'),
    );
  });
}

const wrong: [string, ...string[]][] = [
  ['deploy'],
  ['deploy', 'one.json', 'two.json'],
  ['deploy', '--on', 'web1:8001', 'one.json'],
  ['deploy', '--batch', '0', 'one.json'],
  ['deploy', '--lock-life', '10ms', 'one.json'],
  ['deploy', '--timeout', '25d', 'one.json'],
  ['deploy', '--tail', '3', 'one.json'],
  ['status', HASH],
  ['status', '--batch', '2'],
  ['rollback', 'v42'],
  ['rollback', HASH.slice(1)],
  ['logs', '--tail', '0'],
  ['history', '--colour'],
];
for (const argv of wrong) {
  test(`${argv.join(' ')} is refused`, () => {
    const call = clientCall(argv);
    assert.ok(call);
    assert.throws(
      () => parseClientCommandLine(call.command, call.argv),
      (error) => error instanceof UsageError && error.exitCode === 2 && !error.message.includes('\n'),
    );
  });
}

test('options of commands may stand before the command', () => {
  assert.deepEqual(clientCall(['--json', '--on', 'http://web1:8001', 'logs', '-f', HASH]), {
    command: 'logs',
    argv: ['--json', '--on', 'http://web1:8001', '-f', HASH],
  });
  assert.deepEqual(clientCall(['--on=http://web1:8001', 'status'])?.command, 'status');
  assert.deepEqual(clientCall(['-f', 'logs'])?.argv, ['-f']);
});

test('a value of an option is no command', () => {
  assert.equal(clientCall(['--state-dir', 'status', 'bucket', 'prefix', 'app']), null);
  assert.equal(clientCall(['--by', 'status', 'deploy', 'config.json'])?.command, 'deploy');
});

test('every option of commands is one of no other meaning to `run`', () => {
  const known = new Set(serverOptions().flatMap(({ long, short }) => [long, short]));
  known.delete(undefined);
  const flags = clientOptions().flatMap(({ long, short }) => [long, short]);
  assert.deepEqual(
    flags.filter((flag) => known.has(flag)),
    [],
  );
});

const neither: [string[], RegExp][] = [
  [['--json'], /^--json is an option of commands.* deploy, status, history, rollback or logs$/],
  [['--on', 'http://web1', 'statsu'], /^--on is an option of commands/],
  [['--token-file=x', 'bucket', 'prefix', 'app'], /^--token-file is an option of commands/],
  [['statsu'], /^statsu is no command \(deploy, status, history, rollback or logs\)/],
];
for (const [argv, message] of neither) {
  test(`${argv.join(' ')} is refused, with the commands that there are`, () => {
    assert.throws(() => clientCall(argv), { name: 'UsageError', exitCode: 2, message });
  });
}

test('a hash may be written in capitals', () => {
  assert.equal(parseClientCommandLine('rollback', [HASH.toUpperCase()]).argument, HASH);
  assert.equal(parseClientCommandLine('logs', []).argument, null);
});

test('the token is read from its file, without line ends; a file without one is refused, and not shown', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'token-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'token');
  const token = () => parseClientCommandLine('status', ['--token-file', file]).options.token;
  assert.throws(token, (error) => error instanceof CommandFailure && error.exitCode === 1);
  writeFileSync(file, 'secret-token\n');
  assert.equal(token(), 'secret-token');
  for (const text of ['', '\n', 'two secret-words\n', 'secret\r\ninjected: 1\n']) {
    writeFileSync(file, text);
    assert.throws(token, (error) => error instanceof CommandFailure && !error.message.includes('secret-'));
  }
});

test('the program runs a command by its name alone; `run` reaches a bucket of that name', async (t) => {
  for (const command of COMMANDS) {
    const help = await runClient(t, [command, '--help']);
    assert.equal(help.code, 0, help.err);
    assert.match(help.out, new RegExp(`^Usage: wunderproxy ${command} `));
  }
  const run = await runClient(t, ['run', 'deploy', 'production', 'NotAnApp']);
  assert.equal(run.code, 2);
  assert.match(run.err, /app NotAnApp/);
});
