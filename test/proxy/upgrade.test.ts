import assert from 'node:assert/strict';
import { once } from 'node:events';
import type * as net from 'node:net';
import { after, before, test, type TestContext } from 'node:test';
import { RawClient, TestWorker } from './support/worker.ts';
import { RawUpstream, Upstream } from './support/upstream.ts';

let worker: TestWorker;
before(async () => {
  worker = await TestWorker.start(null);
});
after(() => worker.stop());

const UPGRADE =
  'GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n' +
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n';
const SWITCHING =
  'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n';

/** A container that changes protocols and then hands over the connection. */
async function tunnelling(t: TestContext, onTunnel: (socket: net.Socket) => void): Promise<RawUpstream> {
  return RawUpstream.start(t, (socket, text) => {
    if (!text.includes('\r\n\r\n')) return false;
    socket.removeAllListeners('data');
    const [, rest = ''] = text.split('\r\n\r\n');
    if (rest !== '') socket.unshift(Buffer.from(rest, 'latin1'));
    socket.write(SWITCHING);
    onTunnel(socket);
    return true;
  });
}

test('a change of protocols opens a tunnel in both directions', async (t) => {
  const upstream = await tunnelling(t, (socket) => {
    socket.write('hello from the container');
    socket.pipe(socket);
  });
  await worker.switchTo(upstream.target);
  const client = await RawClient.connect(t, worker.port);
  // What follows the request at once belongs to the tunnel.
  client.send(`${UPGRADE}early`);
  const text = await client.until(/early$/);
  assert.match(text, /^HTTP\/1\.1 101 Switching Protocols\r\n/);
  assert.match(text, /\r\nSec-WebSocket-Accept: x\r\n/);
  assert.match(text, /\r\nUpgrade: websocket\r\n/);
  assert.match(text, /\r\nConnection: Upgrade\r\n/);
  assert.match(text, /\r\n\r\nhello from the containerearly$/);
  assert.match(upstream.received, /\r\nupgrade: websocket\r\n/i);
  assert.match(upstream.received, /\r\nconnection: upgrade\r\n/i);
  const large = 'x'.repeat(5 * 2 ** 20);
  client.received = Buffer.alloc(0);
  client.send(large);
  while (client.received.length < large.length) await once(client.socket, 'data');
  assert.equal(client.text, large);

  const stats = await worker.statsWhen(({ states }) => states.hijacked === 1);
  assert.deepEqual(worker.runningOn(upstream.target, stats), { inFlight: 0, upgraded: 1 });
  assert.equal(stats.statusCodes['101'], 1);
  client.socket.end();
  await client.closed;
  await worker.statsWhen(
    (stats) => stats.states.hijacked === 0 && worker.runningOn(upstream.target, stats).upgraded === 0,
  );
});

test('one direction of a tunnel may end before the other', async (t) => {
  const upstream = await tunnelling(t, (socket) => {
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.on('end', () => socket.end(`got ${Buffer.concat(chunks).toString()}`));
  });
  await worker.switchTo(upstream.target);
  const client = await RawClient.connect(t, worker.port, { allowHalfOpen: true });
  client.send(UPGRADE);
  await client.until(/\r\n\r\n/);
  client.socket.end('last words');
  await once(client.socket, 'end');
  client.socket.destroy();
  assert.match(client.text, /got last words$/);
});

for (const [who, reset] of [
  ['client', (client: RawClient) => void client.reset()],
  ['container', (_: RawClient, upstream: RawUpstream) => upstream.sockets.forEach((s) => void s.resetAndDestroy())],
] as const) {
  test(`a tunnel that the ${who} resets ends on both sides`, async (t) => {
    const upstream = await tunnelling(t, (socket) => socket.resume());
    await worker.switchTo(upstream.target);
    const client = await RawClient.connect(t, worker.port);
    client.send(UPGRADE);
    await client.until(/\r\n\r\n/);
    const closed = once(upstream.events, 'close');
    const end = once(upstream.events, 'end');
    reset(client, upstream);
    await client.closed;
    await Promise.race([closed, end]);
    await worker.statsWhen((stats) => worker.runningOn(upstream.target, stats).upgraded === 0);
  });
}

test('a tunnel whose reader is slow holds its writer back', async (t) => {
  let socket: net.Socket | undefined;
  const upstream = await tunnelling(t, (opened) => (socket = opened));
  await worker.switchTo(upstream.target);
  const client = await RawClient.connect(t, worker.port);
  client.send(UPGRADE);
  await client.until(/\r\n\r\n/);
  client.socket.pause();
  let written = 0;
  while (written < 200 * 2 ** 20) {
    written += 2 ** 20;
    if (socket?.write(Buffer.alloc(2 ** 20)) === true) continue;
    const drained = await Promise.race([
      once(socket as net.Socket, 'drain').then(() => true),
      worker.message('stats').then(() => worker.message('stats').then(() => false)),
    ]);
    if (!drained) break;
  }
  assert.ok(written < 50 * 2 ** 20, `${written} bytes were taken though the client reads nothing`);
  client.socket.destroy();
});

test('an answer that does not change protocols is an ordinary response', async (t) => {
  const upstream = await RawUpstream.answering(t, 'HTTP/1.1 426 Upgrade Required\r\nContent-Length: 4\r\n\r\nnope');
  await worker.switchTo(upstream.target);
  const client = await RawClient.connect(t, worker.port);
  client.send(UPGRADE);
  assert.match(await client.until(/nope$/), /^HTTP\/1\.1 426 /);
  client.received = Buffer.alloc(0);
  client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  assert.match(await client.until(/nope$/), /^HTTP\/1\.1 426 /);
});

for (const protocols of ['h2c', 'H2C', 'websocket, h2c', 'h2c/1', '"h2c"', 'h2c;q=1', 'HTTP/2.0', 'h2', 'web socket']) {
  test(`an upgrade to ${protocols} is not passed on: it would get around every check`, async (t) => {
    const upstream = await Upstream.start(t, (request, response) => {
      const { upgrade, 'http2-settings': settings } = request.headers;
      response.end(JSON.stringify({ upgrade, settings }));
    });
    await worker.switchTo(upstream.target);
    const client = await RawClient.connect(t, worker.port);
    const connection = 'Connection: Upgrade, HTTP2-Settings';
    client.send(`GET / HTTP/1.1\r\nHost: a\r\n${connection}\r\nUpgrade: ${protocols}\r\nHTTP2-Settings: AA\r\n\r\n`);
    assert.match(await client.until(/\}$|\}\r\n/), /^HTTP\/1\.1 200 [^]*\r\n\{\}$/);
  });
}

for (const [what, upgrade] of [
  ['another protocol', 'Upgrade: other\r\n'],
  ['one more protocol', 'Upgrade: websocket, other\r\n'],
  ['no protocol', 'Upgrade: \r\n'],
] as const) {
  test(`a change to ${what} than the client wants is refused`, async (t) => {
    const answer = `HTTP/1.1 101 Switching Protocols\r\n${upgrade}Connection: Upgrade\r\n\r\nsmuggled`;
    const upstream = await RawUpstream.answering(t, answer);
    await worker.switchTo(upstream.target);
    const client = await RawClient.connect(t, worker.port);
    client.send(UPGRADE.replace('keep-alive, Upgrade', 'close, Upgrade'));
    const text = await client.all();
    assert.match(text, /^HTTP\/1\.1 502 [^]*upstream_malformed/);
    assert.doesNotMatch(text, /smuggled/);
    await upstream.abandoned();
  });
}

test('tunnels stay on the old container at a switch, keep it from being drained, and end with cut', async (t) => {
  const old = await tunnelling(t, (socket) => socket.pipe(socket));
  const fresh = await Upstream.start(t, (_, response) => response.end('new'));
  await worker.switchTo(old.target);
  const client = await RawClient.connect(t, worker.port);
  client.send(UPGRADE);
  await client.until(/\r\n\r\n/);
  await worker.switchTo(fresh.target);
  assert.deepEqual(worker.runningOn(old.target), { inFlight: 0, upgraded: 1 });
  client.send('still here');
  await client.until(/still here$/);
  const cut = worker.statsWhen((stats) => worker.runningOn(old.target, stats).upgraded === 0);
  worker.send({ type: 'cut', id: old.target.id });
  await client.closed;
  await cut;
});
