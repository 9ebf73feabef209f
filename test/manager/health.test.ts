import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { ProbeLog, probeUntilHealthy } from '../../src/manager/health.ts';
import type { Address } from '../../src/messages.ts';
import { freePort } from '../support/free-port.ts';

const PROBE = { path: '/up', headers: {} };

test('an application is asked once a second; whether it listens yet is looked at more often', async (t) => {
  const twice = new AbortController();
  let asked = 0;
  const unhealthy = createServer((_request, response) => {
    response.writeHead(500).end();
    if (++asked === 2) twice.abort();
  });
  await new Promise<void>((resolve) => unhealthy.listen(0, '127.0.0.1', resolve));
  t.after(() => unhealthy.close());
  const { port } = unhealthy.address() as AddressInfo;
  const closed = await freePort();
  /** When each of the two was about to be probed. */
  const probes: Record<number, number[]> = { [port]: [], [closed]: [] };
  const lead = (to: number) => (): Address => {
    probes[to]?.push(performance.now());
    return { host: '127.0.0.1', port: to };
  };

  const logs = [new ProbeLog(), new ProbeLog()] as const;
  const outcomes = await Promise.all([
    probeUntilHealthy(lead(port), PROBE, logs[0], twice.signal),
    probeUntilHealthy(lead(closed), PROBE, logs[1], twice.signal),
  ]);
  assert.deepEqual(outcomes, [false, false]);
  const [first = 0, second = 0] = probes[port] ?? [];
  // Timers are exact to a millisecond.
  assert.ok(second - first > 995, `${second - first} ms apart`);
  assert.deepEqual(
    logs.map(({ results }) => results.map(({ Result }) => Result)),
    [['500 Internal Server Error'], ['connection refused']],
  );
  assert.ok((probes[closed]?.length ?? 0) > asked, `${probes[closed]?.length} looks`);
});

test('an application that begins to listen is healthy with its first answer', async (t) => {
  const server = createServer((_request, response) => response.end());
  t.after(() => server.close());
  const port = await freePort();
  let looks = 0;
  const address = () => {
    if (++looks === 3) server.listen(port, '127.0.0.1');
    return { host: '127.0.0.1', port };
  };
  const log = new ProbeLog();
  assert.equal(await probeUntilHealthy(address, PROBE, log, t.signal), true);
  assert.match(log.toString(), /^\d× connection refused$/);
});
