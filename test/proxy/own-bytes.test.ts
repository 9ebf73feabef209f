import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { readAnswers } from './support/answers.ts';
import { decode } from './support/codings.ts';
import { bodyFor, LENGTHS, oneOf, startMarking, WAYS } from './support/marked-bodies.ts';
import { Upstream } from './support/upstream.ts';
import { RawClient, TestWorker } from './support/worker.ts';

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
  const worker = await TestWorker.start(t, { route: { active: (await startMarking(t)).target } });
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

test('every request reaches the container with its own bytes, whether that reads, waits, answers early or breaks off', async (t) => {
  const wrong: string[] = [];
  let whole = 0;
  const container = await Upstream.start(t, (request, response) => {
    const [, number, length, way] = (request.url ?? '').split('/');
    const expected = bodyFor(Number(number), Number(length));
    let at = 0;
    request.on('data', (chunk: Buffer) => {
      if (!chunk.equals(expected.subarray(at, at + chunk.length))) wrong.push(`${request.url} at ${at}`);
      at += chunk.length;
      if (way === 'breaks' && at > 20_000) request.socket.resetAndDestroy();
      if (way === 'slow') {
        request.pause();
        setTimeout(() => request.resume(), 2);
      }
    });
    request.on('end', () => {
      if (at === expected.length) whole++;
      response.end('done');
    });
    if (way === 'early') response.end('done');
  });
  const worker = await TestWorker.start(t, { route: { active: container.target } });
  let number = 0;
  let answered = 0;
  const line = async (kind: 'stays' | 'goes') => {
    for (let i = 0; i < 40; i++) {
      const [own, length] = [++number, oneOf([...LENGTHS, 262_144, 1_048_576])];
      const way = oneOf(['reads', 'slow', 'early', ...(kind === 'goes' ? ['breaks'] : [])]);
      const body = bodyFor(own, length);
      const client = await RawClient.connect(t, worker.port);
      const head = `PUT /${own}/${length}/${way} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n`;
      client.send(`${head}Content-Length: ${length}\r\n\r\n`);
      const cut = randomInt(length);
      client.send(body.subarray(0, cut));
      if (randomInt(2) === 0) await delay(randomInt(5));
      client.send(body.subarray(cut));
      if (kind === 'goes') {
        await delay(randomInt(20));
        client.socket.destroy();
        continue;
      }
      await client.closed;
      assert.deepEqual(
        readAnswers(client.received).map(({ status }) => status),
        [200],
        `${own}/${length}/${way}`,
      );
      answered++;
    }
  };
  await Promise.all([...Array(12).fill('stays'), ...Array(6).fill('goes')].map(line));
  assert.equal(answered, 12 * 40);
  assert.deepEqual(wrong, []);
  assert.ok(whole > 100, `${whole} came whole`);
  await worker.quiet();
});
