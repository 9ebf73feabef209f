import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';
import { describe, test, type TestContext } from 'node:test';
import { inspect } from 'node:util';
import { GetObjectCommand, PutBucketPolicyCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { openStore } from '../../src/manager/open-store.ts';
import type { ConfigStore } from '../../src/manager/store.ts';
import { freePort } from '../support/free-port.ts';
import { memoryLog } from '../support/memory-log.ts';
import { inBatches, s3ForTest } from '../support/s3.ts';
import { Tap } from '../support/tap.ts';
import { openForTest, storeContract, type StoreUnderTest, unavailable } from './store.contract.ts';

const prefix = 'shop/production';

/** Settings of the environment and of files would decide what these tests are to decide. */
function setEnvironment(t: TestContext, values: Record<string, string | undefined>): void {
  const before = Object.fromEntries(Object.keys(values).map((name) => [name, process.env[name]]));
  const assign = (all: Record<string, string | undefined>) => {
    for (const [name, value] of Object.entries(all)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  };
  assign(values);
  t.after(() => {
    assign(before);
  });
}

async function prepare(
  t: TestContext,
): Promise<StoreUnderTest & { client: Awaited<ReturnType<typeof s3ForTest>>['client'] }> {
  const { bucket, client, endpoint, env } = await s3ForTest(t);
  setEnvironment(t, { ...env, AWS_REGION: undefined, AWS_DEFAULT_REGION: undefined, AWS_PROFILE: undefined });
  const settings = { bucket, prefix, s3Endpoint: endpoint, s3PathStyle: true };
  return {
    settings,
    client,
    store: await openForTest(t, settings),
    putArtifact: async (Key, Body) => {
      await client.send(new PutObjectCommand({ Bucket: bucket, Key, Body }));
      return bucket;
    },
  };
}

/** A store behind a tap, and one that reaches the same objects past it. */
async function prepareTapped(t: TestContext) {
  const { settings, store: direct, client } = await prepare(t);
  const tap = await Tap.start(t, { url: settings.s3Endpoint ?? assert.fail() });
  const { log, lines } = memoryLog();
  const store = await openStore({ ...settings, s3Endpoint: tap.url }, log);
  t.after(() => {
    store.close();
  });
  return { tap, store, direct, client, settings, lines };
}

async function serverForTest(t: TestContext, serve: (socket: Socket) => void): Promise<string> {
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    serve(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Every call of a store, on something that is to fail. */
async function everyCallFails(store: ConfigStore, message: RegExp): Promise<void> {
  await Promise.all([
    assert.rejects(store.read('current.json'), unavailable(message)),
    assert.rejects(store.write('current.json', Buffer.from('x')), unavailable(message)),
    assert.rejects(store.replace('current.json', Buffer.from('x'), null), unavailable(message)),
    assert.rejects(store.list(''), unavailable(message)),
    assert.rejects(store.entries('', 10), unavailable(message)),
    assert.rejects(store.remove('machines/a'), unavailable(message)),
  ]);
}

storeContract('S3 store', prepare);

describe('S3 store: objects', () => {
  test('objects lie below the prefix, as the original program put them', async (t) => {
    const { store, client, settings } = await prepare(t);
    await store.write('current.json', Buffer.from('{}'));
    const got = await client.send(new GetObjectCommand({ Bucket: settings.bucket, Key: `${prefix}/current.json` }));
    assert.equal(await got.Body?.transformToString(), '{}');
    assert.equal(got.ContentType, 'application/json');
  });

  test('a list of more keys than a page holds is complete', { timeout: 120_000 }, async (t) => {
    const { store } = await prepare(t);
    const keys = Array.from({ length: 1_005 }, (_, at) => `journal/${String(at).padStart(5, '0')}.json`);
    await inBatches(keys, 16, (key) => store.write(key, Buffer.from(key)));
    assert.deepEqual(await store.list('journal/'), keys);
  });

  test('a directory store opens an archive that lies in S3, and an S3 store one that lies in a directory', async (t) => {
    const { settings, store, putArtifact } = await prepare(t);
    const bucket = await putArtifact('shop.tar', Buffer.from('from S3'));
    const embedded = await openForTest(t, { ...settings, bucket: 'file:///nowhere' });
    const { signal } = new AbortController();
    const archive = await embedded.openArtifact(bucket, 'shop.tar', signal);
    assert.equal(Buffer.concat((await archive?.toArray()) as Buffer[]).toString(), 'from S3');
    const file = await store.openArtifact(`file://${import.meta.dirname}`, 'store.contract.ts', signal);
    assert.match(Buffer.concat((await file?.toArray()) as Buffer[]).toString(), /storeContract/);
  });

  test('conditional writes leave nothing else in the bucket', async (t) => {
    const { store } = await prepare(t);
    await store.replace('current.json', Buffer.from('x'), null);
    assert.deepEqual(await store.list(''), ['current.json']);
  });
});

describe('S3 store: lost answers', () => {
  test('a conditional write whose answer is lost is known as done', async (t) => {
    const { tap, store, direct } = await prepareTapped(t);
    await store.replace('other.json', Buffer.from('x'), null);
    tap.after = async () => {
      tap.after = () => {};
      tap.cut();
      await tap.restore();
    };
    assert.equal(await store.replace('current.json', Buffer.from('mine'), null), true);
    assert.equal(tap.seen.filter(({ method, path }) => method === 'PUT' && path.includes('current')).length, 2);
    assert.equal((await direct.read('current.json'))?.bytes.toString(), 'mine');
  });

  test('a conditional write that never arrived loses to equal bytes of somebody else', async (t) => {
    const { tap, store, direct } = await prepareTapped(t);
    await store.replace('other.json', Buffer.from('x'), null);
    tap.before = async () => {
      tap.before = () => {};
      assert.equal(await direct.replace('current.json', Buffer.from('equal'), null), true);
      tap.cut();
      await tap.restore();
    };
    assert.equal(await store.replace('current.json', Buffer.from('equal'), null), false);
  });
});

describe('S3 store: stores without conditional writes', () => {
  test('a store that ignores conditions gets one warning, and stale writes are still refused', async (t) => {
    const { tap, store, lines, client, settings } = await prepareTapped(t);
    // A request that lost a header has no valid signature any more: let anybody in.
    const everything = [`arn:aws:s3:::${settings.bucket}`, `arn:aws:s3:::${settings.bucket}/*`];
    const Statement = [{ Effect: 'Allow', Principal: '*', Action: 's3:*', Resource: everything }];
    const Policy = JSON.stringify({ Version: '2012-10-17', Statement });
    await client.send(new PutBucketPolicyCommand({ Bucket: settings.bucket, Policy }));
    tap.dropHeaders = ['authorization', 'if-match', 'if-none-match'];
    assert.equal(await store.replace('current.json', Buffer.from('first'), null), true);
    assert.equal(await store.replace('current.json', Buffer.from('second'), null), false);
    const { version } = (await store.read('current.json')) ?? assert.fail();
    assert.equal(await store.replace('current.json', Buffer.from('third'), version), true);
    assert.equal(await store.replace('current.json', Buffer.from('fourth'), version), false);
    assert.equal((await store.read('current.json'))?.bytes.toString(), 'third');
    assert.deepEqual(await store.list(''), ['current.json']);
    assert.equal(lines.length, 1);
    assert.equal(lines[0]?.level, 'warn');
    assert.match(String(lines[0]?.msg), /no conditional writes/);
  });

  test('a store that answers 501 to conditions is treated the same', async (t) => {
    const { tap, store, lines } = await prepareTapped(t);
    tap.before = async ({ headers }) => {
      if ('if-match' in headers) tap.answer(501);
      else await tap.restore();
    };
    assert.equal(await store.replace('current.json', Buffer.from('first'), null), true);
    assert.equal(await store.replace('current.json', Buffer.from('second'), null), false);
    assert.equal(lines.length, 1);
  });

  test('a store with conditional writes gets no warning', async (t) => {
    const { store, lines } = await prepareTapped(t);
    await store.replace('current.json', Buffer.from('x'), null);
    assert.deepEqual(lines, []);
  });
});

describe('S3 store: failures', () => {
  test('a bucket that does not exist is named by every call', async (t) => {
    const { settings } = await prepare(t);
    const store = await openForTest(t, { ...settings, bucket: 'no-such-bucket' });
    await everyCallFails(store, /there is no bucket no-such-bucket/);
    const opened = store.openArtifact('no-such-bucket-2', 'x', new AbortController().signal);
    await assert.rejects(opened, unavailable(/there is no bucket no-such-bucket-2/));
  });

  test('wrong credentials are told from an absent object, and appear in no error', async (t) => {
    const { settings } = await prepare(t);
    const secret = 'TheSecretNobodyMaySee';
    setEnvironment(t, { AWS_SECRET_ACCESS_KEY: secret });
    const store = await openForTest(t, settings);
    await everyCallFails(store, /access denied \((SignatureDoesNotMatch|Unknown\w*|403)/);
    const error: unknown = await store.read('current.json').catch((thrown: unknown) => thrown);
    const whole = inspect(error, { depth: Infinity, showHidden: true });
    assert.match(whole, /store_unavailable/);
    for (const hidden of [secret, process.env.AWS_ACCESS_KEY_ID ?? assert.fail(), 'Signature=']) {
      assert.equal(whole.includes(hidden), false, 'a credential is in the error');
    }
  });

  test('missing credentials and a missing region are named', async (t) => {
    const { settings } = await prepare(t);
    const nowhere = await openForTest(t, { ...settings, s3Endpoint: null });
    await everyCallFails(nowhere, /no region is set \(AWS_REGION\)/);
    setEnvironment(t, { AWS_ACCESS_KEY_ID: undefined, AWS_SECRET_ACCESS_KEY: undefined });
    await everyCallFails(await openForTest(t, settings), /no credentials were found/);
  });

  test('a port that nobody listens on is a refused connection', async (t) => {
    const { settings } = await prepare(t);
    const store = await openForTest(t, { ...settings, s3Endpoint: `http://127.0.0.1:${await freePort()}` });
    await everyCallFails(store, /the connection was refused/);
  });

  test('a server that accepts and never answers is given up', { timeout: 60_000 }, async (t) => {
    const { settings } = await prepare(t);
    const s3Endpoint = await serverForTest(t, () => {});
    const store = await openForTest(t, { ...settings, s3Endpoint });
    await everyCallFails(store, /no answer (in time|within 5 s)/);
    const opened = store.openArtifact(settings.bucket, 'x', new AbortController().signal);
    await assert.rejects(opened, unavailable(/no answer/));
  });

  test('a server that sends a byte now and then is given up', { timeout: 60_000 }, async (t) => {
    const { settings } = await prepare(t);
    const s3Endpoint = await serverForTest(t, (socket) => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\nETag: "x"\r\n\r\n');
      const drip = setInterval(() => socket.write('x'), 200);
      socket.once('close', () => {
        clearInterval(drip);
      });
    });
    const store = await openForTest(t, { ...settings, s3Endpoint });
    await assert.rejects(store.read('current.json'), unavailable(/no answer within 5 s/));
  });

  test('a server that breaks off inside a body is a failure, never a short object', async (t) => {
    const { settings } = await prepare(t);
    const s3Endpoint = await serverForTest(t, (socket) => {
      socket.end('HTTP/1.1 200 OK\r\nContent-Length: 100\r\nETag: "x"\r\n\r\nshort');
    });
    const store = await openForTest(t, { ...settings, s3Endpoint });
    await assert.rejects(store.read('current.json'), unavailable(/the connection was broken off/));
    const stream = (await store.openArtifact('bucket', 'x', new AbortController().signal)) ?? assert.fail();
    await assert.rejects(stream.toArray());
  });

  test('503 is tried twice, then reported, and all is well when the store is back', async (t) => {
    const { tap, store } = await prepareTapped(t);
    tap.answer(503);
    await assert.rejects(store.read('current.json'), unavailable(/it answered 503/));
    assert.equal(tap.seen.length, 2);
    await everyCallFails(store, /it answered 503/);
    await tap.restore();
    assert.equal(await store.replace('current.json', Buffer.from('x'), null), true);
  });

  test('one 503 is not noticed', async (t) => {
    const { tap, store } = await prepareTapped(t);
    tap.answer(503);
    tap.before = () => {
      if (tap.seen.length === 2) void tap.restore();
    };
    await store.write('current.json', Buffer.from('x'));
    assert.equal(tap.seen.length, 2);
  });

  test('a store that stops between read and write fails the write, and nothing has changed', async (t) => {
    const { tap, store, direct } = await prepareTapped(t);
    await store.replace('current.json', Buffer.from('old'), null);
    const { version } = (await store.read('current.json')) ?? assert.fail();
    tap.before = ({ method }) => {
      if (method === 'PUT') tap.cut();
    };
    const write = store.replace('current.json', Buffer.from('new'), version);
    await assert.rejects(write, unavailable(/the connection was (refused|broken off)/));
    assert.equal((await direct.read('current.json'))?.bytes.toString(), 'old');
  });
});
