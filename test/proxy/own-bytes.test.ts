import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { test, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { readAnswers } from './support/answers.ts';
import { decode } from './support/codings.ts';
import { RawUpstream } from './support/upstream.ts';
import { RawClient, TestWorker } from './support/worker.ts';

/** A body of which every word tells whose it is and how long it must be. */
function bodyFor(number: number, length: number): Buffer {
  return Buffer.alloc(length, `${number}/${length},`);
}

/** Answers `GET /NUMBER/LENGTH/WAY`. */
async function upstream(t: TestContext): Promise<RawUpstream> {
  return RawUpstream.start(t, (socket, text) => {
    const [, number, length, way] = /^GET \/(\d+)\/(\d+)\/(\w+) [^]*\r\n\r\n$/.exec(text) ?? [];
    if (way === undefined) return false;
    const body = bodyFor(Number(number), Number(length));
    const type = 'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n';
    if (way === 'chunked') {
      socket.cork();
      socket.write(`${type}Transfer-Encoding: chunked\r\n\r\n`);
      for (let at = 0; at < body.length; at += 6_000) {
        const piece = body.subarray(at, at + 6_000);
        socket.write(`${piece.length.toString(16)}\r\n${piece.toString('latin1')}\r\n`);
      }
      socket.write('0\r\n\r\n');
      socket.uncork();
    } else if (way === 'late') {
      socket.write(`${type}Content-Length: ${body.length}\r\n\r\n`);
      setImmediate(() => socket.write(body));
    } else {
      socket.write(`${type}Content-Length: ${body.length}\r\n\r\n${body.toString('latin1')}`, 'latin1');
    }
    return true;
  });
}

const LENGTHS = [100, 4_096, 4_097, 9_000, 16_000, 16_384, 16_385, 40_000, 65_536, 150_000];
const WAYS = ['whole', 'late', 'chunked'];

function oneOf<T>(values: readonly T[]): T {
  return values[randomInt(values.length)] as T;
}

/** The content of the one answer that came. */
function contentIn(received: Buffer): Buffer {
  const answers = readAnswers(received);
  assert.deepEqual(
    answers.map(({ whole }) => whole),
    [true],
  );
  const head = received.toString('latin1', 0, received.indexOf('\r\n\r\n'));
  return decode(/^content-encoding: (\w+)$/im.exec(head)?.[1], answers[0]?.body ?? Buffer.alloc(0));
}

test('every client gets its own bytes, however many ask at once, and whether they read, wait or go', async (t) => {
  const worker = await TestWorker.start(t, { route: { active: (await upstream(t)).target } });
  let number = 0;
  let whole = 0;
  const line = async (kind: 'fast' | 'slow' | 'gone') => {
    for (let i = 0; i < 60; i++) {
      const [own, length] = [++number, oneOf(LENGTHS)];
      const coding = kind === 'fast' && randomInt(3) === 0 ? 'Accept-Encoding: gzip\r\n' : '';
      const client = await RawClient.connect(t, worker.port);
      if (kind !== 'fast') client.socket.pause();
      client.send(`GET /${own}/${length}/${oneOf(WAYS)} HTTP/1.1\r\nHost: a\r\n${coding}Connection: close\r\n\r\n`);
      if (kind !== 'fast') await delay(randomInt(20));
      if (kind === 'gone') {
        client.socket.destroy();
        continue;
      }
      client.socket.resume();
      await client.closed;
      const got = contentIn(client.received);
      assert.ok(
        got.equals(bodyFor(own, length)),
        `${own}/${length}: ${got.length} bytes, ${got.toString('latin1', 0, 30)}`,
      );
      whole++;
    }
  };
  await Promise.all([...Array(12).fill('fast'), ...Array(8).fill('slow'), ...Array(4).fill('gone')].map(line));
  assert.equal(whole, 20 * 60);
  await worker.quiet();
});
