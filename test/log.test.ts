import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { pathToFileURL } from 'node:url';
import { join } from 'node:path';
import { test } from 'node:test';

const log = pathToFileURL(join(import.meta.dirname, '../src/log.ts')).href;

function run(body: string): { status: number | null; lines: Record<string, unknown>[] } {
  const source = `import { createLogger, dieLoudly } from '${log}'; const log = createLogger('worker'); dieLoudly(log); ${body}`;
  const { status, stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', source], {
    encoding: 'utf8',
  });
  const lines = stdout.trim().split('\n').filter(Boolean);
  return { status, lines: lines.map((line) => JSON.parse(line) as Record<string, unknown>) };
}

for (const [what, body] of [
  ['an exception', "setTimeout(() => { throw new Error('out of order'); }, 1); setTimeout(() => {}, 10_000);"],
  ['a rejection', "void Promise.reject(new Error('out of order')); setTimeout(() => {}, 10_000);"],
] as const) {
  test(`${what} that nobody caught is logged with its stack and ends the process`, () => {
    const { status, lines } = run(body);
    assert.equal(status, 1);
    const [line] = lines;
    assert.equal(line?.['level'], 'fatal');
    const { message, stack } = line['err'] as { message: string; stack: string };
    assert.equal(message, 'out of order');
    assert.match(stack, /Error: out of order\n\s+at /);
  });
}

test('a reader of the log that goes away does not take the process along', () => {
  const source = `import { createLogger } from '${log}'; const log = createLogger('worker');
    for (let i = 0; i < 100; i++) log.info('x'.repeat(10_000));
    setTimeout(() => { for (let i = 0; i < 100; i++) log.info('x'); process.stderr.write('alive'); }, 200);`;
  const command = `"${process.execPath}" --input-type=module -e "$SOURCE" | true`;
  const { stderr } = spawnSync('/bin/sh', ['-c', command], {
    encoding: 'utf8',
    env: { ...process.env, SOURCE: source },
  });
  assert.equal(stderr, 'alive');
});
