import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Upstream } from './support/upstream.ts';
import { RawClient, TestWorker } from './support/worker.ts';

const HOUR = 3_600_000;

/** Sets the clock by so many ms at SIGUSR2, for one process only: the machine's is not ours to set. */
const JUMPS = (ms: number) =>
  `const now = Date.now; process.on('SIGUSR2', () => { Date.now = () => now() + ${ms}; console.log('jumped'); });`;

async function workerWithClock(
  t: Parameters<typeof TestWorker.start>[0],
  jump: number,
  options: { upstream: Upstream; flags: string[] },
): Promise<{ worker: TestWorker; jump: () => Promise<void> }> {
  const worker = await TestWorker.start(t, {
    route: { active: options.upstream.target },
    flags: options.flags,
    env: { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(JUMPS(jump))}` },
  });
  return {
    worker,
    jump: async () => {
      worker.process.kill('SIGUSR2');
      while (!worker.output.includes('jumped')) await once(worker.process.stdout ?? worker.process, 'data');
    },
  };
}

test('a clock that is set forward ends nothing that still has time', async (t) => {
  const upstream = await Upstream.start(t, (request, response) => {
    request.resume().on('end', () => response.end('whole'));
  });
  const { worker, jump } = await workerWithClock(t, HOUR, { upstream, flags: [] });
  const [idle, head, body] = await Promise.all([1, 2, 3].map(async () => RawClient.connect(t, worker.port)));
  assert.ok(idle && head && body);
  idle.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  await idle.until(/whole$/);
  idle.received = Buffer.alloc(0);
  head.send('GET / HTTP/1.1\r\n');
  body.send('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo');
  await worker.statsWhen(({ states }) => states.idle === 1 && states.active === 2);
  await jump();
  // Deadlines are looked at once a second.
  for (let i = 0; i < 3; i++) await worker.message('stats');
  idle.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  head.send('Host: a\r\n\r\n');
  body.send('dy');
  for (const client of [idle, head, body]) assert.match(await client.until(/whole$/), /^HTTP\/1\.1 200 /);
});

test('a clock that is set back keeps nothing that has had its time', async (t) => {
  const upstream = await Upstream.start(t, (_, response) => response.end('whole'));
  const flags = ['--header-timeout=2s', '--body-timeout=2s', '--keep-alive-timeout=2s'];
  const { worker, jump } = await workerWithClock(t, -HOUR, { upstream, flags });
  const [idle, head, body] = await Promise.all([1, 2, 3].map(async () => RawClient.connect(t, worker.port)));
  assert.ok(idle && head && body);
  idle.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  await idle.until(/whole$/);
  head.send('GET / HTTP/1.1\r\n');
  body.send('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo');
  await worker.statsWhen(({ states }) => states.idle === 1 && states.active === 2);
  await jump();
  assert.match(await head.all(), /header_timeout/);
  assert.match(await body.all(), /body_timeout/);
  await idle.closed;
});
