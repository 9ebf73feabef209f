import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test, type TestContext } from 'node:test';
import { testMaterial } from '../proxy/support/transport.ts';
import { TestWorker } from '../proxy/support/worker.ts';
import {
  ACK,
  block,
  END_HEADERS,
  END_STREAM,
  frame,
  H2Client,
  headers,
  PADDED,
  PREFACE,
  request,
  setting,
  uint32,
} from './support/h2-frames.ts';
import { Recorder } from './support/recorder.ts';

let worker: TestWorker;
let recorder: Recorder;
before(async () => {
  recorder = await Recorder.start(null);
  worker = await TestWorker.start(null, { route: { active: recorder.upstream.target }, tls: testMaterial() });
});
afterEach(() => recorder.clear());
after(async () => {
  await worker.stop();
  await recorder.upstream.stop();
});

async function stillAnswers(t: TestContext): Promise<void> {
  recorder.clear();
  const client = await H2Client.connect(t, worker);
  client.request(1, request({ ':path': '/after' }));
  assert.equal(await client.end(1), 'ended');
  assert.deepEqual(
    recorder.requests.map(({ requestLine }) => requestLine),
    ['GET /after HTTP/1.1'],
  );
  assert.deepEqual(recorder.garbage, []);
}

/** Frames after which the connection must end with this code; nothing of them reaches the application. */
function fatal(name: string, code: string, ...frames: Buffer[]): void {
  test(`${name}: ${code}`, async (t) => {
    const client = await H2Client.connect(t, worker);
    client.send(...frames);
    assert.equal(await client.goAway(), code);
    assert.deepEqual(recorder.requests, []);
    await stillAnswers(t);
  });
}

/** Frames after which the connection serves on. */
function harmless(name: string, ...frames: Buffer[]): void {
  test(name, async (t) => {
    const client = await H2Client.connect(t, worker);
    client.send(...frames);
    client.request(101, request({ ':path': '/beside' }));
    assert.equal(await client.end(101), 'ended');
    assert.ok(!client.frames.some(({ type }) => type === 'GOAWAY'));
    assert.equal(recorder.requests.at(-1)?.requestLine, 'GET /beside HTTP/1.1');
  });
}

/** Frames for which stream 1 must be reset with this code; the connection serves on. */
function resets(name: string, code: string, ...frames: Buffer[]): void {
  test(`${name}: stream error ${code}`, async (t) => {
    const client = await H2Client.connect(t, worker);
    client.send(...frames);
    assert.equal(await client.end(1), code);
    client.request(101, request({ ':path': '/beside' }));
    assert.equal(await client.end(101), 'ended');
    assert.deepEqual(
      recorder.requests.map(({ requestLine }) => requestLine),
      ['GET /beside HTTP/1.1'],
    );
  });
}

const open = headers(1, request({ ':method': 'POST' }), 0);
const ping = Buffer.alloc(8);

describe('prefaces', () => {
  for (const [name, bytes] of [
    ['HTTP/1.1', Buffer.from('GET / HTTP/1.1\r\nHost: a\r\n\r\n')],
    ['another version', Buffer.from('PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n')],
    ['a preface with a wrong end', Buffer.concat([PREFACE.subarray(0, 23), Buffer.from('x')])],
    ['zeros', Buffer.alloc(100)],
    ['a request in the place of the settings', Buffer.concat([PREFACE, headers(1, request(), END_STREAM)])],
    ['an acknowledgement in the place of the settings', Buffer.concat([PREFACE, frame('SETTINGS', ACK, 0)])],
  ] as const) {
    test(name, async (t) => {
      const client = await H2Client.connect(t, worker, null);
      client.send(bytes);
      assert.equal(await client.goAway(), 'PROTOCOL_ERROR');
      assert.deepEqual(recorder.requests, []);
      await stillAnswers(t);
    });
  }

  test('a preface and a request may come byte by byte', async (t) => {
    const client = await H2Client.connect(t, worker, null);
    const bytes = Buffer.concat([PREFACE, frame('SETTINGS', 0, 0), headers(1, request(), END_STREAM)]);
    for (const byte of bytes) client.send(Buffer.from([byte]));
    assert.equal(await client.end(1), 'ended');
    assert.deepEqual(client.statuses(1), ['200']);
  });
});

describe('frames on the wrong stream', () => {
  fatal('DATA on stream 0', 'PROTOCOL_ERROR', frame('DATA', 0, 0, 'x'));
  fatal('DATA on a stream that is not open', 'PROTOCOL_ERROR', frame('DATA', END_STREAM, 1, 'x'));
  fatal('HEADERS on stream 0', 'PROTOCOL_ERROR', headers(0, request(), END_STREAM));
  fatal("HEADERS on a server's stream", 'PROTOCOL_ERROR', headers(2, request(), END_STREAM));
  fatal('RST_STREAM on stream 0', 'PROTOCOL_ERROR', frame('RST_STREAM', 0, 0, uint32(0)));
  fatal('RST_STREAM on a stream that is not open', 'PROTOCOL_ERROR', frame('RST_STREAM', 0, 1, uint32(0)));
  fatal('WINDOW_UPDATE on a stream that is not open', 'PROTOCOL_ERROR', frame('WINDOW_UPDATE', 0, 1, uint32(1)));
  fatal("WINDOW_UPDATE on a server's stream", 'PROTOCOL_ERROR', frame('WINDOW_UPDATE', 0, 2, uint32(1)));
  fatal('SETTINGS on a stream', 'PROTOCOL_ERROR', frame('SETTINGS', 0, 1));
  fatal('PING on a stream', 'PROTOCOL_ERROR', frame('PING', 0, 1, ping));
  fatal('GOAWAY on a stream', 'PROTOCOL_ERROR', frame('GOAWAY', 0, 1, uint32(0, 0)));
  fatal('PRIORITY on stream 0', 'PROTOCOL_ERROR', frame('PRIORITY', 0, 0, Buffer.alloc(5)));
  fatal('PUSH_PROMISE from a client', 'PROTOCOL_ERROR', open, frame('PUSH_PROMISE', END_HEADERS, 1, uint32(2)));
  resets('DATA after the end', 'STREAM_CLOSED', headers(1, request(), END_STREAM), frame('DATA', 0, 1, 'x'));
  resets('fields after the end', 'STREAM_CLOSED', headers(1, request(), END_STREAM), headers(1, request(), END_STREAM));
  harmless('what comes for a stream that is gone', ...[open, frame('RST_STREAM', 0, 1, uint32(8))], ...[
    frame('DATA', 0, 1, 'x'),
    frame('WINDOW_UPDATE', 0, 1, uint32(1)),
    frame('RST_STREAM', 0, 1, uint32(8)),
    headers(1, [['x', 'y']], END_STREAM),
  ]);
  harmless('PRIORITY for any stream', frame('PRIORITY', 0, 7, Buffer.alloc(5)), frame('PRIORITY', 0, 2, Buffer.alloc(5)));
  harmless('frames of unknown types', frame(0x10, 0, 0, 'u=1'), frame(0xfa, 0xff, 1, 'grease'));
}); // prettier-ignore

describe('frames of the wrong size', () => {
  fatal('a frame that is too large', 'FRAME_SIZE_ERROR', frame('DATA', 0, 1, '', 16_385));
  fatal('a frame of the largest length there is', 'FRAME_SIZE_ERROR', frame(0xfa, 0, 0, '', 2 ** 24 - 1));
  fatal('a short PING', 'FRAME_SIZE_ERROR', frame('PING', 0, 0, Buffer.alloc(7)));
  fatal('a long PING', 'FRAME_SIZE_ERROR', frame('PING', 0, 0, Buffer.alloc(9)));
  fatal('a short RST_STREAM', 'FRAME_SIZE_ERROR', frame('RST_STREAM', 0, 1, Buffer.alloc(3)));
  fatal('a short WINDOW_UPDATE', 'FRAME_SIZE_ERROR', frame('WINDOW_UPDATE', 0, 0, Buffer.alloc(3)));
  fatal('a short PRIORITY', 'FRAME_SIZE_ERROR', frame('PRIORITY', 0, 1, Buffer.alloc(4)));
  fatal('a cut off setting', 'FRAME_SIZE_ERROR', frame('SETTINGS', 0, 0, Buffer.alloc(5)));
  fatal('an acknowledgement with settings', 'FRAME_SIZE_ERROR', frame('SETTINGS', ACK, 0, setting(3, 1)));
  fatal('a padded frame without padding', 'FRAME_SIZE_ERROR', open, frame('DATA', PADDED, 1, ''));
  fatal('more padding than frame', 'PROTOCOL_ERROR', open, frame('DATA', PADDED, 1, '\x05hell'));
  fatal('fields with more padding than frame', 'PROTOCOL_ERROR', frame('HEADERS', PADDED | END_HEADERS, 1, '\x09x'));
  fatal('fields with a cut off priority', 'FRAME_SIZE_ERROR', frame('HEADERS', 0x20 | END_HEADERS, 1, 'x'));
}); // prettier-ignore

describe('settings', () => {
  fatal('pushes neither on nor off', 'PROTOCOL_ERROR', frame('SETTINGS', 0, 0, setting(2, 2)));
  fatal('a window that is too large', 'FLOW_CONTROL_ERROR', frame('SETTINGS', 0, 0, setting(4, 2 ** 31)));
  fatal('frames that are too small', 'PROTOCOL_ERROR', frame('SETTINGS', 0, 0, setting(5, 16_383)));
  fatal('frames that are too large', 'PROTOCOL_ERROR', frame('SETTINGS', 0, 0, setting(5, 2 ** 24)));
  harmless('unknown ones', frame('SETTINGS', 0, 0, setting(0xfafa, 1)));
  harmless('no table for fields', frame('SETTINGS', 0, 0, setting(1, 0)));
  harmless('an enormous table for fields', frame('SETTINGS', 0, 0, setting(1, 2 ** 32 - 1)));
});

describe('windows', () => {
  fatal('a window of the connection that grows by nothing', 'PROTOCOL_ERROR', frame('WINDOW_UPDATE', 0, 0, uint32(0)));
  fatal('a window of the connection that overflows', 'FLOW_CONTROL_ERROR', frame('WINDOW_UPDATE', 0, 0, uint32(2 ** 31 - 1)));
  resets('a window of a stream that grows by nothing', 'PROTOCOL_ERROR', open, frame('WINDOW_UPDATE', 0, 1, uint32(0)));
  resets('a window of a stream that overflows', 'FLOW_CONTROL_ERROR', open, frame('WINDOW_UPDATE', 0, 1, uint32(2 ** 31 - 1)));
  fatal('a new initial window that makes one overflow', 'FLOW_CONTROL_ERROR',
    open, frame('WINDOW_UPDATE', 0, 1, uint32(2 ** 31 - 1 - 65_535)), frame('SETTINGS', 0, 0, setting(4, 65_536)));
  test('the highest bits of numbers are ignored', async (t) => {
    const client = await H2Client.connect(t, worker);
    client.send(frame('WINDOW_UPDATE', 0, 0x8000_0000, uint32(0x8000_0001)));
    client.send(frame('HEADERS', END_HEADERS | END_STREAM, 0x8000_0001, block(request())));
    assert.equal(await client.end(1), 'ended');
  });
}); // prettier-ignore

describe('blocks of fields', () => {
  const first = frame('HEADERS', END_STREAM, 1, block(request().slice(0, 2)));
  const rest = block(request().slice(2));
  fatal('something between HEADERS and CONTINUATION', 'PROTOCOL_ERROR', first, frame('PING', 0, 0, ping));
  fatal('a CONTINUATION of another stream', 'PROTOCOL_ERROR', first, frame('CONTINUATION', END_HEADERS, 3, rest));
  fatal('other fields in the place of a CONTINUATION', 'PROTOCOL_ERROR', first, headers(1, request(), END_STREAM));
  fatal('an unknown frame in the place of a CONTINUATION', 'PROTOCOL_ERROR', first, frame(0xfa, 0, 1, ''));
  fatal('a CONTINUATION of nothing', 'PROTOCOL_ERROR', frame('CONTINUATION', END_HEADERS, 1, rest));
  for (const [name, bytes] of [
    ['an index of zero', [0x80]],
    ['an index that is not there', [0xbe]],
    ['the index of a name that is not there', [0x7e, 0x00]],
    ['an integer without an end', [0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80]],
    ['an integer that overflows', [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]],
    ['a string that is longer than the block', [0x00, 0x7e, 0x61]],
    ['a name without a value', [0x00, 0x01, 0x61]],
    ['a table larger than allowed', [0x3f, 0xe2, 0x1f]],
    ['a table that is resized after a field', [0x82, 0x20]],
    ['a Huffman string with the end-of-string code', [0x00, 0x84, 0xff, 0xff, 0xff, 0xff, 0x00]],
    ['a Huffman string that is padded with zeros', [0x00, 0x81, 0x00, 0x00]],
    ['a Huffman string that is padded with a whole octet', [0x00, 0x82, 0x1f, 0xff, 0x00]],
  ] as const) {
    fatal(name, 'COMPRESSION_ERROR', frame('HEADERS', END_HEADERS | END_STREAM, 1, Buffer.from(bytes)));
  }
});

test('bodies may be padded', async (t) => {
  const client = await H2Client.connect(t, worker);
  client.send(open, frame('DATA', PADDED, 1, '\x03hel\0\0\0'), frame('DATA', PADDED | END_STREAM, 1, '\x00lo'));
  assert.equal(await client.end(1), 'ended');
  assert.equal(recorder.requests[0]?.body, 'hello');
});

test('fields may be padded and have a priority', async (t) => {
  const client = await H2Client.connect(t, worker);
  const payload = Buffer.concat([Buffer.from([2]), Buffer.alloc(5), block(request()), Buffer.alloc(2)]);
  client.send(frame('HEADERS', END_HEADERS | END_STREAM | PADDED | 0x20, 1, payload));
  assert.equal(await client.end(1), 'ended');
  assert.deepEqual(client.statuses(1), ['200']);
});

test('a client that says goodbye gets the answers to what it has asked', async (t) => {
  const client = await H2Client.connect(t, worker);
  client.send(headers(1, request(), END_STREAM), frame('GOAWAY', 0, 0, uint32(0, 0)));
  assert.equal(await client.end(1), 'ended');
  assert.equal(await client.goAway(), 'NO_ERROR');
});
