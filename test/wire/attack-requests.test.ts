import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type * as http from 'node:http';
import { test } from 'node:test';
import { Upstream } from '../proxy/support/upstream.ts';
import { RawClient, TestWorker } from '../proxy/support/worker.ts';

/** The most memory that a process has had, in MiB. */
function peakOf(pid: number): number {
  return Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1_024;
}

/** Answers with the number of bytes that came. */
function counting(request: http.IncomingMessage, response: http.ServerResponse): void {
  let length = 0;
  request.on('data', (chunk: Buffer) => (length += chunk.length));
  request.on('end', () => response.end(`${length} bytes`));
}

test('bodies in chunks of one byte cost little more than their bytes', async (t) => {
  const [clients, bytes] = [100, 60_000];
  const upstream = await Upstream.start(t, counting);
  const flags = ['--buffer-memory=1KiB', '--buffer-memory-total=1MiB'];
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, flags });
  await worker.message('stats');
  const before = peakOf(worker.process.pid ?? 0);
  const body = Buffer.from('1\r\nx\r\n'.repeat(bytes));
  const head = 'POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n';
  const all = await Promise.all(Array.from({ length: clients }, async () => RawClient.connect(t, worker.port)));
  for (const client of all) {
    client.send(head);
    client.send(body);
    client.send('0\r\n\r\n');
  }
  for (const client of all) assert.match(await client.all(), new RegExp(`^HTTP/1\\.1 200 [^]*${bytes} bytes`));
  const growth = peakOf(worker.process.pid ?? 0) - before;
  t.diagnostic(`${Math.round(growth)} MiB for ${clients} clients`);
  assert.ok(growth < 250, `${growth} MiB`);
});

test('fields are read right, however many names clients make up', async (t) => {
  const upstream = await Upstream.start(t, (request, response) => response.end(request.headers['x-known']));
  const worker = await TestWorker.start(t, { route: { active: upstream.target } });
  const client = await RawClient.connect(t, worker.port);
  for (let i = 0; i < 50; i++) {
    const made = Array.from({ length: 90 }, (_, field) => `X-${i}-${field}: y\r\n`).join('');
    client.received = Buffer.alloc(0);
    client.send(`GET / HTTP/1.1\r\nHost: a\r\n${made}X-Known: ${i}th\r\n\r\n`);
    await client.until(new RegExp(`\r\n\r\n${i}th$`));
  }
});
