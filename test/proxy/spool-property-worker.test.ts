import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type * as http from 'node:http';
import * as net from 'node:net';
import { test, type TestContext } from 'node:test';
import { openKindsOf } from '../support/processes.ts';
import { digest, testData } from './support/data.ts';
import { runCases } from './support/cases.ts';
import { chunked, type Random } from './support/random.ts';
import { type Answer, readAnswers } from './support/answers.ts';
import { Upstream } from './support/upstream.ts';
import { TestWorker } from './support/worker.ts';

/*
 * A worker with small budgets meets clients whose requests have sizes around every border, are cut anywhere, and are given
 * up anywhere, in front of an application that breaks off as well. PROPERTY_SEED and PROPERTY_CASE repeat one case.
 */

const BODY_MEMORY = 16_384;
const TOTAL_MEMORY = 40_960;
const MAX_BODY = 150_000;
const LIMITS = { cases: 2_500, time: 14_000, lines: 8 };

const BORDERS = [4_096, BODY_MEMORY, TOTAL_MEMORY, 65_536, MAX_BODY];
const SIZES = [0, 1, 2, ...BORDERS.flatMap((border) => [border - 1, border, border + 1])];
const source = testData(400_000);

/** One request and what must come of it. */
interface Plan {
  method: 'GET' | 'POST' | 'PUT';
  path: string;
  body: Buffer;
  announced: boolean;
  /** Throws when an answer is not as it must be; null: the connection ended before there was one. */
  judge(answer: Answer | null): void;
}

/** Does what the address says; everything that it answers tells its length, unless it is `chunked`. */
function application(request: http.IncomingMessage, response: http.ServerResponse): void {
  const { pathname, searchParams } = new URL(request.url ?? '', 'http://app');
  const size = Number(searchParams.get('size'));
  const hash = createHash('sha256');
  let bytes = 0;
  if (pathname === '/break-at-once') return void request.socket.destroy();
  request.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    hash.update(chunk);
  });
  request.on('end', () => {
    if (pathname === '/break') request.socket.destroy();
    if (pathname === '/echo') response.end(`${bytes} ${hash.digest('hex')}`);
    if (pathname === '/give') {
      if (!searchParams.has('chunked')) response.setHeader('content-length', size);
      response.write(source.subarray(0, Math.floor(size / 3)));
      response.end(source.subarray(Math.floor(size / 3), size));
    }
    if (pathname === '/give-half') {
      if (!searchParams.has('chunked')) response.setHeader('content-length', size);
      response.write(source.subarray(0, Math.floor(size / 2)), () => request.socket.destroy());
    }
  });
}

function echo(random: Random, largest: number): Plan {
  const sizes = SIZES.filter((size) => size <= largest);
  const body = source.subarray(0, random.chance(0.7) ? random.pick(sizes) : random.between(0, largest));
  return {
    method: random.pick(['POST', 'PUT']),
    path: '/echo',
    body,
    announced: random.chance(0.5),
    judge: (answer) => expect(answer, 200, `${body.length} ${digest(body)}`),
  };
}

function give(random: Random): Plan {
  const size = random.pick([0, 1, 16_383, 16_384, 16_385, 65_536, 130_000, 400_000]);
  return {
    ...{ method: 'GET', path: `/give?size=${size}${random.pick(['', '&chunked'])}`, body: source.subarray(0, 0) },
    announced: true,
    judge: (answer) => {
      expect(answer, 200, null);
      assert.ok(answer?.body.equals(source.subarray(0, size)), `${answer?.body.length} of ${size} bytes`);
    },
  };
}

function tooLarge(random: Random): Plan {
  const body = source.subarray(0, random.pick([MAX_BODY + 1, MAX_BODY + 50_000]));
  return { ...echo(random, 0), body, judge: (answer) => expect(answer, 413, /body_too_large/) };
}

function broken(random: Random): Plan {
  const path = random.pick(['/break', '/break-at-once']);
  return { ...echo(random, 60_000), path, judge: (answer) => expect(answer, 502, /upstream_broken/) };
}

/** Whatever has come when the application breaks off must not look whole. */
function brokenLate(random: Random): Plan {
  const path = `/give-half?size=${random.pick([2, 16_385, 200_000])}${random.pick(['', '&chunked'])}`;
  const judge = (answer: Answer | null) => {
    if (answer?.status === 502) return expect(answer, 502, /upstream_broken/);
    assert.ok(answer === null || !answer.whole, 'a part is passed on as the whole');
  };
  return { ...give(random), path, judge };
}

function expect(answer: Answer | null, status: number, body: string | RegExp | null): void {
  const text = answer?.body.toString('latin1', 0, 200) ?? '';
  assert.equal(answer?.status, status, text);
  assert.ok(answer?.whole, 'it is not whole');
  if (typeof body === 'string') assert.equal(text, body);
  else if (body !== null) assert.match(text, body);
}

function encode(plan: Plan, last: boolean, random: Random): Buffer {
  const { method, path, body, announced } = plan;
  const framing = announced ? `Content-Length: ${body.length}` : 'Transfer-Encoding: chunked';
  const head = `${method} ${path} HTTP/1.1\r\nHost: app\r\n${framing}\r\n${last ? 'Connection: close\r\n' : ''}\r\n`;
  return Buffer.concat([Buffer.from(head), announced ? body : chunked(body, random)]);
}

/** Some requests on one connection, pipelined or cut anyhow, of which the last may go wrong in some way. */
async function oneCase(port: number, random: Random): Promise<string> {
  const plans = Array.from({ length: random.between(0, 2) }, () => random.pick([echo, give])(random, MAX_BODY));
  const kind = random.pick([echo, echo, give, give, tooLarge, broken, brokenLate]);
  plans.push(kind(random, MAX_BODY));
  const wire = Buffer.concat(plans.map((plan, i) => encode(plan, i === plans.length - 1, random)));
  const leaves = random.chance(0.3) ? random.pick(['while sending', 'while reading'] as const) : null;

  const socket = net.connect({ port, host: '127.0.0.1', noDelay: true });
  const closed = once(socket, 'close').catch(() => {});
  socket.on('error', () => {});
  const chunks: Buffer[] = [];
  let received = 0;
  const enough = leaves === 'while reading' ? random.between(1, 100_000) : Infinity;
  socket.on('data', (chunk: Buffer) => {
    chunks.push(chunk);
    received += chunk.length;
    if (received >= enough) leave(socket, random);
    else if (random.chance(0.2)) pauseFor(socket, random.between(1, 10));
  });
  try {
    await Promise.race([sendAll(socket, wire, leaves === 'while sending', random), closed]);
    await closed;
  } finally {
    socket.destroy();
  }
  if (leaves !== null) return 'left';
  const answers = readAnswers(Buffer.concat(chunks));
  for (const [i, plan] of plans.entries()) plan.judge(answers[i] ?? null);
  assert.ok(answers.length <= plans.length, 'more answers than requests');
  return kind.name;
}

async function sendAll(socket: net.Socket, wire: Buffer, leaving: boolean, random: Random): Promise<void> {
  const pieces = random.split(wire, random.pick([1, 3, 25]));
  const last = leaving ? random.between(0, pieces.length - 1) : pieces.length;
  for (const [i, piece] of pieces.entries()) {
    if (i === last) return leave(socket, random);
    if (socket.destroyed) return;
    socket.write(piece);
    if (random.chance(0.7)) await new Promise((resolve) => setImmediate(resolve));
  }
}

function leave(socket: net.Socket, random: Random): void {
  if (socket.destroyed || socket.writableEnded) return;
  const way = random.pick(['reset', 'close', 'half-close'] as const);
  if (way === 'reset') socket.resetAndDestroy();
  else if (way === 'close') socket.destroy();
  else socket.end();
}

function pauseFor(socket: net.Socket, ms: number): void {
  socket.pause();
  setTimeout(() => socket.resume(), ms);
}

test('bodies of every size, cut anywhere and given up by either side anywhere, arrive exactly or not at all', async (t) => {
  const upstream = await Upstream.start(t, application);
  const flags = [
    ...[`--buffer-memory=${BODY_MEMORY}`, `--buffer-memory-total=${TOTAL_MEMORY}`, `--max-body=${MAX_BODY}`],
  ];
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, flags });
  const before = openKindsOf(worker.process.pid ?? 0);
  const counts = await runCases(LIMITS, async (random) => oneCase(worker.port, random));
  t.diagnostic(JSON.stringify(counts));

  await upstream.stop();
  const after = await worker.quiet();
  assert.deepEqual(after.states, { new: 0, active: 0, idle: 0, hijacked: 0 });
  assert.equal(after.connectionsAccepted, after.connectionsClosed);
  await untilSame(t, worker, before);
  assert.doesNotMatch(worker.output, /"level":"(?:error|fatal)"/);
});

/** Sockets to the application are closed a moment after it is gone. */
async function untilSame(t: TestContext, worker: TestWorker, before: Record<string, number>): Promise<void> {
  const now = () => openKindsOf(worker.process.pid ?? 0);
  for (let i = 0; i < 60 && JSON.stringify(now()) !== JSON.stringify(before); i++) await worker.message('stats');
  t.diagnostic(`open: ${JSON.stringify(now())}`);
  assert.deepEqual(now(), before);
}
