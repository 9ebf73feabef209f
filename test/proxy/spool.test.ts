import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { WunderproxyError, type ErrorCode } from '../../src/errors.ts';
import type { BodySink, BodySource } from '../../src/proxy/exchange.ts';
import { OverflowBuffer, type OverflowOwner } from '../../src/proxy/overflow.ts';
import { storeBody } from '../../src/proxy/request-body.ts';
import { Spool, SpoolUnavailable } from '../../src/proxy/spool.ts';
import { Sweeper } from '../../src/proxy/sweeper.ts';
import { contentOf, testData } from './support/data.ts';
import { Random } from './support/random.ts';

const EMPTY = { memoryBytes: 0, spoolBytes: 0, spoolFiles: 0 };
const KIB = 1_024;

/** No disk takes this long (ms), however busy it is. */
const PATIENCE = 30_000;

interface Limits {
  bodyMemory: number;
  totalMemory?: number;
  totalDisk?: number;
}

function spoolWith(t: TestContext, { bodyMemory, totalMemory = 2 ** 30, totalDisk = 2 ** 30 }: Limits) {
  const directory = mkdtempSync(join(tmpdir(), 'wunderproxy-test-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return { directory, spool: new Spool({ directory, bodyMemory, totalMemory, totalDisk }) };
}

/** Lets everything happen that is under way on the disk. */
async function settled(spool: Spool): Promise<void> {
  await turnsUntil(() => Object.values(spool.use).every((use) => use === 0));
}

/** Lets the event loop turn until it holds, but not for ever: whoever asks looks whether it does. */
async function turnsUntil(holds: () => boolean): Promise<void> {
  const limit = performance.now() + PATIENCE;
  while (!holds() && performance.now() < limit) await new Promise((resolve) => setImmediate(resolve));
}

test('a file that is full says so, keeps what it had and takes more when there is room again', async (t) => {
  const { spool } = spoolWith(t, { bodyMemory: 0, totalDisk: 10 });
  const file = spool.createFile();
  const other = spool.createFile();
  await file.append([Buffer.from('12345')]);
  await other.append([Buffer.from('abcd')]);
  await assert.rejects(file.append([Buffer.from('67')]), SpoolUnavailable);
  assert.deepEqual(spool.use, { memoryBytes: 0, spoolBytes: 9, spoolFiles: 2 });
  other.close();
  await file.append([Buffer.from('6'), Buffer.from('7')]);
  assert.equal((await file.read(0, 100)).toString(), '1234567');
  assert.equal((await file.read(5, 1)).toString(), '6');
  file.close();
  assert.deepEqual(spool.use, EMPTY);
});

test('a file that is closed while it is written gives everything back', async (t) => {
  const { spool } = spoolWith(t, { bodyMemory: 0 });
  const file = spool.createFile();
  await file.append([Buffer.alloc(100)]);
  const writing = file.append([Buffer.alloc(2 ** 20)]);
  file.close();
  await writing;
  assert.deepEqual(spool.use, EMPTY);
  await assert.rejects(file.append([Buffer.alloc(1)]));
  assert.deepEqual(spool.use, EMPTY);
});

test('where files can not be made without a name, they lose it at once, and leftovers are removed', async (t) => {
  const platform = Object.getOwnPropertyDescriptor(process, 'platform');
  Object.defineProperty(process, 'platform', { ...platform, value: 'elsewhere' });
  t.after(() => Object.defineProperty(process, 'platform', platform ?? {}));
  const { spool, directory } = spoolWith(t, { bodyMemory: 0 });
  writeFileSync(join(directory, '.wunderproxy-spool-left-by-a-crash'), 'x');
  writeFileSync(join(directory, 'of-somebody-else'), 'x');
  assert.equal(spool.check(), null);
  const file = spool.createFile();
  await file.append([Buffer.from('content')]);
  assert.deepEqual(readdirSync(directory), ['of-somebody-else']);
  assert.equal((await file.read(0, 7)).toString(), 'content');
  file.close();
});

/** A body in pieces, that waits when it is told to. */
class PiecewiseSource implements BodySource {
  readonly length: number | null;
  readonly #pieces: Buffer[];
  readonly #error: ErrorCode | null;
  #sink: BodySink | null = null;
  #waiting = false;

  /** With an error the body breaks after its last piece. */
  constructor(length: number | null, pieces: Buffer[], error: ErrorCode | null) {
    this.length = length;
    this.#pieces = pieces;
    this.#error = error;
  }

  read(sink: BodySink): void {
    this.#sink = sink;
    void this.#flow();
  }

  async #flow(): Promise<void> {
    while (!this.#waiting) {
      const piece = this.#pieces.shift();
      if (piece === undefined) {
        if (this.#error === null) this.#sink?.onBodyEnd();
        else this.#sink?.onBodyError(this.#error);
        return;
      }
      this.#waiting = this.#sink?.onBodyData(piece) === false;
      if (piece.length % 3 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
  }

  resume(): void {
    if (!this.#waiting) return;
    this.#waiting = false;
    void this.#flow();
  }
}

test('whatever a body is cut into, wherever its size lies, it is stored as it was, or not at all', async (t) => {
  const sizes = [
    0, 1, 100, 4_095, 4_096, 4_097, 8_192, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 131_072, 200_000,
  ];
  const sweeper = new Sweeper(1_000);
  for (let seed = 1; seed <= 600; seed++) {
    const random = new Random(seed);
    const { spool } = spoolWith(t, {
      bodyMemory: random.pick([0, 1, 4_096, 10_000, 65_536, 2 ** 20]),
      totalMemory: random.pick([0, 50_000, 2 ** 20]),
      totalDisk: random.pick([0, 100_000, 2 ** 30]),
    });
    const data = testData(random.pick(sizes) + random.pick([0, 0, 1]));
    const known = random.chance(0.5);
    const error = random.chance(0.1) ? ('client_closed' as const) : null;
    const pieces = random.split(data, 1 + random.below(random.pick([1, 3, 50])));
    const source = new PiecewiseSource(known ? data.length : null, pieces, error);
    const limits = { body: random.pick([2 ** 30, 2 ** 30, 100_000]), bodyRate: 0, bodyTimeout: 60_000 };
    try {
      const body = await storeBody(source, { spool, sweeper, limits });
      assert.equal(error, null);
      assert.equal(body.length, data.length);
      for (let i = 0; i < 2; i++) assert.ok((await contentOf(body)).equals(data), `seed ${seed}`);
      assert.ok(spool.use.memoryBytes <= spool.limits.totalMemory, `seed ${seed}: ${JSON.stringify(spool.use)}`);
      body.release();
      body.release();
    } catch (thrown) {
      assert.ok(thrown instanceof WunderproxyError, String(thrown));
      const expected = ['client_closed', 'body_too_large', 'buffers_full'];
      assert.ok(expected.includes(thrown.code), `seed ${seed}: ${thrown.code}`);
      if (thrown.code === 'body_too_large') assert.ok(data.length > limits.body);
      if (thrown.code === 'buffers_full')
        assert.ok(data.length > spool.limits.totalDisk || spool.limits.totalDisk === 0);
    }
    await settled(spool);
    assert.deepEqual(spool.use, EMPTY, `seed ${seed}`);
  }
});

/** Reads from a buffer as a client does that takes a while for each piece. */
class Reader implements OverflowOwner {
  readonly buffer: OverflowBuffer;
  readonly taken: Buffer[] = [];
  room = true;
  readable = true;

  constructor(spool: Spool) {
    this.buffer = new OverflowBuffer(spool, this);
  }

  onReadable(): void {
    this.readable = true;
  }

  onRoom(): void {
    this.room = true;
  }

  onLost(cause: unknown): void {
    throw cause;
  }

  /** Returns whether there was something. */
  take(): boolean {
    const chunk = this.buffer.shift();
    if (chunk !== null) this.taken.push(chunk);
    return chunk !== null;
  }
}

test('what overflows comes out in order and whole, in any rhythm, with or without room on disk', async (t) => {
  for (let seed = 1; seed <= 200; seed++) {
    const random = new Random(seed);
    const limits = {
      bodyMemory: random.pick([0, 10 * KIB, 64 * KIB]),
      totalDisk: random.pick([0, 100 * KIB, 2 ** 30]),
    };
    const { spool } = spoolWith(t, limits);
    const data = testData(random.below(800 * KIB));
    const pieces = random.split(data, 1 + random.below(60));
    const largest = Math.max(0, ...pieces.map(({ length }) => length));
    const reader = new Reader(spool);
    const abandoned = random.chance(0.2);
    const limit = performance.now() + PATIENCE;
    while ((pieces.length > 0 || !reader.buffer.empty) && !(abandoned && pieces.length < 3)) {
      assert.ok(performance.now() < limit, `seed ${seed} gets nowhere`);
      if (random.chance(0.5) && reader.room && pieces.length > 0) {
        reader.room = reader.buffer.push(pieces.shift() ?? Buffer.alloc(0));
      } else if (random.chance(0.5) || pieces.length === 0) {
        reader.take();
      }
      // Unwritten pieces may go over the limit until the one that did is refused more; then one piece read back.
      const most = limits.bodyMemory + 256 * KIB + largest + 64 * KIB + 256 * KIB + largest;
      assert.ok(spool.use.memoryBytes <= most, `seed ${seed}: ${spool.use.memoryBytes} bytes`);
      if (random.chance(0.3)) await new Promise((resolve) => setImmediate(resolve));
    }
    if (!abandoned) assert.ok(Buffer.concat(reader.taken).equals(data), `seed ${seed}`);
    reader.buffer.dispose();
    await settled(spool);
    assert.deepEqual(spool.use, EMPTY, `seed ${seed}`);
  }
});

test('with the memory for all used up, each producer has to wait for the disk with every piece', async (t) => {
  const { spool } = spoolWith(t, { bodyMemory: 64 * KIB, totalMemory: 100 * KIB });
  const readers = Array.from({ length: 20 }, () => new Reader(spool));
  const piece = Buffer.alloc(20 * KIB);
  for (let round = 0; round < 5; round++) {
    for (const reader of readers) if (reader.room) reader.room = reader.buffer.push(piece);
    assert.ok(spool.use.memoryBytes <= 100 * KIB + 20 * piece.length, `${spool.use.memoryBytes} bytes`);
  }
  await turnsUntil(() => readers.every(({ room }) => room));
  assert.ok(
    readers.every(({ room }) => room),
    'and goes on when it is there',
  );
  for (const { buffer } of readers) buffer.dispose();
  await settled(spool);
  assert.deepEqual(spool.use, EMPTY);
});

test('a producer that was told to wait is told to go on', async (t) => {
  const { spool } = spoolWith(t, { bodyMemory: 0 });
  const reader = new Reader(spool);
  const roomy = new Promise<void>((resolve) => (reader.onRoom = () => resolve()));
  assert.equal(reader.buffer.push(Buffer.alloc(300 * KIB)), true, 'it is being written');
  assert.equal(reader.buffer.push(Buffer.alloc(300 * KIB)), false);
  await roomy;
  let readable = new Promise<void>((resolve) => (reader.onReadable = () => resolve()));
  assert.equal(reader.take(), false, 'it has to be read back first');
  while (!reader.take()) {
    await readable;
    readable = new Promise<void>((resolve) => (reader.onReadable = () => resolve()));
  }
  reader.buffer.dispose();
  await settled(spool);
  assert.deepEqual(spool.use, EMPTY);
});
