import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { frame, H2Client, setting, uint32 } from '../wire/support/h2-frames.ts';
import { testData } from './support/data.ts';
import { testMaterial } from './support/transport.ts';
import { Upstream } from './support/upstream.ts';
import { TestWorker } from './support/worker.ts';

const INITIAL_WINDOW_SIZE = 4;
const LARGE = 2 ** 24;

test('a client that is still reading its last answer when it is asked to go gets all of it', async (t) => {
  const data = testData(2 ** 20);
  const upstream = await Upstream.start(t, (_, response) => response.end(data));
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, tls: testMaterial() });
  const client = await H2Client.connect(t, worker, setting(INITIAL_WINDOW_SIZE, LARGE));
  client.send(frame('WINDOW_UPDATE', 0, 0, uint32(LARGE)));
  await client.settled();
  client.raw.socket.pause();
  client.request(1);
  await worker.statsWhen(({ requests }) => requests === 1);
  worker.send({ type: 'retire', timeoutMs: 60_000, keepIdle: false });
  // What a reader says on its way; a connection that is closed meanwhile would be reset by it.
  for (let i = 0; i < 16; i++) {
    await sleep(500);
    client.send(frame('WINDOW_UPDATE', 0, 0, uint32(1)));
  }
  client.raw.socket.resume();
  assert.equal(await client.end(1), 'ended');
  assert.ok(client.body(1).equals(data));
  assert.equal(await client.goAway(), 'NO_ERROR');
  assert.deepEqual(await worker.exited, { code: 0, signal: null });
});
