import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { testData } from '../proxy/support/data.ts';
import { testMaterial } from '../proxy/support/transport.ts';
import { RawUpstream, Upstream } from '../proxy/support/upstream.ts';
import { TestWorker } from '../proxy/support/worker.ts';
import {
  ACK,
  block,
  END_HEADERS,
  END_STREAM,
  frame,
  H2Client,
  headers,
  request,
  setting,
  uint32,
} from './support/h2-frames.ts';

const ping = Buffer.alloc(8);

async function start(
  t: TestContext,
  upstream: Pick<Upstream | RawUpstream, 'target'>,
  ...flags: string[]
): Promise<TestWorker> {
  return TestWorker.start(t, { route: { active: upstream.target }, tls: testMaterial(), flags });
}

function answering(t: TestContext): Promise<Upstream> {
  return Upstream.start(t, (_, response) => response.end('ok'));
}

async function answersOthers(t: TestContext, worker: TestWorker): Promise<void> {
  const client = await H2Client.connect(t, worker);
  client.request(1);
  assert.equal(await client.end(1), 'ended');
  assert.equal(client.body(1).toString(), 'ok');
}

/** Sends what `make` makes for each of 1, 3, 5, … in one go and in pieces, until the server has had enough. */
async function flood(client: H2Client, make: (streamId: number) => Buffer, count = 10_000): Promise<void> {
  for (let i = 0; i < count && !client.raw.socket.destroyed; i += 100) {
    client.send(...Array.from({ length: 100 }, (_, j) => make(2 * (i + j) + 1)));
    // Whoever floods does not wait for answers, but the server gets its turns.
    await new Promise((resolve) => setImmediate(resolve));
    if (client.frames.some(({ type }) => type === 'GOAWAY')) break;
  }
}

describe('floods end the connection with ENHANCE_YOUR_CALM, others are served', () => {
  const floods: Record<string, (streamId: number) => Buffer> = {
    'rapid reset (CVE-2023-44487)': (id) =>
      Buffer.concat([headers(id, request(), END_STREAM), frame('RST_STREAM', 0, id, uint32(8))]),
    'rapid reset of uploads': (id) =>
      Buffer.concat([headers(id, request({ ':method': 'POST' }), 0), frame('RST_STREAM', 0, id, uint32(8))]),
    'resets that the server is made to send (CVE-2025-8671, by window updates)': (id) =>
      Buffer.concat([headers(id, request({ ':method': 'POST' }), 0), frame('WINDOW_UPDATE', 0, id, uint32(0))]),
    'resets that the server is made to send (by DATA after the end)': (id) =>
      Buffer.concat([headers(id, request(), END_STREAM), frame('DATA', 0, id, 'x')]),
    'malformed requests': (id) => headers(id, [], END_STREAM),
    'pings (CVE-2019-9512)': () => frame('PING', 0, 0, ping),
    'answers to pings that were not sent': () => frame('PING', ACK, 0, ping),
    'settings (CVE-2019-9515)': () => frame('SETTINGS', 0, 0, setting(4, 65_535)),
    'empty settings': () => frame('SETTINGS', 0, 0),
    'acknowledgements of settings': () => frame('SETTINGS', ACK, 0),
    'priorities (CVE-2019-9513)': (id) => frame('PRIORITY', 0, id, Buffer.alloc(5)),
    'window updates': () => frame('WINDOW_UPDATE', 0, 0, uint32(1)),
    'bodies of streams that are gone': (id) =>
      id === 1
        ? Buffer.concat([headers(1, request({ ':method': 'POST' }), 0), frame('RST_STREAM', 0, 1, uint32(8))])
        : frame('DATA', 0, 1, 'x'),
    'unknown frames': () => frame(0xfa, 0, 0, ''),
  };
  for (const [name, make] of Object.entries(floods)) {
    test(name, async (t) => {
      const upstream = await answering(t);
      const worker = await start(t, upstream);
      const client = await H2Client.connect(t, worker);
      await flood(client, make);
      assert.equal(await client.goAway(), 'ENHANCE_YOUR_CALM');
      await answersOthers(t, worker);
      const { cutOff } = await worker.quiet();
      assert.equal(cutOff, 1);
      assert.match(worker.output, /"client":"127\.0\.0\.1","reason":"too many [^"]+","msg":"client cut off"/);
    });
  }

  test('empty DATA frames (CVE-2019-9518)', async (t) => {
    const worker = await start(t, await answering(t));
    const client = await H2Client.connect(t, worker);
    client.request(1, request({ ':method': 'POST' }), 'open');
    await flood(client, () => frame('DATA', 0, 1));
    assert.equal(await client.goAway(), 'ENHANCE_YOUR_CALM');
    await answersOthers(t, worker);
    await worker.quiet();
  });

  test('CONTINUATION frames without an end (CVE-2024-27316)', async (t) => {
    for (const part of [Buffer.alloc(0), block([['x', 'y'.repeat(10_000)]])]) {
      const worker = await start(t, await answering(t));
      const client = await H2Client.connect(t, worker);
      client.send(frame('HEADERS', END_STREAM, 1, block(request())));
      await flood(client, () => frame('CONTINUATION', 0, 1, part), 200);
      assert.equal(await client.goAway(), 'ENHANCE_YOUR_CALM');
      await answersOthers(t, worker);
    }
  });

  test('a thousand settings in a frame', async (t) => {
    const worker = await start(t, await answering(t));
    const client = await H2Client.connect(t, worker);
    client.send(frame('SETTINGS', 0, 0, Buffer.concat(Array.from({ length: 1_000 }, () => setting(4, 1)))));
    assert.equal(await client.goAway(), 'ENHANCE_YOUR_CALM');
    await answersOthers(t, worker);
  });
});

test('requests that are taken back in the same breath never reach the application', async (t) => {
  const upstream = await answering(t);
  const worker = await start(t, upstream);
  const client = await H2Client.connect(t, worker);
  const pairs = Array.from({ length: 50 }, (_, i) => 2 * i + 1).flatMap((id) => [
    headers(id, request({ ':path': '/taken-back' }), END_STREAM),
    frame('RST_STREAM', 0, id, uint32(8)),
  ]);
  client.send(...pairs, headers(101, request({ ':path': '/kept' }), END_STREAM));
  assert.equal(await client.end(101), 'ended');
  const { statusCodes } = await worker.statsWhen(({ requests }) => requests === 51);
  assert.deepEqual(statusCodes, { 200: 1, 499: 50 });
  assert.deepEqual(
    upstream.begun.map(({ url }) => url),
    ['/kept'],
  );
});

test('clients that send some idle frames with each request are served as long as they like', async (t) => {
  const worker = await start(t, await answering(t));
  const client = await H2Client.connect(t, worker);
  for (let id = 1; id < 1_600; id += 2) {
    const idle = [frame('PRIORITY', 0, id, Buffer.alloc(5)), frame('WINDOW_UPDATE', 0, id, uint32(1_000_000))];
    client.send(headers(id, request(), END_STREAM), ...idle, frame('PING', 0, 0, ping));
    assert.equal(await client.end(id), 'ended');
  }
});

test('a browser that goes to another page may take back all of its requests', async (t) => {
  const upstream = await RawUpstream.start(t, () => {});
  const worker = await start(t, upstream);
  const client = await H2Client.connect(t, worker);
  const ids = Array.from({ length: 100 }, (_, i) => 2 * i + 1);
  for (const id of ids) client.request(id);
  await worker.statsWhen((stats) => worker.runningOn(upstream.target, stats).inFlight === 100);
  client.send(...ids.map((id) => frame('RST_STREAM', 0, id, uint32(8))));
  await worker.quiet();
  await upstream.abandoned();
  await client.settled();
});

test('streams beyond those allowed are refused in a way that says that nothing was done', async (t) => {
  const upstream = await RawUpstream.start(t, () => {});
  const worker = await start(t, upstream);
  const client = await H2Client.connect(t, worker);
  client.send(...Array.from({ length: 130 }, (_, i) => headers(2 * i + 1, request(), END_STREAM)));
  assert.equal(await client.end(257), 'REFUSED_STREAM');
  assert.equal(await client.end(259), 'REFUSED_STREAM');
  await worker.statsWhen((stats) => worker.runningOn(upstream.target, stats).inFlight === 128);
  assert.ok(!client.frames.some(({ streamId }) => streamId === 255));
});

test('a worker takes as many requests at once as it would take connections', async (t) => {
  const upstream = await RawUpstream.start(t, () => {});
  const worker = await start(t, upstream, '--max-connections=20');
  const clients = [await H2Client.connect(t, worker), await H2Client.connect(t, worker)] as const;
  for (let id = 1; id < 30; id += 2) clients[0].request(id);
  await worker.statsWhen((stats) => worker.runningOn(upstream.target, stats).inFlight === 15);
  for (let id = 1; id < 30; id += 2) clients[1].request(id);
  assert.equal(await clients[1].end(11), 'REFUSED_STREAM');
  assert.equal(await clients[1].end(29), 'REFUSED_STREAM');
  clients[0].raw.socket.destroy();
  await worker.statsWhen((stats) => worker.runningOn(upstream.target, stats).inFlight === 5);
  clients[1].request(31);
  await worker.statsWhen((stats) => worker.runningOn(upstream.target, stats).inFlight === 6);
});

test('a small block that stands for a great many fields (HPACK bomb) is refused without the memory for it', async (t) => {
  const worker = await start(t, await answering(t));
  const client = await H2Client.connect(t, worker);
  const large = Buffer.concat([Buffer.from([0x40]), block([['x', 'y'.repeat(3_000)]]).subarray(1)]);
  const bomb = Buffer.concat([block(request()), large, Buffer.alloc(12_000, 0xbe)]);
  client.send(frame('HEADERS', END_HEADERS | END_STREAM, 1, bomb));
  assert.equal(await client.end(1), 'ended');
  assert.deepEqual(client.statuses(1), ['431']);
  await answersOthers(t, worker);
});

describe('clients that do not read', () => {
  const data = testData(4 * 2 ** 20);
  const large = (t: TestContext) =>
    Upstream.start(t, (request, response) => {
      if (request.url === '/large') response.end(data);
      else response.end('ok');
    });
  const get = (id: number) => headers(id, request({ ':path': '/large' }), END_STREAM);

  test('a window of nothing ends with the write timeout, the other streams go on', async (t) => {
    const worker = await start(t, await large(t), '--write-timeout=400ms');
    const client = await H2Client.connect(t, worker, setting(4, 0));
    client.send(get(1));
    assert.equal(await client.end(1), 'INTERNAL_ERROR');
    assert.equal(client.body(1).length, 0);
    client.send(frame('SETTINGS', 0, 0, setting(4, 65_535)));
    client.request(3);
    assert.equal(await client.end(3), 'ended');
    await worker.quiet();
    assert.match(worker.output, /"code":"write_timeout"/);
  });

  test('a connection window that is used up ends with the write timeout', async (t) => {
    const worker = await start(t, await large(t), '--write-timeout=400ms');
    const client = await H2Client.connect(t, worker, setting(4, 2 ** 30));
    client.send(get(1));
    assert.equal(await client.end(1), 'INTERNAL_ERROR');
    assert.equal(client.body(1).length, 65_535);
    await worker.quiet();
  });

  test('windows of one byte are not progress', async (t) => {
    const worker = await start(t, await large(t), '--write-timeout=600ms');
    const client = await H2Client.connect(t, worker, setting(4, 1));
    client.send(get(1));
    const timer = setInterval(() => client.send(frame('WINDOW_UPDATE', 0, 1, uint32(1))), 20);
    t.after(() => clearInterval(timer));
    assert.equal(await client.end(1), 'INTERNAL_ERROR');
    clearInterval(timer);
    assert.ok(client.body(1).length > 2);
    await worker.quiet();
  });

  test('a client that takes little but steadily gets everything', async (t) => {
    const small = testData(40_000);
    const upstream = await Upstream.start(t, (_, response) => response.end(small));
    const worker = await start(t, upstream, '--write-timeout=500ms');
    const client = await H2Client.connect(t, worker, setting(4, 0));
    client.send(get(1));
    const timer = setInterval(() => client.send(frame('WINDOW_UPDATE', 0, 1, uint32(1_500))), 50);
    t.after(() => clearInterval(timer));
    assert.equal(await client.end(1), 'ended');
    assert.ok(client.body(1).equals(small));
  });

  test('a socket that is not read ends with the write timeout for all of its streams', async (t) => {
    const worker = await start(t, await large(t), '--write-timeout=400ms');
    const client = await H2Client.connect(t, worker, setting(4, 2 ** 30));
    client.send(frame('WINDOW_UPDATE', 0, 0, uint32(2 ** 30)), get(1), get(3), get(5), get(7));
    client.raw.socket.pause();
    const { statusCodes } = await worker.statsWhen(({ requests }) => requests === 4);
    assert.deepEqual(statusCodes, { 200: 4 });
    assert.equal(worker.output.match(/"code":"write_timeout"/g)?.length, 4);
    await worker.quiet();
    client.raw.socket.resume();
    await client.raw.closed;
  });

  test('a hundred streams that are not read hold their bodies in the spool', async (t) => {
    const upstream = await large(t);
    const flags = ['--buffer-memory=64KiB', '--buffer-memory-total=1MiB'];
    const worker = await start(t, upstream, ...flags);
    const client = await H2Client.connect(t, worker, setting(4, 0));
    const ids = Array.from({ length: 100 }, (_, i) => 2 * i + 1);
    client.send(...ids.map(get));
    const { buffers } = await worker.statsWhen(
      (stats) => stats.buffers.spoolBytes > 300 * 2 ** 20 && worker.runningOn(upstream.target, stats).inFlight === 0,
    );
    assert.ok(buffers.memoryBytes <= 2 ** 20 + 100 * 64 * 1024, String(buffers.memoryBytes));
    client.raw.socket.destroy();
    await worker.quiet();
  });

  test('pings that are sent without reading their answers do not pile up', async (t) => {
    const worker = await start(t, await large(t), '--write-timeout=400ms');
    const client = await H2Client.connect(t, worker, setting(4, 2 ** 30));
    client.send(frame('WINDOW_UPDATE', 0, 0, uint32(2 ** 30)), get(1), get(3), get(5), get(7));
    client.raw.socket.pause();
    const timer = setInterval(() => client.send(frame('PING', 0, 0, ping)), 20);
    t.after(() => clearInterval(timer));
    await worker.statsWhen(({ requests }) => requests === 4);
    assert.match(worker.output, /"code":"write_timeout"/);
    await worker.quiet();
  });
});

describe('clients that send nothing, or not enough', () => {
  test('a connection that never says anything is closed', async (t) => {
    const worker = await start(t, await answering(t), '--header-timeout=300ms');
    const client = await H2Client.connect(t, worker, null);
    assert.equal(await client.goAway(), null);
  });

  test('fields that are not complete in time get 408, however steadily they drip', async (t) => {
    const worker = await start(t, await answering(t), '--header-timeout=400ms');
    const client = await H2Client.connect(t, worker);
    client.send(frame('HEADERS', END_STREAM, 1, block(request())));
    const timer = setInterval(() => client.send(frame('CONTINUATION', 0, 1, block([['x', 'y']]))), 80);
    t.after(() => clearInterval(timer));
    assert.equal(await client.end(1), 'ended');
    assert.deepEqual(client.statuses(1), ['408']);
    assert.match(client.body(1).toString(), /header_timeout/);
    assert.equal(await client.goAway(), 'NO_ERROR');
    await worker.statsWhen(({ requests }) => requests === 1);
    assert.match(worker.output, /"code":"header_timeout"/);
  });

  test('a frame of fields that drips ends the connection', async (t) => {
    const worker = await start(t, await answering(t), '--header-timeout=400ms');
    const client = await H2Client.connect(t, worker);
    const bytes = headers(1, request({}, [['x', 'y'.repeat(5_000)]]), END_STREAM);
    let at = 0;
    const timer = setInterval(() => client.send(bytes.subarray(at, ++at)), 20);
    t.after(() => clearInterval(timer));
    assert.equal(await client.goAway(), 'NO_ERROR');
  });

  test('an idle connection is closed with a GOAWAY, pings or not', async (t) => {
    const worker = await start(t, await answering(t), '--keep-alive-timeout=400ms');
    const client = await H2Client.connect(t, worker);
    client.request(1);
    await client.end(1);
    const timer = setInterval(() => client.send(frame('PING', 0, 0, ping)), 50);
    t.after(() => clearInterval(timer));
    assert.equal(await client.goAway(), 'NO_ERROR');
  });

  test('a body that stops coming gets 408, the other streams go on', async (t) => {
    const worker = await start(t, await answering(t), '--body-timeout=400ms');
    const client = await H2Client.connect(t, worker);
    client.request(1, request({ ':method': 'POST' }), 'open');
    client.send(frame('DATA', 0, 1, 'half'));
    client.request(3);
    assert.equal(await client.end(3), 'ended');
    assert.equal(await client.end(1), 'ended');
    assert.deepEqual(client.statuses(1), ['408']);
    assert.match(client.body(1).toString(), /body_timeout/);
    await client.until(({ type, streamId }) => type === 'RST_STREAM' && streamId === 1);
    await worker.quiet();
  });

  test('a client that sends more than its windows allow is cut off', async (t) => {
    const upstream = await answering(t);
    const worker = await start(t, upstream);
    const client = await H2Client.connect(t, worker);
    // Nobody reads a body that is refused, but what came of it was counted.
    const ids = [1, 3, 5, 7];
    for (const id of ids) client.request(id, request({ ':method': 'POST' }, [['content-length', '0']]), 'open');
    const piece = 'x'.repeat(16_384);
    await flood(client, () => Buffer.concat(ids.map((id) => frame('DATA', 0, id, piece))), 300);
    await client.until(({ type }) => type === 'RST_STREAM');
    await answersOthers(t, worker);
    await worker.quiet();
  });
});
