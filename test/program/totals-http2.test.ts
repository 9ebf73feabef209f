import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import * as http2 from 'node:http2';
import { request } from 'node:https';
import type { Socket } from 'node:net';
import { test, type TestContext } from 'node:test';
import { issue, writePair } from '../support/certificates.ts';
import { workshop } from '../support/deployable.ts';
import { deploy, statusOf, until } from '../support/deployments.ts';
import { connectionTo } from '../support/http.ts';
import { startProgram, type TestProgram } from '../support/program.ts';

const CODES = [200, 200, 201, 204, 304, 404, 418, 500, 503];
const SESSIONS = 4;
/** At a time on one connection. */
const STREAMS = 20;

/** A client that counts: many requests side by side on each of some connections. */
async function send(t: TestContext, origin: string, ca: Buffer, count: number): Promise<Record<string, number>> {
  const codes: Record<string, number> = {};
  let left = count;
  const sessions = Array.from({ length: SESSIONS }, () => http2.connect(origin, { ca }));
  t.after(() => sessions.forEach((session) => session.destroy()));
  const work = async (session: http2.ClientHttp2Session) => {
    while (left > 0) {
      left--;
      const stream = session.request({ ':path': `/status?code=${CODES[left % CODES.length]}` });
      const [{ ':status': code = 0 }] = (await once(stream, 'response')) as [
        http2.IncomingHttpHeaders & { ':status'?: number },
      ];
      stream.resume();
      await once(stream, 'end');
      codes[code] = (codes[code] ?? 0) + 1;
    }
  };
  await Promise.all(sessions.flatMap((session) => Array.from({ length: STREAMS }, async () => work(session))));
  await Promise.all(sessions.map(async (session) => new Promise<void>((resolve) => session.close(resolve))));
  return codes;
}

async function openTunnel(t: TestContext, program: TestProgram, ca: Buffer): Promise<Socket> {
  const headers = { host: 'localhost', connection: 'upgrade', upgrade: 'websocket', 'sec-websocket-version': '13' };
  const asked = request({ ...connectionTo(program.tls), servername: 'localhost', ca, headers, agent: false });
  asked.end();
  const [, tunnel] = (await once(asked, 'upgrade')) as [unknown, Socket];
  tunnel.on('error', () => {});
  t.after(() => tunnel.destroy());
  return tunnel;
}

function added(...all: Record<string, number>[]): Record<string, number> {
  const sum: Record<string, number> = {};
  for (const codes of all) for (const [code, count] of Object.entries(codes)) sum[code] = (sum[code] ?? 0) + count;
  return sum;
}

test('requests by HTTP/2 and tunnels over TLS are in the totals once, when they end and when workers are replaced', async (t) => {
  const shop = workshop(t);
  const pair = writePair(shop.environment, 'a', issue({ names: ['localhost'] }));
  const ca = readFileSync(pair[1] ?? '');
  const args = ['--runtime', 'process', '--workers', '2', '--tls', '127.0.0.1:0', ...pair, '--drain-timeout', '2s'];
  const program = await startProgram(t, { args: [...args, shop.bucket, shop.prefix, 'shop'], stateDir: shop.stateDir });
  await deploy(program, shop.config('v1'));
  const origin = `https://localhost:${program.tls.split(':').at(-1)}`;
  const settled = async (requests: number) =>
    until(
      async () => statusOf(program),
      ({ Totals, States }) => Totals.Requests === requests && States.active === 0 && States.idle === 0,
    );

  const first = await send(t, origin, ca, 3_000);
  assert.deepEqual((await settled(3_000)).Totals.StatusCodes, first);

  // A tunnel counts when it begins; nothing more when it ends, or is broken off with its worker.
  const [ended, broken] = [await openTunnel(t, program, ca), await openTunnel(t, program, ca)];
  const both = await settled(3_002);
  assert.equal(both.States.hijacked, 2);
  assert.equal(both.Containers[0]?.Upgraded, 2);
  assert.deepEqual(both.Totals.StatusCodes, added(first, { 101: 2 }));
  ended.destroy();
  await until(
    async () => statusOf(program),
    ({ States, Containers }) => States.hijacked === 1 && Containers[0]?.Upgraded === 1,
  );
  const before = both.Workers.map(({ Id }) => Id);
  const cut = once(broken, 'close');
  program.signal('SIGHUP');
  await cut;
  await until(
    async () => statusOf(program),
    ({ Workers, States }) =>
      States.hijacked === 0 && Workers.length === 2 && Workers.every(({ Id }) => !before.includes(Id)),
  );

  const second = await send(t, origin, ca, 3_000);
  const { Totals, Containers } = await settled(6_002);
  assert.deepEqual(Totals.StatusCodes, added(first, { 101: 2 }, second));
  assert.equal(Containers[0]?.InFlight, 0);
  const { ConnectionsAccepted, ConnectionsClosed } = Totals as typeof Totals & Record<string, unknown>;
  assert.deepEqual([ConnectionsAccepted, ConnectionsClosed], [2 * SESSIONS + 2, 2 * SESSIONS + 2]);
});
