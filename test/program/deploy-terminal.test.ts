import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { test } from 'node:test';
import { configFile, startFleet } from '../support/client.ts';
import { workshop } from '../support/deployable.ts';
import { statusOf, until } from '../support/deployments.ts';
import { exitOf } from '../support/processes.ts';
import { onTerminal } from '../support/pty.ts';

/** Everything that a terminal shows, and how the command ended. */
async function transcript(child: ChildProcess): Promise<{ code: number | null; shown: string }> {
  const pieces: Buffer[] = [];
  child.stdout?.on('data', (piece: Buffer) => void pieces.push(piece));
  const { code } = await exitOf(child);
  return { code, shown: Buffer.concat(pieces).toString() };
}

test('on a terminal a line for each machine is drawn over in place, with bar, time and what is going on', async (t) => {
  const shop = workshop(t);
  const { programs, on } = await startFleet(t, shop, 2);
  const { path } = configFile(shop, 'v1', { env: { START_DELAY: '1200' } });
  const size = { columns: 100, rows: 30, env: { LANG: 'C.UTF-8' } };
  const { code, shown } = await transcript(onTerminal(t, ['deploy', ...on, path], size));
  assert.equal(code, 0, shown);
  assert.match(shown, /\x1b\[2A\r/, 'two lines are gone over again');
  for (const { api } of programs) {
    assert.match(
      shown,
      new RegExp(`${api} \x1b\\[36m█+░+\x1b\\[0m .*s\x1b\\[0m .*waiting until it is healthy: connection refused`),
    );
    assert.match(shown, new RegExp(`${api} \x1b\\[32m█{20}\x1b\\[0m .*done: container [0-9a-f]{8}`));
  }
  const text = shown.replace(/\x1b\[[0-9;]*[A-Za-z]/g, '').replaceAll('\r', '');
  for (const line of text.split('\n')) assert.ok(line.length < 100, line);
  assert.match(text, /^v1 is in service on /m);
});

test('NO_COLOR and a terminal without Unicode are heeded', async (t) => {
  const shop = workshop(t);
  const { on } = await startFleet(t, shop, 1);
  const size = { columns: 80, rows: 24, env: { LANG: 'C', NO_COLOR: '1' } };
  const { code, shown } = await transcript(onTerminal(t, ['deploy', ...on, configFile(shop, 'v1').path], size));
  assert.equal(code, 0, shown);
  assert.doesNotMatch(shown, /\x1b\[\d+m/);
  assert.match(shown, /#{20} .*done/);
  assert.doesNotMatch(shown, /[^\x00-\x7f]/);
});

test('Ctrl-C on the terminal stops what was launched, and says what is where', async (t) => {
  const shop = workshop(t);
  const { programs, on } = await startFleet(t, shop, 1);
  const [program] = programs;
  assert.ok(program);
  const { path } = configFile(shop, 'v1', { env: { START_DELAY: '3000' } });
  const child = onTerminal(t, ['deploy', ...on, path], { columns: 100, rows: 30 });
  const ended = transcript(child);
  await until(
    async () => statusOf(program),
    ({ Containers }) => Containers.some(({ State }) => State === 'starting'),
  );
  child.stdin?.write('\x03');
  const { code, shown } = await ended;
  assert.equal(code, 1, shown);
  assert.match(shown, /stopping after the step that runs/);
  assert.match(shown, /serves nothing/);
  assert.deepEqual((await statusOf(program)).Containers, []);
});
