import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { parseCommandLine, UsageError } from '../src/config.ts';
import { PeerFileError, PeerKeeper, readPeerFiles } from '../src/peer-keeper.ts';
import { memoryLog } from './support/memory-log.ts';
import { runProgram } from './support/program.ts';

const ARGUMENTS = ['my-bucket', 'production', 'shop'];

const parse = (...flags: string[]) => parseCommandLine([...flags, ...ARGUMENTS], '1.2.3');

function refused(flags: string[], message: RegExp): void {
  assert.throws(
    () => parse(...flags),
    (error) => {
      assert.ok(error instanceof UsageError, String(error));
      assert.equal(error.exitCode, 2);
      assert.match(error.message, message);
      return true;
    },
  );
}

test('peers add up, and need a secret', () => {
  assert.deepEqual(parse('--peer=http://a', '--peer=https://b', '--peer-secret-file=/s').peer, [
    'http://a',
    'https://b',
  ]);
  refused(['--peer=http://a'], /^--peer needs --peer-secret-file/);
  refused(['--peers-dns=a'], /^--peers-dns needs --peer-secret-file/);
});

test('answers by which an application says that it has enough to do are no reason to fall back', () => {
  refused(['--fallback-on=503'], /--fallback-on.*503 is how an application says that it has enough to do/);
});

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'peers-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

test('a secret is read without the white space around it, and must be long enough', (t) => {
  const file = join(folder(t), 'secret');
  const read = () => readPeerFiles(parse(`--peer-secret-file=${file}`));
  assert.throws(
    read,
    (error) => error instanceof PeerFileError && /^--peer-secret-file .*secret: .*ENOENT/.test(error.message),
  );
  writeFileSync(file, `  ${'s'.repeat(31)}\n`);
  assert.throws(read, /secret: line 1 holds 31 bytes, at least 32 are needed$/);
  writeFileSync(file, `  ${'s'.repeat(32)}\r\n`);
  assert.deepEqual(read(), { secrets: [Buffer.from('s'.repeat(32)).toString('base64')], ca: null });
});

test('of several secrets the first one signs; blank lines and repetitions count for nothing', (t) => {
  const file = join(folder(t), 'secrets');
  const read = () => readPeerFiles(parse(`--peer-secret-file=${file}`))?.secrets;
  const [a, b] = ['a'.repeat(40), 'b'.repeat(40)];
  writeFileSync(file, `\n  ${b}\r\n\n${a}\t\n${b}\n`);
  assert.deepEqual(
    read(),
    [b, a].map((text) => Buffer.from(text).toString('base64')),
  );
  writeFileSync(file, `${a}\n\nshort-and-secret\n`);
  assert.throws(read, (error) => {
    return error instanceof PeerFileError && /line 3 holds 16 bytes, at least 32 are needed$/.test(error.message);
  });
  writeFileSync(file, ' \n\n');
  assert.throws(read, /the file is empty$/);
  writeFileSync(file, Array.from({ length: 17 }, (_, i) => `${a}${i}`).join('\n'));
  assert.throws(read, /it holds 17 lines, at most 16 are taken$/);
});

test('a file that holds no authority is refused', (t) => {
  const secret = join(folder(t), 'secret');
  writeFileSync(secret, 's'.repeat(32));
  const ca = join(folder(t), 'ca.pem');
  writeFileSync(ca, 'nothing');
  assert.throws(
    () => readPeerFiles(parse(`--peer-secret-file=${secret}`, `--peer-ca=${ca}`)),
    /--peer-ca .*no certificate/,
  );
});

test('a file that turns bad leaves the secret in use, and never shows in the log', (t) => {
  const file = join(folder(t), 'secret');
  writeFileSync(file, 'a'.repeat(40));
  const { log, lines } = memoryLog();
  const keeper = new PeerKeeper(parse(`--peer-secret-file=${file}`), log);
  const first = keeper.material;
  writeFileSync(file, 'short-and-secret');
  assert.deepEqual(keeper.reload(), first);
  writeFileSync(file, 'b'.repeat(40));
  assert.deepEqual(keeper.reload()?.secrets, [Buffer.from('b'.repeat(40)).toString('base64')]);
  assert.deepEqual(
    lines.map(({ level, secrets }) => [level, secrets]),
    [
      ['error', undefined],
      ['info', 1],
    ],
  );
  assert.doesNotMatch(JSON.stringify(lines), /short-and-secret|aaaa|bbbb/);
});

test('the program is not started without its secret, or without a good one', async (t) => {
  const file = join(folder(t), 'secret');
  for (const [content, message] of [
    [null, /^wunderproxy: --peer-secret-file [^\n]*ENOENT[^\n]*\n$/],
    ['too-short', /^wunderproxy: --peer-secret-file [^\n]*line 1 holds 9 bytes, at least 32 are needed\n$/],
  ] as const) {
    if (content !== null) writeFileSync(file, content);
    const { code, stdout, stderr } = await runProgram(t, { args: ['--peer-secret-file', file, ...ARGUMENTS] });
    assert.deepEqual([code, stdout], [1, '']);
    assert.match(stderr, message);
  }
  const { code, stderr } = await runProgram(t, { args: ['--peer', 'http://10.0.0.2', ...ARGUMENTS] });
  assert.equal(code, 2);
  assert.match(stderr, /^wunderproxy: --peer needs --peer-secret-file[^\n]*\n$/);
});
