import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { readAnswers } from './support/answers.ts';
import { decode } from './support/codings.ts';
import { bodyFor, LENGTHS, oneOf, startMarking, WAYS } from './support/marked-bodies.ts';
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
