import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { clientOptions } from '../src/client/command-line.ts';
import { EXIT } from '../src/client/exit-codes.ts';
import { options } from '../src/config.ts';
import { ERROR_CODES } from '../src/errors.ts';

const root = resolve(import.meta.dirname, '..');
const read = (name: string) => readFileSync(join(root, name), 'utf8');
const readme = read('README.md');
const architecture = read('ARCHITECTURE.md');

test('README has every option of the program in its table, and no other', () => {
  const table = readme.slice(readme.indexOf('| option |'), readme.indexOf('Every option is also'));
  const told = new Set(Array.from(table.matchAll(/`(--[a-z0-9-]+)/g), ([, name]) => name));
  // The meaning of an option may name another one.
  const known = new Set(options().map((option) => option.long));
  assert.deepEqual([...told].toSorted(), [...known].toSorted());
});

test("README has every option of the client's commands in its table, in their order, and every exit status", () => {
  const table = readme.slice(readme.indexOf('| option of commands |'), readme.indexOf('Each is `WUNDERPROXY_'));
  const told = Array.from(table.matchAll(/^\| (?:`-f`, )?`(--[a-z-]+)/gm), ([, name]) => name);
  assert.deepEqual(
    told,
    clientOptions().map((option) => option.long),
  );
  const statuses = readme.slice(readme.indexOf('| exit status |'), readme.indexOf('**One deploy at a time.**'));
  assert.deepEqual(
    Array.from(statuses.matchAll(/^\| (\d) /gm), ([, status]) => Number(status)),
    Object.values(EXIT),
  );
});

test('README gives the defaults that the program has', () => {
  for (const option of [...options(), ...clientOptions()]) {
    const shown = option.defaultValueDescription ?? option.defaultValue;
    if (typeof shown !== 'string' && typeof shown !== 'number') continue;
    const row = readme.split('\n').find((line) => line.startsWith('| ') && line.includes(`\`${option.long}`));
    assert.ok(row?.includes(`\`${shown}\``), `${option.long}: ${shown}`);
  }
});

test('README tells every error code, and no other', () => {
  const tables = readme.split('\n').filter((line) => /^\| \d{3}/.test(line));
  const told = new Set(
    tables.flatMap((row) => Array.from((row.split('|')[2] ?? '').matchAll(/`([a-z_]+)`/g), ([, code]) => code)),
  );
  assert.deepEqual([...told].toSorted(), [...ERROR_CODES].toSorted());
});

/** `docker-*.ts` in the text stands for all of them. */
function patternsIn(text: string): RegExp[] {
  return Array.from(text.matchAll(/`([\w/*-]+\.ts)`/g), ([, name]) => {
    return new RegExp(`(?:^|/)${(name ?? '').replaceAll('.', '\\.').replaceAll('*', '[\\w-]*')}$`);
  });
}

test('ARCHITECTURE names every source file', () => {
  const patterns = patternsIn(architecture);
  const unnamed = globSync('src/**/*.ts', { cwd: root }).filter(
    (file) => !patterns.some((pattern) => pattern.test(file)),
  );
  assert.deepEqual(unnamed, []);
});

test('every file that ARCHITECTURE and README name exists', () => {
  const files = globSync(['src/**/*.ts', 'test/**/*.ts', 'bench/**/*.ts', 'examples/**/*.ts'], { cwd: root });
  const missing = patternsIn(architecture).filter((pattern) => !files.some((file) => pattern.test(file)));
  assert.deepEqual(missing, []);
  for (const [, target] of readme.matchAll(/\]\(((?!https?:)[^)#]+)\)/g)) {
    assert.ok(globSync(target ?? '', { cwd: root }).length === 1, String(target));
  }
});

test('no merge has left its marks in a text', () => {
  for (const file of globSync(['*.md', 'views/*', 'examples/**/*.{ts,json,md}'], { cwd: root })) {
    assert.doesNotMatch(readFileSync(join(root, file), 'utf8'), /^(?:<{7}|={7}|>{7})(?: |$)/m, file);
  }
});
