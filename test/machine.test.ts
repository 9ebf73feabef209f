import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { isMachineId, machineIn, newMachineId } from '../src/machine.ts';

function directory(t: TestContext): string {
  const made = mkdtempSync(join(tmpdir(), 'machine-'));
  t.after(() => rmSync(made, { recursive: true }));
  return made;
}

describe('the id of a machine', () => {
  const names: [string, RegExp][] = [
    ['web1', /^web1-[0-9a-f]{8}$/],
    ['web1.shop.example', /^web1\.shop\.example-[0-9a-f]{8}$/],
    ['../../etc/passwd', /^etc-passwd-[0-9a-f]{8}$/],
    ['Größe 1', /^Gr--e-1-[0-9a-f]{8}$/],
    ['x'.repeat(64), /^x{40}-[0-9a-f]{8}$/],
    ['', /^machine-[0-9a-f]{8}$/],
  ];
  for (const [name, expected] of names) {
    test(`of a machine named ${JSON.stringify(name)} is fit for a key`, () => {
      const id = newMachineId(name);
      assert.match(id, expected);
      assert.ok(isMachineId(id));
    });
  }

  for (const text of ['', 'web1', '-12345678', '.web1-12345678', 'a/b-12345678', 'web1-1234567G', 'web1-12345678\n']) {
    test(`${JSON.stringify(text)} is none`, () => {
      assert.ok(!isMachineId(text));
    });
  }

  test('carries the name of this machine and is the same at the next start', (t) => {
    const state = directory(t);
    const first = machineIn(state);
    assert.equal(first.problem, null);
    assert.equal(first.id.slice(0, -8), newMachineId(hostname()).slice(0, -8));
    assert.deepEqual(machineIn(state), first);
    assert.deepEqual(readdirSync(state), ['machine-id']);
  });

  for (const damage of ['', '\0\0\0\0\0\0\0\0', '../../current\n']) {
    test(`is made anew when the file holds ${JSON.stringify(damage)}`, (t) => {
      const state = directory(t);
      writeFileSync(join(state, 'machine-id'), damage);
      const { id, problem } = machineIn(state);
      assert.equal(problem, null);
      assert.ok(isMachineId(id));
      assert.equal(readFileSync(join(state, 'machine-id'), 'utf8'), `${id}\n`);
      assert.deepEqual(readdirSync(state), ['machine-id']);
    });
  }

  test('is for this time only, and says why, when no file can be written', (t) => {
    const state = directory(t);
    mkdirSync(join(state, 'machine-id'));
    const first = machineIn(state);
    assert.ok(isMachineId(first.id));
    assert.match(first.problem ?? '', /EISDIR/);
    assert.notEqual(machineIn(state).id, first.id);
  });

  test('is one for all that start at once with the same directory', async (t) => {
    const state = directory(t);
    const source = fileURLToPath(new URL('../src/machine.ts', import.meta.url));
    const script = `import { machineIn } from ${JSON.stringify(source)}; console.log(machineIn(${JSON.stringify(state)}).id);`;
    const run = () => promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script]);
    const ids = (await Promise.all([run(), run(), run(), run()])).map(({ stdout }) => stdout.trim());
    assert.ok(isMachineId(ids[0] ?? ''));
    assert.deepEqual(new Set(ids).size, 1);
  });
});
