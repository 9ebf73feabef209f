import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RawClient, TestWorker } from '../proxy/support/worker.ts';
import { Recorder } from './support/recorder.ts';

/*
 * Every known way to disguise a length with every other one, each with bodies that are a request of their own to whoever
 * reads the other length. Most are refused; what the application gets must be exactly what was answered to the client.
 */

const SMUGGLED = 'GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n';

const LENGTHS = [
  ...['Content-Length: 5', 'Content-Length: 0', 'Content-Length: 39', 'Content-Length: 05', 'Content-Length:5'],
  ...['Content-Length: +5', 'Content-Length: 5, 5', 'Content-Length : 5', 'Content-Length\t:5', 'Content-Length: 0x5'],
  ...['Content-Length: 5\r\nContent-Length: 0', ' Content-Length: 5', 'X: y\r\n Content-Length: 5', 'Content_Length: 5'],
  ...['X: y\nContent-Length: 5', 'X: y\rContent-Length: 5', 'Content-Length: 5\r', '\x00Content-Length: 5', 'content-length: 5'],
  ...['Content-Length: \x0b5', 'Content-Length: 5\x00', 'Content-Length:\r\n 5', 'Content-Length: 1e1', 'Connection: Content-Length'],
]; // prettier-ignore

const CODINGS = [
  ...['Transfer-Encoding: chunked', 'transfer-encoding:chunked', 'Transfer-Encoding: Chunked', 'Transfer-Encoding: \tchunked'],
  ...['Transfer-Encoding : chunked', 'Transfer-Encoding: xchunked', 'Transfer-Encoding: chunked, identity', 'Transfer_Encoding: chunked'],
  ...['Transfer-Encoding: identity', 'Transfer-Encoding: chunked\r\nTransfer-Encoding: x', 'Transfer-Encoding:\r\n chunked'],
  ...['Transfer-Encoding: chunked\x00', 'Transfer-Encoding: \x0bchunked', ' Transfer-Encoding: chunked', 'X: y\nTransfer-Encoding: chunked'],
  ...['Transfer-Encoding: "chunked"', 'Transfer-Encoding: chunked;a=b', 'Transfer-Encoding: , chunked', 'TE: chunked', 'X: y\rTransfer-Encoding: chunked'],
  ...['Transfer-Encoding', 'Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked', 'Transfer-Encoding: gzip, chunked', ''],
]; // prettier-ignore

const BODIES = [`0\r\n\r\n${SMUGGLED}`, `5\r\nhello\r\n0\r\n\r\n`, `5;a\nhello\r\n0\r\n\r\n${SMUGGLED}`];

const VERSIONS = ['1.1', '1.1', '1.0'];

function* cases(): Generator<string> {
  let made = 0;
  for (const length of LENGTHS) {
    for (const coding of CODINGS) {
      const body = BODIES[made % BODIES.length] ?? '';
      const version = VERSIONS[Math.floor(made / BODIES.length) % VERSIONS.length] ?? '';
      const fields = made % 2 === 0 ? [length, coding] : [coding, length];
      made++;
      const head = [`POST /case-${made} HTTP/${version}`, 'Host: a', ...fields.filter((line) => line !== '')];
      yield `${head.join('\r\n')}\r\n\r\n${body}GET /last-${made} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`;
    }
  }
}

test('no two ways to write a length together get anything past us', async (t) => {
  const recorder = await Recorder.start(t);
  // A body that is shorter than its length says waits for the rest.
  const flags = ['--body-timeout=500ms', '--header-timeout=500ms', '--keep-alive-timeout=500ms'];
  const worker = await TestWorker.start(t, { route: { active: recorder.upstream.target }, flags });
  const all = [...cases()];
  let accepted = 0;
  for (let first = 0; first < all.length; first += 48) {
    recorder.clear();
    const batch = await Promise.all(
      all.slice(first, first + 48).map(async (bytes) => {
        const client = await RawClient.connect(t, worker.port);
        client.send(bytes);
        return { bytes, text: await client.all() };
      }),
    );
    assert.deepEqual(recorder.garbage, []);
    const answered = batch.reduce((sum, { text }) => sum + (text.match(/HTTP\/1\.1 200 OK/g)?.length ?? 0), 0);
    assert.equal(recorder.requests.length, answered, JSON.stringify(batch));
    accepted += answered;
    for (const { bytes, text } of batch) {
      // Whoever sees a second request where we saw none would be answered by the application for it.
      const own = /^\S+ (\S+)/.exec(bytes)?.[1];
      const status = /^HTTP\/1\.1 (\d+)/.exec(text)?.[1];
      assert.ok(['200', '400', '408'].includes(status ?? ''), JSON.stringify({ bytes, text }));
      if (status !== '200') {
        assert.ok(!recorder.requests.some(({ requestLine }) => requestLine.includes(`${own} `)), JSON.stringify(bytes));
        assert.equal(text.match(/HTTP\/1\.1 \d/g)?.length, 1, 'nothing is read after a refusal');
      }
    }
  }
  t.diagnostic(`${all.length} cases, ${accepted} requests in them were passed on`);
  assert.ok(accepted > 0 && accepted < all.length);
});
