import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import * as net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { chunked, Random, seedOfRun } from '../proxy/support/random.ts';
import { workshop, type Workshop } from '../support/deployable.ts';
import { deploy, statusOf, until, untilQuiet } from '../support/deployments.ts';
import { Load } from '../support/load.ts';
import { openKindsOf } from '../support/processes.ts';
import { startProgram, type TestProgram } from '../support/program.ts';

/*
 * Clients and applications that break off anywhere, switches and reloads meanwhile, next to a load that must not notice.
 * 20 s; SOAK_SECONDS for more.
 */
const SECONDS = Number(process.env['SOAK_SECONDS'] ?? 20);
const RUDE_CLIENTS = 24;
const SWITCH_EVERY_MS = 1_500;
const RELOAD_EVERY_MS = 4_000;
/** No rude client stays longer (ms). */
const VISIT_LIMIT_MS = 3_000;
/** What may be left of a heap's growth: caches, compiled code, garbage that was not collected yet. */
const HEAP_GROWTH = 64 * 2 ** 20;

const data = Buffer.alloc(3_000_000, 'soak');

/** What a client does before it leaves: bytes that it sends, and after how many received bytes it goes. */
interface Visit {
  sends: Buffer[];
  leavesAfter: number;
}

const head = (text: string) => Buffer.from(`${text}\r\nHost: shop\r\n`);

const VISITS: Record<string, (random: Random) => Visit> = {
  'leaves in its head': (random) => {
    const whole = Buffer.from(`GET / HTTP/1.1\r\nHost: shop\r\nX-Long: ${'x'.repeat(500)}\r\n\r\n`);
    return { sends: random.split(whole.subarray(0, random.between(0, whole.length - 1)), 5), leavesAfter: 0 };
  },
  'leaves in its body': (random) => {
    const length = random.pick([10, 70_000, data.length]);
    const part = data.subarray(0, random.between(0, length - 1));
    const start = Buffer.concat([head('POST / HTTP/1.1'), Buffer.from(`Content-Length: ${length}\r\n\r\n`)]);
    return { sends: [start, ...random.split(part, 8)], leavesAfter: 0 };
  },
  'leaves in a chunk': (random) => {
    const whole = chunked(data.subarray(0, random.pick([10, 70_000, 2_000_000])), random);
    const start = Buffer.concat([head('PUT / HTTP/1.1'), Buffer.from('Transfer-Encoding: chunked\r\n\r\n')]);
    return {
      sends: [start, ...random.split(whole.subarray(0, random.between(0, whole.length - 1)), 8)],
      leavesAfter: 0,
    };
  },
  'leaves in the response': (random) => {
    const path = `/stream?size=65536&chunks=${random.pick([2, 40, 200])}&ms=${random.pick([0, 0, 10])}`;
    const type = random.pick(['', '&type=text/event-stream']);
    const sends = [Buffer.concat([head(`GET ${path}${type} HTTP/1.1`), Buffer.from('\r\n')])];
    return { sends, leavesAfter: random.between(1, 2_000_000) };
  },
  'leaves while the application thinks': () => {
    return { sends: [Buffer.from('GET /slow?ms=500 HTTP/1.0\r\n\r\n')], leavesAfter: 0 };
  },
  'is left by the application': (random) => {
    const path = `/break?after=${random.pick([0, 0, 500])}${random.pick(['', '&head'])}`;
    return { sends: [Buffer.concat([head(`GET ${path} HTTP/1.1`), Buffer.from('\r\n')])], leavesAfter: Infinity };
  },
  'sends nonsense': () => ({ sends: [Buffer.from('GET / HTTP/1.1\nHost: shop\r\n\r\n')], leavesAfter: Infinity }),
  'keeps its connection and leaves': (random) => {
    const one = Buffer.concat([head('GET / HTTP/1.1'), Buffer.from('\r\n')]);
    return { sends: Array<Buffer>(random.between(1, 4)).fill(one), leavesAfter: random.between(1, 2_000) };
  },
  'leaves a tunnel': () => {
    const key = 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n';
    const upgrade = Buffer.from(`Connection: Upgrade\r\nUpgrade: websocket\r\n${key}`);
    return { sends: [Buffer.concat([head('GET /ws HTTP/1.1'), upgrade])], leavesAfter: 50 };
  },
};

/** Resolves when the connection is closed. */
async function visit(address: string, { sends, leavesAfter }: Visit, random: Random): Promise<void> {
  const socket = net.connect({ port: Number(new URL(`http://${address}`).port), host: '127.0.0.1', noDelay: true });
  const reset = random.chance(0.5);
  const leave = () => void (reset ? socket.resetAndDestroy() : socket.destroy());
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  const limit = setTimeout(() => socket.destroy(), VISIT_LIMIT_MS);
  socket.on('error', () => {});
  let received = 0;
  socket.on('data', (chunk: Buffer) => {
    received += chunk.length;
    if (leavesAfter > 0 && received >= leavesAfter) leave();
  });
  const sendAll = async () => {
    for (const piece of sends) {
      if (socket.destroyed) return;
      socket.write(piece);
      await delay(random.between(0, 5));
    }
    if (leavesAfter === 0) leave();
  };
  await Promise.all([sendAll(), closed]);
  clearTimeout(limit);
}

/** Rude clients, switches and reloads until the time is up. Resolves to how often each thing was done. */
async function unrest(program: TestProgram, hashes: string[], seed: number): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  const done = (what: string) => (counts[what] = (counts[what] ?? 0) + 1);
  const end = performance.now() + SECONDS * 1_000;
  const going = () => performance.now() < end;
  const client = async (number: number) => {
    const random = new Random(seed + number);
    while (going()) {
      const kind = random.pick(Object.keys(VISITS));
      await visit(program.proxy, (VISITS[kind] as (random: Random) => Visit)(random), random);
      done(kind);
    }
  };
  const switches = async () => {
    for (let i = 1; going(); i++) {
      await deploy(program, hashes[i % hashes.length] as string);
      done('switch');
      await delay(SWITCH_EVERY_MS);
    }
  };
  // Only in the first half, so that workers grow old enough to show what they keep.
  const reloads = async () => {
    while (performance.now() < end - SECONDS * 500) {
      const from = program.log.length;
      program.signal('SIGHUP');
      await delay(RELOAD_EVERY_MS);
      const names = program.log.slice(from).map(({ msg }) => String(msg));
      assert.ok(names.length > 0, 'a reload is noted in the log');
      done('reload');
    }
  };
  await Promise.all([...Array.from({ length: RUDE_CLIENTS }, async (_, i) => client(i)), switches(), reloads()]);
  return counts;
}

async function setUp(t: TestContext, spool: string): Promise<{ program: TestProgram; shop: Workshop }> {
  const shop = workshop(t);
  const options = ['--buffer-memory', '64KiB', '--buffer-memory-total', '1MiB', '--spool-dir', spool];
  const program = await startProgram(t, {
    args: ['--runtime', 'process', '--workers', '2', ...options, shop.bucket, shop.prefix, 'shop'],
    stateDir: shop.stateDir,
  });
  t.after(() => rmSync(spool, { recursive: true, force: true }));
  return { program, shop };
}

test(`nothing is left over after ${SECONDS} s of aborts on both sides, switches and reloads, and a load beside them loses nothing`, async (t) => {
  const spool = mkdtempSync(join(tmpdir(), 'wunderspool-'));
  chmodSync(spool, 0o1777);
  const { program, shop } = await setUp(t, spool);
  const hashes = [shop.config('v1'), shop.config('v2')];
  await deploy(program, hashes[0] as string);
  const first = new Load(t, program.proxy, { connections: 8 });
  await first.answered(500);
  await first.stop();
  const { HeapSize } = await untilQuiet(program);
  const roles = program.processes().map(({ role }) => role);
  const open = openKindsOf(program.pids('worker')[0] ?? 0);

  const seed = seedOfRun();
  t.diagnostic(`PROPERTY_SEED=${seed}`);
  const load = new Load(t, program.proxy, { connections: 8, pause: 20, slowEvery: 50 });
  t.diagnostic(JSON.stringify(await unrest(program, hashes, seed)));
  const { outcomes, versions } = await load.stop();
  assert.deepEqual(Object.keys(outcomes), ['ok'], JSON.stringify(outcomes));
  assert.deepEqual(Object.keys(versions).sort(), ['v1', 'v2']);

  await until(
    async () => statusOf(program),
    ({ Containers, Workers }) => Containers.length === 1 && Workers.length === 2,
  );
  await untilQuiet(program);
  for (const pid of program.pids('worker')) {
    const { 'socket:': sockets = 0, ...others } = open;
    // One that has not yet asked a container as often keeps fewer connections to it.
    const now = await until(
      async () => Promise.resolve(openKindsOf(pid)),
      ({ 'socket:': its = 0, ...rest }) => its <= sockets && JSON.stringify(rest) === JSON.stringify(others),
    );
    t.diagnostic(JSON.stringify(now));
  }
  assert.deepEqual(readdirSync(spool), []);
  assert.deepEqual(
    program
      .processes()
      .map(({ role }) => role)
      .sort(),
    roles.sort(),
  );
  assert.deepEqual(
    program.log.filter(({ level }) => level === 'error' || level === 'fatal'),
    [],
  );

  // Garbage goes when something new is made.
  const light = new Load(t, program.proxy, { connections: 4, closeEvery: 0 });
  const after = await until(
    async () => statusOf(program),
    (status) => status.HeapSize < HeapSize + HEAP_GROWTH,
  );
  await light.stop();
  t.diagnostic(`heap of all processes: ${mib(HeapSize)} before, ${mib(after.HeapSize)} after`);
});

function mib(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}
