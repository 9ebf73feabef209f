import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import * as net from 'node:net';
import { test, type TestContext } from 'node:test';
import { workshop, type Workshop } from '../support/deployable.ts';
import { deploy, statusOf, until, untilQuiet } from '../support/deployments.ts';
import { startProgram, type TestProgram } from '../support/program.ts';
import { Upload } from '../support/upload.ts';

const MIB = 2 ** 20;

/** Version 1 in service. */
async function setUp(t: TestContext): Promise<{ shop: Workshop; program: TestProgram }> {
  const shop = workshop(t);
  const args = ['--runtime', 'process', '--workers', '2', shop.bucket, shop.prefix, 'shop'];
  const program = await startProgram(t, { args, stateDir: shop.stateDir });
  await deploy(program, shop.config('v1'));
  return { shop, program };
}

/** Brings version 2 into service and waits until nothing is left of version 1. */
async function replace(shop: Workshop, program: TestProgram): Promise<void> {
  const hash = shop.config('v2');
  for (const path of ['/launch', '/switch?wait=drained']) {
    const answer = await program.call('POST', path, hash);
    assert.equal(answer.status, 200, answer.text);
  }
  const { Containers } = await statusOf(program);
  assert.deepEqual(
    Containers.map(({ Revision, State }) => [Revision, State]),
    [['v2', 'active']],
  );
}

test('uploads that were under way at a deploy do not delay it and go to the new container', async (t) => {
  const { shop, program } = await setUp(t);
  // One that fits into memory, one on disk.
  const bodies = [randomBytes(500_000), randomBytes(5 * MIB)];
  const uploads = await Promise.all(bodies.map(async (body) => Upload.begin(t, program.proxy, body)));
  const half = bodies.map((body) => Math.floor(body.length / 2));
  await Promise.all(uploads.map(async (upload, i) => upload.send(half[i] ?? 0)));
  const { Containers } = await until(
    async () => statusOf(program),
    ({ Buffers }) => Buffers.SpoolBytes >= (half[1] ?? 0) && Buffers.MemoryBytes >= (half[0] ?? 0),
  );
  assert.deepEqual(
    Containers.map(({ Revision, InFlight }) => [Revision, InFlight]),
    [['v1', 0]],
  );

  // Answers before the uploads go on: it did not wait for them.
  await replace(shop, program);

  for (const [i, upload] of uploads.entries()) {
    const body = bodies[i] as Buffer;
    await upload.send(body.length);
    const { version, bytes, sha256 } = await upload.answer();
    const expected = createHash('sha256').update(body).digest('hex');
    assert.deepEqual({ version, bytes, sha256 }, { version: 'v2', bytes: body.length, sha256: expected });
  }
  await untilQuiet(program);
});

test('a client that reads slowly does not delay a deploy, and still gets all of its response', async (t) => {
  const { shop, program } = await setUp(t);
  const { port } = new URL(`http://${program.proxy}`);
  const client = net.connect({ port: Number(port), host: '127.0.0.1' });
  t.after(() => client.destroy());
  await once(client, 'connect');
  client.pause();
  // More than the kernel's buffers on both sides take.
  const size = 40 * MIB;
  client.write(`GET /stream?size=${MIB}&chunks=40 HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n`);
  const { States } = await until(
    async () => statusOf(program),
    ({ Containers, Buffers }) => Containers[0]?.InFlight === 0 && Buffers.SpoolBytes > MIB,
  );
  assert.equal(States.active, 1, 'the client has not got it all yet');

  await replace(shop, program);

  assert.ok((await statusOf(program)).Buffers.SpoolBytes > MIB, 'the rest of the response waits for its client');
  let received = 0;
  let tail = Buffer.alloc(0);
  for await (const chunk of client as AsyncIterable<Buffer>) {
    received += chunk.length;
    tail = Buffer.concat([tail, chunk]).subarray(-7);
  }
  assert.ok(received > size, `${received} bytes`);
  assert.equal(tail.toString('latin1'), '\r\n0\r\n\r\n', 'it is marked as whole');
  await untilQuiet(program);
});
