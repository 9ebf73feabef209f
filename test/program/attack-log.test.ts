import assert from 'node:assert/strict';
import { Agent } from 'node:http';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { workshop } from '../support/deployable.ts';
import { send } from '../support/http.ts';
import { descendantsOf, killIfThere, spawnForTest } from '../support/processes.ts';
import type { LogLine } from '../support/program.ts';

const bin = join(import.meta.dirname, '../../bin/wunderproxy');

/** More than the kernel, our side of the pipe and the program itself keep for a reader that is late. */
const LINES = 4_000;

test('a reader of the log that stops reading stops neither the traffic nor the API, and is told what it missed', async (t) => {
  const { bucket, prefix, stateDir } = workshop(t);
  const own = ['--proxy', '127.0.0.1:0', '--api', '127.0.0.1:0', '--state-dir', stateDir, '--workers', '1'];
  const program = spawnForTest(t, bin, [...own, '--runtime', 'process', bucket, prefix, 'shop'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
  });
  t.after(() => {
    for (const { pid } of descendantsOf(program.pid ?? 0)) killIfThere(pid, 'SIGKILL');
  });
  const { stdout } = program;
  assert.ok(stdout);
  const lines = createInterface({ input: stdout });
  /** The next line that matches. Many may come at once: every one is looked at. */
  const line = async (matches: (line: LogLine) => boolean): Promise<LogLine> =>
    new Promise((resolve) => {
      const look = (text: string) => {
        const parsed = JSON.parse(text) as LogLine;
        if (!matches(parsed)) return;
        lines.off('line', look);
        resolve(parsed);
      };
      lines.on('line', look);
    });
  const ready = await line(({ msg }) => msg === 'ready');
  const [proxy, api] = [String(ready['proxy']), String(ready['api'])];
  // Below readline, which would go on reading.
  lines.pause();
  stdout.pause();

  const agent = new Agent({ keepAlive: true, maxSockets: 8 });
  t.after(() => agent.destroy());
  // Each is a line of the manager's log.
  for (let asked = 0; asked < LINES; asked += 8) {
    const refused = await Promise.all(
      Array.from({ length: 8 }, async () => send(api, '/no-such-address', { agent, idleTimeout: 10_000 })),
    );
    assert.ok(refused.every(({ status }) => status === 404));
  }
  // As many as a worker logs in a second, and none is in service.
  const answers = await Promise.all(
    Array.from({ length: 40 }, async () => send(proxy, '/', { agent, idleTimeout: 10_000 })),
  );
  assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([503]));

  const told = line(({ msg }) => msg === 'log lines were lost: nobody read them in time');
  lines.resume();
  assert.ok(Number((await told)['lines']) > 0);
});
