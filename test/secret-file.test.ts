import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { readSecrets, readTokens } from '../src/secret-file.ts';

test('a file holds one token a line, the first one to be used; what is no token is told by its line alone', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'secrets-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'tokens');
  const read = (content: string) => {
    writeFileSync(file, content);
    return readTokens(file);
  };
  assert.deepEqual(read('one'), ['one']);
  assert.deepEqual(read('\r\n  two\t\r\n\none\ntwo\n'), ['two', 'one']);
  for (const content of ['', '\n \t\r\n']) assert.throws(() => read(content), new RangeError('the file is empty'));
  for (const bad of ['pass phrase', 'caf\u00e9', 'a\u0000b']) {
    assert.throws(
      () => read(`one\n\n${bad}\n`),
      new RangeError('line 3 holds no token: letters, digits and signs without spaces'),
    );
  }
  const many = Array.from({ length: 17 }, (_, n) => `token-${n}`);
  assert.equal(read(many.slice(1).join('\n')).length, 16);
  assert.throws(() => read(many.join('\n')), new RangeError('it holds 17 lines, at most 16 are taken'));
  assert.throws(() => readTokens(join(folder, 'not-there')), { code: 'ENOENT' });
});

test('a secret may be of any bytes but those that end a line', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'secrets-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'secret');
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, n) => n).filter((n) => n !== 10));
  writeFileSync(file, Buffer.concat([Buffer.from('x'), bytes, Buffer.from('x\n')]));
  const [{ text }] = readSecrets(file);
  assert.deepEqual(Buffer.from(text, 'latin1'), Buffer.concat([Buffer.from('x'), bytes, Buffer.from('x')]));
});
