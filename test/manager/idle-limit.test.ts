import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { idleLimited } from '../../src/manager/idle-limit.ts';

test('bytes come through in order, whatever their number', async () => {
  const source = new PassThrough();
  const limited = idleLimited(source, 10_000);
  const sent = Buffer.alloc(300_000, 'abc');
  for (let at = 0; at < sent.length; at += 1_000) source.write(sent.subarray(at, at + 1_000));
  source.end();
  assert.deepEqual(Buffer.concat((await limited.toArray()) as Buffer[]), sent);
});

test('a source that falls silent fails the stream and is destroyed', async () => {
  const source = new PassThrough();
  const limited = idleLimited(source, 20);
  source.write('a');
  await assert.rejects(limited.toArray(), /no byte within/);
  assert.equal(source.destroyed, true);
});

test('a reader that takes longer than the limit loses nothing', async () => {
  const source = new PassThrough();
  const limited = idleLimited(source, 20);
  const sent = Buffer.alloc(500_000, 'x');
  source.end(sent);
  const read: Buffer[] = [];
  for await (const chunk of limited) {
    read.push(chunk as Buffer);
    if (read.length < 3) await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.equal(Buffer.concat(read).length, sent.length);
});

test('a source that breaks off fails the stream', async () => {
  const source = new PassThrough();
  const limited = idleLimited(source, 10_000);
  source.write('half');
  const read = limited.toArray();
  source.destroy();
  await assert.rejects(read, /the source broke off/);
});

test('destroying the stream destroys the source', async () => {
  const source = new PassThrough();
  const limited = idleLimited(source, 10_000);
  limited.destroy();
  await new Promise((resolve) => limited.once('close', resolve));
  assert.equal(source.destroyed, true);
});
