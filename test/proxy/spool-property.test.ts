import assert from 'node:assert/strict';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { BodySink, BodySource } from '../../src/proxy/exchange.ts';
import { type BodyDecoder, ChunkedDecoder, LengthDecoder, NEED_MORE } from '../../src/proxy/http1-body.ts';
import { OverflowBuffer } from '../../src/proxy/overflow.ts';
import { storeBody } from '../../src/proxy/request-body.ts';
import { Spool } from '../../src/proxy/spool.ts';
import { Sweeper } from '../../src/proxy/sweeper.ts';
import { WunderproxyError } from '../../src/errors.ts';
import { contentOf, testData } from './support/data.ts';
import { chunked, Random, seedOfRun } from './support/random.ts';

const LIMITS = { directory: tmpdir(), bodyMemory: 10_000, totalMemory: 25_000, totalDisk: 120_000 };
const LARGEST = 60_000;
const NOTHING = { memoryBytes: 0, spoolBytes: 0, spoolFiles: 0 };
const SIZES = [0, 1, 2, ...[4_096, 10_000, 25_000, LARGEST].flatMap((border) => [border - 1, border, border + 1])];
const source = testData(200_000);

/** Runs a property for so many cases of a seed; what fails says how to have it again. */
async function forCases(count: number, holds: (random: Random) => Promise<void>): Promise<void> {
  const seed = seedOfRun();
  for (let i = 0; i < count; i++) {
    try {
      await holds(new Random(seed + i));
    } catch (cause) {
      throw new Error(`failed with PROPERTY_SEED=${seed + i} (its first case)`, { cause });
    }
  }
}

test('however a chunked body is cut, its decoder gives its bytes and no others, and ends where it ends', async () => {
  await forCases(1_500, async (random) => {
    const body = source.subarray(0, random.chance(0.5) ? random.pick(SIZES) : random.between(0, 3_000));
    const next = Buffer.from('GET / HTTP/1.1\r\n');
    const wire = Buffer.concat([chunked(body, random), next]);
    const decoder = new ChunkedDecoder();
    const got: Buffer[] = [];
    let ended = -1;
    let at = 0;
    for (const piece of random.split(wire, 40)) {
      const used: number = decoder.decode(piece, (data) => got.push(data));
      if (used !== NEED_MORE) {
        assert.ok(used >= 0, 'it is well-formed');
        ended = at + used;
        break;
      }
      at += piece.length;
    }
    assert.equal(ended, wire.length - next.length);
    assert.ok(Buffer.concat(got).equals(body));
  });
});

/** A client that sends pieces, each a turn of the event loop after the last, and stops while it is told to. */
class Client implements BodySource {
  readonly length: number | null;
  readonly #pieces: Buffer[];
  readonly #decoder: BodyDecoder;
  readonly #leavesAfter: number | null;
  #sink: BodySink | null = null;
  #paused = false;
  #sent = 0;

  /** @param leavesAfter breaks the connection after so many pieces; null: never */
  constructor(pieces: Buffer[], length: number | null, leavesAfter: number | null) {
    this.#pieces = pieces;
    this.length = length;
    this.#decoder = length === null ? new ChunkedDecoder() : new LengthDecoder(length);
    this.#leavesAfter = leavesAfter;
  }

  read(sink: BodySink): void {
    this.#sink = sink;
    setImmediate(() => this.#turn());
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    setImmediate(() => this.#turn());
  }

  #turn(): void {
    const sink = this.#sink;
    if (sink === null) return;
    if (this.#sent === this.#leavesAfter) {
      this.#sink = null;
      sink.onBodyError('client_closed');
      return;
    }
    if (this.#paused) return;
    // What the socket had read before it was paused comes nevertheless.
    const used = this.#decoder.decode(this.#pieces[this.#sent++] ?? Buffer.alloc(0), (data) => {
      if (!sink.onBodyData(Buffer.from(data))) this.#paused = true;
    });
    if (used !== NEED_MORE) {
      this.#sink = null;
      sink.onBodyEnd();
      return;
    }
    if (!this.#paused || this.#sent === this.#leavesAfter) setImmediate(() => this.#turn());
  }
}

test('bodies of all sizes, cut anyhow and given up anywhere, are stored as they were sent or not at all', async () => {
  const spool = new Spool(LIMITS);
  const sweeper = new Sweeper(1_000);
  const limits = { body: LARGEST, bodyRate: 0, bodyTimeout: 60_000 };
  const seen = new Map<string, number>();
  const count = (what: string) => seen.set(what, (seen.get(what) ?? 0) + 1);

  const one = async (random: Random) => {
    const body = source.subarray(0, random.chance(0.7) ? random.pick(SIZES) : random.between(0, LARGEST + 5_000));
    const announced = body.length > 0 && random.chance(0.5);
    const pieces = random.split(announced ? body : chunked(body, random), 30);
    const leaves = random.chance(0.2) ? random.between(0, pieces.length - 1) : null;
    try {
      const stored = await storeBody(new Client(pieces, announced ? body.length : null, leaves), {
        limits,
        spool,
        sweeper,
      });
      assert.equal(leaves, null, 'a part is not taken for the whole');
      assert.ok(body.length <= LARGEST);
      assert.equal(stored.length, body.length);
      // Twice: it may have to be sent again.
      for (let i = random.between(1, 2); i > 0; i--) {
        assert.ok((await contentOf(stored)).equals(body));
      }
      stored.release();
      count(body.length > LIMITS.bodyMemory ? 'on disk' : 'small');
    } catch (error) {
      if (!(error instanceof WunderproxyError)) throw error;
      const expected = { client_closed: leaves !== null, body_too_large: body.length > LARGEST, buffers_full: true };
      assert.ok(expected[error.code as keyof typeof expected], error.code);
      count(error.code);
    }
  };

  await forCases(200, async (random) => {
    await Promise.all(Array.from({ length: 6 }, async () => one(new Random(random.between(0, 2 ** 31)))));
    await untilNothing(spool);
  });
  for (const what of ['on disk', 'small', 'client_closed', 'body_too_large', 'buffers_full'])
    assert.ok((seen.get(what) ?? 0) > 0, `no case of ${what} among ${JSON.stringify(Object.fromEntries(seen))}`);
});

test('what a container gives comes out in its order, with room on disk or without, until its client has left', async () => {
  const spool = new Spool(LIMITS);
  let held = 0;

  const one = async (random: Random) => {
    const body = source.subarray(0, random.pick([0, 1, 9_999, 10_000, 10_001, 50_000, 130_000, 200_000]));
    const given = random.split(body, random.pick([1, 5, 60]));
    const leavesAfter = random.chance(0.2) ? random.between(0, body.length) : Infinity;
    const wake = { container: () => {}, client: () => {} };
    const buffer = new OverflowBuffer(spool, {
      onReadable: () => wake.client(),
      onRoom: () => wake.container(),
      onLost: (cause) => assert.fail(String(cause)),
    });
    let ended = false;
    let left = false;
    const taken: Buffer[] = [];

    const container = async () => {
      for (const piece of given) {
        if (left) return;
        const room = new Promise<void>((resolve) => (wake.container = resolve));
        // One that was told to wait may have a piece on its way already.
        if (!buffer.push(piece) && random.chance(0.7)) {
          held++;
          await room;
        }
        if (random.chance(0.3)) await turn();
        wake.client();
      }
      ended = true;
      wake.client();
    };
    const client = async () => {
      for (let bytes = 0; bytes < leavesAfter;) {
        const readable = new Promise<void>((resolve) => (wake.client = resolve));
        const piece = buffer.shift();
        if (piece !== null) {
          taken.push(piece);
          bytes += piece.length;
          if (random.chance(0.3)) await turn();
        } else if (ended && buffer.empty) {
          break;
        } else {
          await readable;
        }
      }
      left = true;
      buffer.dispose();
      wake.container();
    };
    await Promise.all([container(), client()]);
    const got = Buffer.concat(taken);
    assert.ok(got.equals(leavesAfter === Infinity ? body : body.subarray(0, got.length)));
  };

  await forCases(200, async (random) => {
    await Promise.all(Array.from({ length: 6 }, async () => one(new Random(random.between(0, 2 ** 31)))));
    await untilNothing(spool);
  });
  assert.ok(held > 0, 'in no case there was no room');
});

/** What was on its way to the disk when a client left ends a moment later; then everything must be given back. */
async function untilNothing(spool: Spool): Promise<void> {
  const ended = () => Object.values(spool.use).every((use) => use === 0);
  for (let i = 0; i < 5_000 && !ended(); i++) await delay(1);
  assert.deepEqual(spool.use, NOTHING);
}

async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}
