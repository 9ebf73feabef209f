import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, statfsSync } from 'node:fs';
import * as net from 'node:net';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { testData } from './support/data.ts';
import { Upstream } from './support/upstream.ts';
import { TestWorker } from './support/worker.ts';

const UPLOADS = 1_000;
/** Of each. 10 in a run of its own: a small machine's disk needs minutes for 10 GB. */
const MEGABYTES = Number(process.env['SLOW_UPLOAD_MB'] ?? 2);
const SIZE = MEGABYTES * 1_000_000;
const PIECE = 100_000;
const BUDGET_MIB = 64;
/**
 * What a connection may take beside the budget: the piece that was just received and the one that is on its way to the
 * disk or from it, its socket's own queues, and what the allocator has not given back.
 */
const PER_CONNECTION_KIB = 256;

function residentMib(pid: number | undefined): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1_024;
}

test(`a thousand slow uploads of ${MEGABYTES} MB at once stay within their memory, and arrive as they were sent`, async (t) => {
  const { bavail, bsize } = statfsSync(tmpdir());
  if (bavail * bsize < 1.2 * UPLOADS * SIZE)
    return t.skip(`needs ${1.2 * MEGABYTES} GB of disk in the folder for temporary files`);
  const data = testData(SIZE);
  const arrived: string[] = [];
  const upstream = await Upstream.start(t, (request, response) => {
    const hash = createHash('sha256').update(request.url ?? '');
    request.on('data', (chunk: Buffer) => hash.update(chunk));
    request.on('end', () => {
      arrived.push(hash.digest('hex'));
      response.end('taken');
    });
  });
  const flags = [
    `--buffer-memory-total=${BUDGET_MIB}MiB`,
    '--body-timeout=10m',
    '--body-rate=0',
    '--response-timeout=10m',
    // All end together, which is more than the application's queue for new connections takes at once.
    '--connect-timeout=10m',
  ];
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, flags });
  await worker.message('stats');
  const before = residentMib(worker.process.pid);
  let most = before;
  const watch = setInterval(() => (most = Math.max(most, residentMib(worker.process.pid))), 50);
  t.after(() => clearInterval(watch));

  const sockets = await Promise.all(
    Array.from({ length: UPLOADS }, async (_, i) => {
      const socket = net.connect({ port: worker.port, host: '127.0.0.1' });
      t.after(() => socket.destroy());
      await once(socket, 'connect');
      socket.write(`POST /${i} HTTP/1.1\r\nHost: a\r\nContent-Length: ${SIZE}\r\nConnection: close\r\n\r\n`);
      return socket;
    }),
  );
  // All of them get on together, a piece at a time.
  for (let at = 0; at < SIZE; at += PIECE) {
    const piece = data.subarray(at, at + PIECE);
    await Promise.all(sockets.map((socket) => new Promise((resolve) => socket.write(piece, resolve))));
    const { buffers, targets } = worker.stats ?? {};
    assert.ok((buffers?.memoryBytes ?? 0) <= BUDGET_MIB * 2 ** 20 + UPLOADS * PER_CONNECTION_KIB * 1_024);
    if (at < SIZE / 2) assert.equal(targets?.[0]?.requests, 0, 'no container has seen any of it');
  }
  await Promise.all(
    sockets.map(async (socket) => {
      let answer = '';
      for await (const chunk of socket) answer += String(chunk);
      assert.match(answer, /^HTTP\/1\.1 200 OK\r\n[^]*taken/);
    }),
  );
  const sent = Array.from({ length: UPLOADS }, (_, i) =>
    createHash('sha256').update(`/${i}`).update(data).digest('hex'),
  );
  assert.deepEqual(arrived.toSorted(), sent.toSorted());
  t.diagnostic(`resident ${Math.round(before)} MiB before, ${Math.round(most)} MiB at most`);
  assert.ok(most - before <= BUDGET_MIB + (UPLOADS * PER_CONNECTION_KIB) / 1_024, `${before} → ${most} MiB`);
  await worker.quiet();
});
