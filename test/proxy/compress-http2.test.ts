import assert from 'node:assert/strict';
import { once } from 'node:events';
import * as http2 from 'node:http2';
import { test, type TestContext } from 'node:test';
import { CODINGS, decode, DecodedReader } from './support/codings.ts';
import { digest, testData } from './support/data.ts';
import { ask, closed, connectHttp2 } from './support/http2-client.ts';
import { testMaterial } from './support/transport.ts';
import { RawUpstream, Upstream } from './support/upstream.ts';
import { TestWorker } from './support/worker.ts';

/** A client of a worker in front of an application. */
async function connect(t: TestContext, { target }: Pick<Upstream, 'target'>) {
  const worker = await TestWorker.start(t, { route: { active: target }, tls: testMaterial() });
  return { worker, session: await connectHttp2(t, worker) };
}

for (const coding of CODINGS) {
  test(`over HTTP/2 bodies of all sizes arrive in ${coding}, side by side`, async (t) => {
    const data = testData(2_000_000);
    const upstream = await Upstream.start(t, ({ url = '' }, response) => {
      const [, size = '', announced] = url.split('/');
      response.setHeader('content-type', 'text/plain');
      if (announced !== undefined) response.setHeader('content-length', size);
      response.write(data.subarray(0, Number(size) / 2));
      response.end(data.subarray(Number(size) / 2, Number(size)));
    });
    const { worker, session } = await connect(t, upstream);
    const paths = [2_000, 20_000, 2_000_000].flatMap((size) => [`/${size}`, `/${size}/announced`]);
    await Promise.all(
      paths.map(async (path) => {
        const { headers, body } = await ask(session, { ':path': path, 'accept-encoding': coding });
        assert.equal(headers['content-encoding'], coding);
        assert.equal(headers.vary, 'Accept-Encoding');
        const size = Number(path.split('/')[1]);
        assert.equal(digest(decode(coding, body)), digest(data.subarray(0, size)), path);
      }),
    );
    const head = await ask(session, { ':method': 'HEAD', ':path': '/20000/announced', 'accept-encoding': coding });
    assert.equal(head.headers['content-encoding'], coding);
    assert.equal(head.headers['content-length'], undefined);
    await worker.quiet();
  });
}

test('over HTTP/2 events arrive one by one, and a stream that is given up frees its encoder', async (t) => {
  const upstream = await RawUpstream.start(t, (socket) => {
    socket.write('HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n');
    upstream.events.on('part', (text: string) => socket.write(`${text.length.toString(16)}\r\n${text}\r\n`));
    return true;
  });
  const { worker, session } = await connect(t, upstream);
  const stream = session.request({ ':path': '/', 'accept-encoding': 'zstd' });
  await once(stream, 'response');
  const reader = new DecodedReader(stream, 'zstd');
  for (let i = 0; i < 3; i++) {
    upstream.events.emit('part', `data: ${i}\n\n`);
    await reader.until(`data: ${i}\n\n`);
  }
  await worker.statsWhen(({ buffers }) => buffers.memoryBytes > 0);
  stream.close(http2.constants.NGHTTP2_CANCEL);
  await closed(stream);
  await upstream.abandoned();
  await worker.statsWhen(({ buffers }) => buffers.memoryBytes === 0);
});
