import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import type * as http from 'node:http';
import type * as net from 'node:net';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { bodyOf, digest, testData } from './support/data.ts';
import { Random } from './support/random.ts';
import { RawUpstream, Upstream } from './support/upstream.ts';
import { dial, reset, TestWorker } from './support/worker.ts';

/*
 * Clients and containers that do everything wrong, all at once, while the route changes: whatever is answered must be
 * right, and when they are gone nothing may be left of them. 4 s; SOAK_SECONDS for more.
 */

const SECONDS = Number(process.env['SOAK_SECONDS'] ?? 4);
const CLIENTS = 48;
/** What may be left of a heap's growth (MiB): compiled code, garbage that was not collected yet. */
const HEAP_GROWTH = 20;

const DATA = testData(3 * 2 ** 20);

/** Answers with so many bytes as the path says, or fails on the way as it says. */
function unreliable(request: http.IncomingMessage, response: http.ServerResponse): void {
  const [, kind = '', size = '0'] = (request.url ?? '').split('/');
  const body = DATA.subarray(0, Number(size));
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('error', () => {});
  request.on('end', () => {
    if (kind === 'digest') response.end(digest(Buffer.concat(chunks)));
    else if (kind === 'give') response.end(body);
    else if (kind === 'length') response.writeHead(200, { 'content-length': body.length }).end(body);
    else if (kind === 'slow') setTimeout(() => response.end(body), 40);
    else if (kind === 'events') response.writeHead(200, { 'content-type': 'text/event-stream' }).end(body);
    else if (kind === 'reset') request.socket.resetAndDestroy();
    else if (kind === 'break') {
      response.writeHead(200, { 'content-length': body.length + 1 });
      response.write(body, () => request.socket.resetAndDestroy());
    }
  });
}

/** One client's connection: sends what it likes and goes when it likes. */
class Visitor {
  readonly #port: number;
  readonly #random: Random;

  constructor(port: number, seed: number) {
    this.#port = port;
    this.#random = new Random(seed);
  }

  async visit(): Promise<void> {
    const random = this.#random;
    await random.pick([
      () => this.#ask(random.pick(['give', 'length', 'slow', 'events'])),
      () => this.#ask(random.pick(['give', 'length'])),
      () => this.#upload(),
      () => this.#upload(),
      () =>
        this.#leaveWithin(
          `GET /${random.pick(['slow', 'give', 'length', 'events'])}/${DATA.length} HTTP/1.1\r\nHost: a\r\n\r\n`,
        ),
      () => this.#leaveWithin(`POST /digest HTTP/1.1\r\nHost: a\r\nContent-Length: ${DATA.length}\r\n\r\n`),
      () => this.#leaveWithin('GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n'),
      () => this.#leaveWithin('GET /slow/5 HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(5)),
      () => this.#failed(random.pick(['reset', 'break'])),
      () =>
        this.#leaveWithin(
          random.pick([
            '',
            'G',
            'GET / HTTP/1.1\r\nHo',
            'nonsense\r\n\r\n',
            '\x16\x03\x01',
            'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nz',
          ]),
        ),
    ])();
  }

  /** Resolves with all that came up to the end of the connection; with nothing when it was reset. */
  async #exchange(head: string, body: Buffer[] = []): Promise<Buffer> {
    const socket = dial(this.#port);
    const chunks: Buffer[] = [];
    let broken = false;
    socket.on('error', () => (broken = true));
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    const closed = once(socket, 'close').catch(() => {});
    socket.write(head, 'latin1');
    Readable.from(body).pipe(socket, { end: false });
    await closed;
    return broken ? Buffer.alloc(0) : Buffer.concat(chunks);
  }

  async #ask(kind: string): Promise<void> {
    const size = this.#random.pick([0, 1, 1_000, 16_384, 100_000, DATA.length]);
    const received = await this.#exchange(`GET /${kind}/${size} HTTP/1.0\r\nHost: a\r\n\r\n`);
    if (received.subarray(0, 12).toString() !== 'HTTP/1.1 200') return assertOurError(received);
    const body = bodyOf(received);
    const announced = /\r\nContent-Length: (\d+)\r\n/.exec(received.subarray(0, 1_000).toString('latin1'))?.[1];
    // Cut within its body, which the client can tell by the length.
    if (announced !== undefined && body.length < Number(announced)) return;
    assert.ok(body.equals(DATA.subarray(0, size)), `${kind}: ${body.length} of ${size} bytes`);
  }

  async #upload(): Promise<void> {
    const random = this.#random;
    const data = DATA.subarray(0, random.pick([0, 1, 5_000, 70_000, 2 ** 20, DATA.length]));
    const pieces = random.split(data, 1 + random.below(20));
    const chunked = random.chance(0.5);
    const framing = chunked ? 'Transfer-Encoding: chunked' : `Content-Length: ${data.length}`;
    const body = chunked
      ? [
          ...pieces.flatMap((piece) => [Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from('\r\n')]),
          Buffer.from('0\r\n\r\n'),
        ]
      : pieces;
    const head = `PUT /digest HTTP/1.1\r\nHost: a\r\nConnection: close\r\n${framing}\r\n\r\n`;
    const received = await this.#exchange(head, body);
    if (received.subarray(0, 12).toString() !== 'HTTP/1.1 200') return assertOurError(received);
    assert.ok(received.toString('latin1').includes(digest(data)), `${data.length} bytes`);
  }

  async #failed(kind: string): Promise<void> {
    const size = this.#random.pick([0, 1_000, DATA.length]);
    const received = await this.#exchange(`GET /${kind}/${size} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
    if (received.subarray(0, 12).toString() !== 'HTTP/1.1 200') return assertOurError(received);
    assert.ok(bodyOf(received).length <= size, 'less than was announced');
  }

  /** Sends a beginning, reads some of the answer, and goes without a word. */
  async #leaveWithin(text: string): Promise<void> {
    const random = this.#random;
    const socket = dial(this.#port);
    socket.on('error', () => {});
    const closed = once(socket, 'close').catch(() => {});
    if (random.chance(0.5)) socket.resume();
    socket.write(text, 'latin1');
    if (text.startsWith('POST /digest')) socket.write(DATA.subarray(0, random.below(DATA.length)));
    await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, random.below(60)))]);
    if (random.chance(0.5)) reset(socket);
    else socket.destroy();
    await closed;
  }
}

/** A request may fail, but then with an error of ours or, once it had begun to be answered, with a broken connection. */
function assertOurError(received: Buffer): void {
  const text = received.toString('latin1');
  if (text !== '')
    assert.match(text, /\r\nWunderproxy-Error: (?:upstream_broken|drain_timeout)\r\n/, text.slice(0, 300));
}

function openFiles(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

function residentKib(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

test('after a crowd of clients and containers that do everything wrong nothing is left', async (t) => {
  const upstreams = [await Upstream.start(t, unreliable), await Upstream.start(t, unreliable)] as const;
  for (const { server } of upstreams) {
    // Idle connections are to be gone soon after the crowd.
    server.keepAliveTimeout = 2_000;
    server.on('upgrade', (_: http.IncomingMessage, socket: net.Socket) => {
      socket.on('error', () => {});
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n');
      socket.pipe(socket);
    });
  }
  const third = await RawUpstream.answering(t, 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
  const flags = ['--buffer-memory=256KiB', '--buffer-memory-total=8MiB', '--write-timeout=2s'];
  const worker = await TestWorker.start(t, { route: { active: upstreams[0].target }, flags });
  const pid = worker.process.pid ?? 0;
  await worker.message('stats');
  const before = openFiles(pid);
  /** Of the first half, in MiB: the second one must not add to it. */
  let firstHeap = Number.POSITIVE_INFINITY;

  let stopped = false;
  t.after(() => (stopped = true));

  for (let half = 0; half < 2; half++) {
    await worker.switchTo(upstreams[0].target);
    const end = Date.now() + SECONDS * 500;
    const open = () => Date.now() < end && !stopped;
    const crowd = Array.from({ length: CLIENTS }, async (_, i) => {
      const visitor = new Visitor(worker.port, half * CLIENTS + i + 1);
      while (open()) await visitor.visit();
    });
    const random = new Random(half);
    while (open()) {
      await worker.message('stats');
      await worker.switchTo(random.pick(upstreams).target);
      if (random.chance(0.3)) worker.send({ type: 'cut', id: random.pick(upstreams).target.id });
    }
    await Promise.all(crowd);
    await worker.switchTo(third.target);
    const stats = await worker.quiet();
    assert.deepEqual(stats.states, { new: 0, active: 0, idle: 0, hijacked: 0 });
    assert.equal(stats.connectionsAccepted, stats.connectionsClosed);
    await worker.statsWhen(() => openFiles(pid) <= before);
    const { heapUsed } = await worker.statsWhen((latest) => latest.heapUsed / 2 ** 20 < firstHeap + HEAP_GROWTH);
    firstHeap = Math.min(firstHeap, heapUsed / 2 ** 20);
    t.diagnostic(
      `${stats.requests} requests, heap ${Math.round(heapUsed / 2 ** 20)} MiB, resident ${residentKib(pid) >> 10} MiB`,
    );
    t.diagnostic(`status codes ${JSON.stringify(stats.statusCodes)}`);
  }
  assert.doesNotMatch(worker.output, /internal_error|"level":"(?:error|fatal)"/);
});
