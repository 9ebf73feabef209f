import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import * as http2 from 'node:http2';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { readAnswers } from './support/answers.ts';
import { decode } from './support/codings.ts';
import { closed, connectHttp2 } from './support/http2-client.ts';
import { bodyFor, LENGTHS, oneOf, startMarking, WAYS } from './support/marked-bodies.ts';
import { testMaterial } from './support/transport.ts';
import { openSocket, TestWorker } from './support/worker.ts';

/** What says of a body whose it is, for messages. */
function beginningOf(body: Buffer): string {
  return `${body.length} bytes, ${body.toString('latin1', 0, 30)}`;
}

test('every stream gets its own bytes, whether its client reads, waits or takes it back', async (t) => {
  const upstream = await startMarking(t);
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, tls: testMaterial() });
  let number = 0;
  let whole = 0;
  const ask = async (session: http2.ClientHttp2Session, kind: 'reads' | 'waits' | 'takes back') => {
    const [own, length] = [++number, oneOf(LENGTHS)];
    const coding = randomInt(3) === 0 ? { 'accept-encoding': oneOf(['gzip', 'br', 'zstd']) } : {};
    const stream = session.request({ ':path': `/${own}/${length}/${oneOf(WAYS)}`, ...coding });
    const chunks: Buffer[] = [];
    let used: string | undefined;
    stream.on('response', (fields) => (used = fields['content-encoding']));
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    if (kind !== 'reads') {
      stream.pause();
      await delay(randomInt(30));
    }
    if (kind === 'takes back') stream.close(http2.constants.NGHTTP2_CANCEL);
    stream.resume();
    await closed(stream);
    if (kind === 'takes back') return;
    const body = decode(used, Buffer.concat(chunks));
    assert.ok(body.equals(bodyFor(own, length)), `${own}/${length}: ${beginningOf(body)}`);
    whole++;
  };
  const kinds = ['reads', 'reads', 'waits', 'takes back'] as const;
  await Promise.all(
    Array.from({ length: 4 }, async (_, i) => {
      // A window that is too small for most of them, the usual one, a large one.
      const session = await connectHttp2(t, worker, {
        settings: { initialWindowSize: [5_000, 65_535, 2 ** 20][i % 3] },
      });
      const line = async () => {
        for (let turn = 0; turn < 40; turn++) await ask(session, kinds[turn % kinds.length] ?? 'reads');
      };
      await Promise.all(Array.from({ length: 8 }, line));
      session.close();
    }),
  );
  assert.equal(whole, 4 * 8 * 30);
  await worker.quiet();
});

test('requests that are sent one upon the other get their own bytes, each in its turn', async (t) => {
  const upstream = await startMarking(t);
  const worker = await TestWorker.start(t, { route: { active: upstream.target } });
  let number = 0;
  await Promise.all(
    Array.from({ length: 12 }, async (_, line) => {
      const wanted = Array.from({ length: 40 }, () => ({ own: ++number, length: oneOf(LENGTHS) }));
      const requests = wanted.map(
        ({ own, length }, i) =>
          `GET /${own}/${length}/${oneOf(WAYS)} HTTP/1.1\r\nHost: a\r\n${i === 39 ? 'Connection: close\r\n' : ''}\r\n`,
      );
      const socket = await openSocket(t, worker.port);
      socket.write(requests.join(''));
      const chunks: Buffer[] = [];
      for await (const chunk of socket) {
        chunks.push(chunk as Buffer);
        if (line % 2 === 1) await delay(randomInt(4));
      }
      const answers = readAnswers(Buffer.concat(chunks));
      assert.equal(answers.length, wanted.length);
      answers.forEach(({ body, whole }, i) => {
        const { own, length } = wanted[i] ?? { own: 0, length: 0 };
        assert.ok(whole && body.equals(bodyFor(own, length)), `${own}/${length}: ${beginningOf(body)}`);
      });
    }),
  );
  await worker.quiet();
});
