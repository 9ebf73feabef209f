import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { workshop } from '../support/deployable.ts';
import { killIfThere, openFilesOf } from '../support/processes.ts';
import { startProgram } from '../support/program.ts';

const SECRET = 'only-for-root-4711';
const NOBODY = 65_534;

const PROBE = join(import.meta.dirname, '../support/inside-worker.js');

test('whoever takes a worker over finds no secret, no privilege, no engine and no state', async (t) => {
  if (process.getuid?.() !== 0) return t.skip('only root can start workers as another user');
  const shop = workshop(t);
  const folder = mkdtempSync(join(tmpdir(), 'wunderproxy-inside-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  // As a folder for temporary files is: workers spool there.
  chmodSync(folder, 0o1777);
  // As Docker's own: for root and its group.
  const engine = createServer((socket) => socket.destroy()).listen(join(folder, 'docker.sock'));
  await once(engine, 'listening');
  t.after(() => engine.close());
  chmodSync(join(folder, 'docker.sock'), 0o660);
  const token = join(folder, 'token');
  writeFileSync(token, SECRET, { mode: 0o600 });
  const cfg = join(folder, 'cfg');
  writeFileSync(cfg, `DATABASE_PASSWORD=${SECRET}\n`, { mode: 0o600 });
  const stateDir = join(folder, 'state');
  const copy = join(stateDir, 'copy');
  mkdirSync(stateDir, { mode: 0o700 });
  writeFileSync(copy, SECRET);
  const paths = [join(folder, 'docker.sock'), token, cfg, stateDir, copy, fileURLToPath(shop.bucket), '/etc/shadow'];
  const tries = join(folder, 'tries.json');
  writeFileSync(tries, JSON.stringify({ paths: [tries, ...paths] }));

  const program = await startProgram(t, {
    args: [
      ...['--runtime', 'process', '--workers', '2', '--api-token-file', token, '--cfg', cfg],
      ...[shop.bucket, shop.prefix, 'shop'],
    ],
    stateDir,
    env: { AWS_SECRET_ACCESS_KEY: SECRET, SOME_TOKEN: SECRET, TMPDIR: folder, NODE_OPTIONS: `--import=${PROBE}` },
  });
  const hash = shop.config('v1');
  for (const path of ['/launch', '/switch']) {
    const answer = await program.call('POST', path, hash, { Authorization: `Bearer ${SECRET}` });
    assert.equal(answer.status, 200, answer.text);
  }

  for (const pid of program.pids('worker')) {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    assert.match(status, new RegExp(`^Uid:(?:\\t${NOBODY}){4}$`, 'm'));
    assert.match(status, new RegExp(`^Gid:(?:\\t${NOBODY}){4}$`, 'm'));
    assert.match(status, /^Groups:\s*$/m);
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapAmb']) assert.match(status, new RegExp(`^${set}:\\t0+$`, 'm'));
    assert.ok(!readFileSync(`/proc/${pid}/environ`, 'utf8').includes(SECRET));
    assert.ok(!readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(SECRET));
    const inherited = openFilesOf(pid).filter((name) => paths.some((path) => name.startsWith(path)));
    assert.deepEqual(inherited, []);

    // With Node's own answer to this signal others of the same user could give it commands.
    assert.ok(killIfThere(pid, 'SIGUSR1'));
    const from = program.log.length;
    const tried = program.waitForLog((line) => line.msg === 'tried' && line.pid === pid, { from });
    assert.ok(killIfThere(pid, 'SIGUSR2'));
    const found = await tried;
    assert.equal(found['debugger'], null);
    assert.equal(found['root'], 'EPERM');
    assert.equal(found['groups'], 'EPERM');
    assert.ok(!JSON.stringify(found['env']).includes(SECRET));
    const outcomes = found['tried'] as Record<string, Record<string, string>>;
    assert.equal(outcomes[tries]?.['read'], 'done', 'what everybody may read can be read');
    for (const path of paths) {
      const each = Object.values(outcomes[path] ?? {});
      assert.ok(each.length > 0 && !each.includes('done'), `${path}: ${each.join(' ')}`);
    }
  }
});
