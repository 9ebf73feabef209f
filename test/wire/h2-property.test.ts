import assert from 'node:assert/strict';
import { after, before, test, type TestContext } from 'node:test';
import { Random, seedOfRun } from '../proxy/support/random.ts';
import { testMaterial } from '../proxy/support/transport.ts';
import { TestWorker } from '../proxy/support/worker.ts';
import { ACK, END_STREAM, frame, H2Client, headers, PADDED, PREFACE, request, setting, uint32 } from './support/h2-frames.ts'; // prettier-ignore
import { Recorder } from './support/recorder.ts';

const seed = seedOfRun();

let worker: TestWorker;
let recorder: Recorder;
before(async () => {
  recorder = await Recorder.start(null);
  worker = await TestWorker.start(null, { route: { active: recorder.upstream.target }, tls: testMaterial() });
});
after(async () => {
  await worker.stop();
  await recorder.upstream.stop();
});

/** A request in frames of any kind, with its body. */
function made(streamId: number, random: Random): { frames: Buffer[]; body: string } {
  const body = random.chance(0.5) ? 'x'.repeat(random.between(1, 40_000)) : '';
  const method = body === '' ? 'GET' : 'POST';
  const more = Array.from({ length: random.between(0, 5) }, (_, i) => [`x-${i}`, 'v'.repeat(random.between(0, 300))] as const);
  const head = headers(streamId, request({ ':method': method, ':path': `/${streamId}` }, more), body === '' ? END_STREAM : 0);
  const pieces = body === '' ? [] : random.split(Buffer.from(body), 6).flatMap((piece) => cut(piece));
  const data = pieces.map((piece, i) => {
    const flags = i === pieces.length - 1 ? END_STREAM : 0;
    if (random.chance(0.7)) return frame('DATA', flags, streamId, piece);
    const padding = random.between(0, 200);
    return frame('DATA', flags | PADDED, streamId, Buffer.concat([Buffer.from([padding]), piece, Buffer.alloc(padding)]));
  });
  return { frames: [head, ...data], body };
} // prettier-ignore

function cut(piece: Buffer): Buffer[] {
  const most = 16_000;
  return piece.length <= most ? [piece] : [piece.subarray(0, most), ...cut(piece.subarray(most))];
}

/** Frames of several streams, each stream's in their order, with others in between. */
function mixed(streams: Buffer[][], random: Random): Buffer[] {
  const queues = streams.map((frames) => [...frames]);
  const result: Buffer[] = [];
  // Streams must be opened in the order of their numbers.
  for (const queue of queues) {
    result.push(queue.shift() ?? Buffer.alloc(0));
    if (random.chance(0.3)) result.push(frame('PING', 0, 0, Buffer.alloc(8)));
    if (random.chance(0.3)) result.push(frame('WINDOW_UPDATE', 0, 0, uint32(random.between(1, 1_000))));
    const other = random.pick(queues.slice(0, queues.indexOf(queue) + 1)).shift();
    if (other !== undefined) result.push(other);
  }
  for (let left = queues.filter((queue) => queue.length > 0); left.length > 0; left = left.filter((queue) => queue.length > 0)) {
    result.push(random.pick(left).shift() ?? Buffer.alloc(0));
  }
  return result;
} // prettier-ignore

async function send(client: H2Client, bytes: Buffer, random: Random): Promise<void> {
  for (const piece of random.split(bytes, 8)) {
    client.send(piece);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test(`requests arrive as they were sent, however their frames are cut and mixed (PROPERTY_SEED=${seed})`, async (t) => {
  const random = new Random(seed);
  for (let round = 0; round < 60; round++) {
    recorder.clear();
    const client = await H2Client.connect(t, worker, null);
    const ids = Array.from({ length: random.between(1, 8) }, (_, i) => 2 * i + 1);
    const requests = ids.map((id) => made(id, random));
    const settings = frame('SETTINGS', 0, 0, setting(4, random.pick([65_535, 1_000_000])));
    const frames = mixed(requests.map(({ frames }) => frames), random); // prettier-ignore
    await send(client, Buffer.concat([PREFACE, settings, ...frames]), random);
    for (const id of ids) assert.equal(await client.end(id), 'ended');
    for (const [i, id] of ids.entries()) {
      const seen = recorder.requests.find(({ requestLine }) => requestLine.split(' ')[1] === `/${id}`);
      assert.equal(seen?.body, requests[i]?.body);
    }
    assert.deepEqual([recorder.requests.length, recorder.garbage], [ids.length, []]);
    client.raw.socket.destroy();
  }
  await worker.quiet();
});

async function attack(t: TestContext, random: Random): Promise<void> {
  const client = await H2Client.connect(t, worker, null);
  const streams = Array.from({ length: random.between(1, 4) }, (_, i) => made(2 * i + 1, random).frames);
  const bytes = Buffer.concat([PREFACE, frame('SETTINGS', 0, 0), frame('SETTINGS', ACK, 0), ...mixed(streams, random)]);
  for (let left = random.between(1, 6); left > 0; left--) {
    // Behind the preface; most of it where frames and fields begin.
    const at = random.between(PREFACE.length, random.chance(0.7) ? Math.min(bytes.length - 1, 300) : bytes.length - 1);
    bytes[at] = random.between(0, 255);
  }
  await send(client, bytes, random);
  // Whether it was answered or cut off is not of interest here, only that nothing else comes of it.
  client.raw.socket.end();
  await client.raw.closed;
}

test(`bytes that were changed at random do no harm (PROPERTY_SEED=${seed})`, async (t) => {
  const random = new Random(seed + 1);
  recorder.clear();
  for (let round = 0; round < 300; round++) await attack(t, random);
  assert.deepEqual(recorder.garbage, []);
  for (const { requestLine } of recorder.requests) assert.match(requestLine, /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+ \/[!-~]* HTTP\/1\.1$/);
  await worker.quiet();
  recorder.clear();
  const client = await H2Client.connect(t, worker);
  client.request(1);
  assert.equal(await client.end(1), 'ended');
  assert.equal(recorder.requests.length, 1);
  assert.doesNotMatch(worker.output, /internal_error|request failed in the proxy/);
}); // prettier-ignore
