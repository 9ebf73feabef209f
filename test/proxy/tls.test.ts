import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import * as net from 'node:net';
import { after, before, describe, test, type TestContext } from 'node:test';
import * as tls from 'node:tls';
import type { TlsMaterial } from '../../src/worker-config.ts';
import { issue, type IssuedCertificate } from '../support/certificates.ts';
import { TEST_HOST, testMaterial } from './support/transport.ts';
import { Upstream } from './support/upstream.ts';
import { RawClient, TestWorker } from './support/worker.ts';

const GET = `GET / HTTP/1.1\r\nHost: ${TEST_HOST}\r\n\r\n`;

function materialOf(...certificates: IssuedCertificate[]): TlsMaterial {
  return {
    certificates: certificates.map(({ cert, key }, i) => ({ source: `${i}.crt`, cert, key })),
    ticketKey: randomBytes(48).toString('base64'),
  };
}

interface Shaken {
  commonName: string;
  authorized: boolean;
  cipher: string;
  protocol: string | null;
}

/** One handshake, seen by the client. Rejects when it fails. */
async function shake(t: TestContext, port: number, options: tls.ConnectionOptions = {}): Promise<Shaken> {
  const socket = tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false, ...options });
  t.after(() => socket.destroy());
  await once(socket, 'secureConnect');
  const shaken = {
    commonName: String(socket.getPeerCertificate().subject.CN),
    authorized: socket.authorized,
    cipher: socket.getCipher().name,
    protocol: socket.getProtocol(),
  };
  socket.destroy();
  return shaken;
}

describe('a certificate is chosen by the name that the client asks for', () => {
  const first = issue({ names: ['first.example'] });
  const wildcard = issue({ names: ['*.shop.example', 'shop.example'] });
  const exact = issue({ names: ['www.shop.example'], type: 'rsa' });
  const expired = issue({ names: ['old.example'], notAfter: new Date(Date.now() - 1_000) });
  const renewed = issue({ names: ['new.example', 'old.example'] });
  let worker: TestWorker;

  before(async () => {
    worker = await TestWorker.start(null, { tls: materialOf(first, wildcard, exact, expired, renewed) });
  });
  after(() => worker.stop());

  for (const [servername, expected, why] of [
    [undefined, 'first.example', 'no name'],
    ['nobody.example', 'first.example', 'an unknown name'],
    ['shop.example', '*.shop.example', 'an exact name that is not the first in its certificate'],
    ['api.shop.example', '*.shop.example', 'a wildcard'],
    ['www.shop.example', 'www.shop.example', 'an exact name before a wildcard'],
    ['WWW.Shop.Example', 'www.shop.example', 'whatever the case'],
    ['a.b.shop.example', 'first.example', 'a wildcard stands for one label only'],
    ['old.example', 'new.example', 'a valid one before one that has expired'],
  ] as const) {
    test(`${why}: ${servername ?? '-'} gets ${expected}`, async (t) => {
      const { commonName } = await shake(t, worker.tlsPort, servername === undefined ? {} : { servername });
      assert.equal(commonName, expected);
    });
  }
});

test('of an ECDSA and an RSA certificate for one name each client gets the one that it can check', async (t) => {
  const worker = await TestWorker.start(t, {
    tls: materialOf(
      issue({ names: ['shop.example', 'ec.example'] }),
      issue({ names: ['shop.example', 'rsa.example'], type: 'rsa' }),
    ),
  });
  const rsaOnly = { sigalgs: 'rsa_pss_rsae_sha256:RSA+SHA256' };
  for (const [servername, options, expected] of [
    ['shop.example', {}, 'ECDSA'],
    ['shop.example', rsaOnly, 'RSA'],
    ['rsa.example', {}, 'RSA'],
  ] as const) {
    const { cipher } = await shake(t, worker.tlsPort, { servername, maxVersion: 'TLSv1.2', ...options });
    assert.match(cipher, new RegExp(`^ECDHE-${expected}-`), servername);
  }
  // What the name is not in must not be offered, whatever the client prefers.
  await assert.rejects(shake(t, worker.tlsPort, { servername: 'ec.example', ...rsaOnly }));
});

test('a chain is sent with its intermediates, so that a client needs to know the root only', async (t) => {
  const root = issue({ names: ['Test Root'], authority: true, type: 'rsa' });
  const middle = issue({ names: ['Test Middle'], authority: true, issuer: root });
  const leaf = issue({ names: ['shop.example'], issuer: middle });
  const other = issue({ names: ['other.example'], issuer: middle, type: 'rsa' });
  const withChain = [leaf, other].map((each) => ({ ...each, cert: each.cert + middle.cert }));
  const worker = await TestWorker.start(t, { tls: materialOf(...withChain) });
  for (const servername of ['shop.example', 'other.example']) {
    const { authorized } = await shake(t, worker.tlsPort, { servername, ca: root.cert });
    assert.equal(authorized, true, servername);
  }
});

describe('only what is strong is spoken', () => {
  let worker: TestWorker;
  before(async () => {
    worker = await TestWorker.start(null, {
      tls: materialOf(issue({ names: [TEST_HOST] }), issue({ names: [TEST_HOST], type: 'rsa' })),
    });
  });
  after(() => worker.stop());

  for (const [what, options] of [
    ['TLS 1.1', { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' }],
    ['a key exchange without forward secrecy', { maxVersion: 'TLSv1.2', ciphers: 'AES128-GCM-SHA256' }],
    ['CBC with an RSA certificate', { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-RSA-AES128-SHA' }],
    ['CBC with an ECDSA certificate', { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES256-SHA384' }],
    ['finite-field Diffie-Hellman', { maxVersion: 'TLSv1.2', ciphers: 'DHE-RSA-AES128-GCM-SHA256' }],
    ['an application protocol that is not ours', { ALPNProtocols: ['smtp'] }],
  ] as const) {
    test(`${what} is refused`, async (t) => {
      const { ALPNProtocols, ...rest } = options as tls.ConnectionOptions & { ALPNProtocols?: readonly string[] };
      const offer = ALPNProtocols === undefined ? {} : { ALPNProtocols: [...ALPNProtocols] };
      await assert.rejects(shake(t, worker.tlsPort, { ...rest, ...offer }), /alert|no protocols|no ciphers/i);
    });
  }

  for (const group of ['X25519MLKEM768', 'X25519', 'P-256', 'P-384']) {
    test(`${group} is taken for the key exchange`, async (t) => {
      const { protocol } = await shake(t, worker.tlsPort, { ecdhCurve: group });
      assert.equal(protocol, 'TLSv1.3');
    });
  }

  test('a client without AES in hardware gets ChaCha20', async (t) => {
    const ciphers = 'ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256';
    const { cipher } = await shake(t, worker.tlsPort, { maxVersion: 'TLSv1.2', ciphers });
    assert.equal(cipher, 'ECDHE-ECDSA-CHACHA20-POLY1305');
  });

  test('HTTP/1.1 is agreed on by ALPN', async (t) => {
    const client = await RawClient.connectSecurely(t, worker.tlsPort, {
      rejectUnauthorized: false,
      ALPNProtocols: ['http/1.1'],
    });
    assert.equal((client.socket as tls.TLSSocket).alpnProtocol, 'http/1.1');
  });

  test('a client that wants to renegotiate gets no new handshake', async (t) => {
    const client = await RawClient.connectSecurely(t, worker.tlsPort, {
      rejectUnauthorized: false,
      maxVersion: 'TLSv1.2',
    });
    const socket = client.socket as tls.TLSSocket;
    const outcome = new Promise<Error | null>((resolve) => {
      socket.once('error', resolve);
      socket.renegotiate({ rejectUnauthorized: false }, resolve);
    });
    assert.match(String(await outcome), /no renegotiation|ECONNRESET|closed/i);
  });
});

describe('a session that one worker began is resumed by another', () => {
  for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
    test(`with ${version}, as long as they share the key`, async (t) => {
      const upstream = await Upstream.start(t, (_, response) => response.end('ok'));
      const material = testMaterial();
      const route = { active: upstream.target };
      const one = await TestWorker.start(t, { route, tls: material });
      const two = await TestWorker.start(t, { route, tls: material });
      const visit = async (worker: TestWorker, session?: Buffer) => {
        const client = await RawClient.connectSecurely(t, worker.tlsPort, {
          minVersion: version,
          maxVersion: version,
          ...(session && { session }),
        });
        const socket = client.socket as tls.TLSSocket;
        const reused = socket.isSessionReused();
        let latest = socket.getSession();
        socket.on('session', (next) => (latest = next));
        client.send(GET.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'));
        assert.match(await client.all(), /ok$/);
        return { reused, session: latest };
      };
      const first = await visit(one);
      assert.equal(first.reused, false);
      const second = await visit(two, first.session);
      assert.equal(second.reused, true);
      two.send({ type: 'tls', material: { ...material, ticketKey: randomBytes(48).toString('base64') } });
      await two.switchTo(upstream.target);
      assert.equal((await visit(two, first.session)).reused, false);
      assert.equal((await visit(one, first.session)).reused, true);
    });
  }
});

test('new material counts for new handshakes; connections that there are go on', async (t) => {
  const upstream = await Upstream.start(t, (_, response) => response.end('ok'));
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, tls: testMaterial() });
  const client = await RawClient.connectSecurely(t, worker.tlsPort);
  worker.send({ type: 'tls', material: materialOf(issue({ names: ['new.example'] })) });
  // Messages are taken in order: when this is acknowledged, the material is in use.
  await worker.switchTo(upstream.target);
  assert.equal((await shake(t, worker.tlsPort)).commonName, 'new.example');
  client.send(GET);
  await client.until(/ok$/);
});

test('without a certificate handshakes fail, until there is one', async (t) => {
  const worker = await TestWorker.start(t, { tls: { ...testMaterial(), certificates: [] } });
  await assert.rejects(shake(t, worker.tlsPort));
  worker.send({ type: 'tls', material: testMaterial() });
  await worker.switchTo(null);
  assert.equal((await shake(t, worker.tlsPort)).commonName, TEST_HOST);
});

describe('handshakes that come to nothing', () => {
  const hello = Buffer.from('16030100c8010000c40303', 'hex');
  const cases: [string, (socket: net.Socket) => void][] = [
    ['garbage', (socket) => socket.write(randomBytes(300))],
    ['a hello that breaks off', (socket) => socket.end(hello)],
    ['a hello and a reset', (socket) => socket.write(hello, () => socket.resetAndDestroy())],
    ['a hello of a length that can not be', (socket) => socket.write(Buffer.from('160301ffff', 'hex'))],
    ['an alert', (socket) => socket.write(Buffer.from('15030100020228', 'hex'))],
    ['nothing but an end', (socket) => socket.end()],
    ['a reset at once', (socket) => socket.resetAndDestroy()],
  ];
  for (const [what, act] of cases) {
    test(`${what}: it is closed and counted, nothing is logged, others are served`, async (t) => {
      const upstream = await Upstream.start(t, (_, response) => response.end('ok'));
      const worker = await TestWorker.start(t, { route: { active: upstream.target }, tls: testMaterial() });
      for (let i = 0; i < 20; i++) {
        const socket = net.connect(worker.tlsPort, '127.0.0.1').on('error', () => {});
        t.after(() => socket.destroy());
        await once(socket, 'connect');
        act(socket);
      }
      await worker.statsWhen(({ connectionsClosed, states }) => connectionsClosed === 20 && states.new === 0);
      const client = await RawClient.connectSecurely(t, worker.tlsPort);
      client.send(GET);
      await client.until(/ok$/);
      assert.equal(worker.output, '');
    });
  }

  test('a client that says nothing, or one byte after the other, is closed when the time for headers is over', async (t) => {
    const worker = await TestWorker.start(t, { tls: testMaterial(), flags: ['--header-timeout=500ms'] });
    const silent = net.connect(worker.tlsPort, '127.0.0.1');
    const slow = net.connect(worker.tlsPort, '127.0.0.1').on('error', () => {});
    t.after(() => [silent, slow].forEach((socket) => socket.destroy()));
    let sent = 0;
    const timer = setInterval(() => slow.write(hello.subarray(sent, ++sent)), 50);
    t.after(() => clearInterval(timer));
    await Promise.all([once(silent.resume(), 'close'), once(slow.resume(), 'close')]);
    assert.ok(sent < hello.length * 5);
    await worker.statsWhen(({ connectionsClosed, states }) => connectionsClosed === 2 && states.new === 0);
  });

  test('they count for the limit of connections, as new ones', async (t) => {
    const worker = await TestWorker.start(t, { tls: testMaterial(), flags: ['--max-connections-per-ip=2'] });
    const sockets = Array.from({ length: 2 }, () => net.connect(worker.tlsPort, '127.0.0.1'));
    t.after(() => sockets.forEach((socket) => socket.destroy()));
    await worker.statsWhen(({ states }) => states.new === 2);
    await assert.rejects(shake(t, worker.tlsPort));
    const plain = await RawClient.connect(t, worker.plainPort);
    await plain.closed;
    assert.equal(plain.text, '');
  });

  test('plain HTTP gets an answer that says what is wrong', async (t) => {
    const worker = await TestWorker.start(t, { tls: testMaterial() });
    const client = await RawClient.connect(t, worker.tlsPort);
    client.send(GET);
    assert.match(await client.all(), /^HTTP\/1\.1 400 Bad Request\r\n[^]*This port speaks TLS: https:/);
    await worker.statsWhen(({ connectionsClosed }) => connectionsClosed === 1);
  });
});

test('what is no TLS after the handshake ends the connection', async (t) => {
  const upstream = await Upstream.start(t, (_, response) => response.end('ok'));
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, tls: testMaterial() });
  const below = net.connect(worker.tlsPort, '127.0.0.1');
  const socket = tls.connect({ socket: below, rejectUnauthorized: false }).on('error', () => {});
  t.after(() => below.destroy());
  await once(socket, 'secureConnect');
  socket.write(GET);
  await once(socket, 'data');
  below.write(randomBytes(200));
  await once(below, 'close');
  await worker.statsWhen(({ connectionsClosed, states }) => connectionsClosed === 1 && states.idle === 0);
  assert.equal(worker.output, '');
});

test('a worker that retires closes handshakes that do not come on, and ends', async (t) => {
  const worker = await TestWorker.start(t, { tls: testMaterial() });
  const socket = net.connect(worker.tlsPort, '127.0.0.1');
  t.after(() => socket.destroy());
  await worker.statsWhen(({ states }) => states.new === 1);
  worker.send({ type: 'retire', timeoutMs: 20_000, keepIdle: false });
  assert.deepEqual(await worker.exited, { code: 0, signal: null });
});

/** Types of the TLS records (RFC 5246 section 6.2.1) that a worker sent on one connection, passed on to `client`. */
async function recordsTo(t: TestContext, port: number, client: (relay: number) => Promise<void>): Promise<number[]> {
  const chunks: Buffer[] = [];
  const relay = net.createServer((near) => {
    const far = net.connect(port, '127.0.0.1').on('error', () => {});
    near.on('error', () => {}).pipe(far);
    far.on('data', (chunk: Buffer) => chunks.push(chunk)).pipe(near);
    far.on('close', () => near.destroy());
  });
  relay.listen(0, '127.0.0.1');
  t.after(() => relay.close());
  await once(relay, 'listening');
  await client((relay.address() as net.AddressInfo).port);
  const bytes = Buffer.concat(chunks);
  const types: number[] = [];
  for (let at = 0; at + 5 <= bytes.length; at += 5 + bytes.readUInt16BE(at + 3)) types.push(bytes[at] ?? 0);
  return types;
}

test('an idle connection is closed with the alert that says so, an unfinished response without', async (t) => {
  const upstream = await Upstream.start(t, (request, response) => {
    if (request.url === '/') return void response.end('ok');
    response.writeHead(200, { 'content-length': 10 });
    response.write('half', () => response.destroy());
  });
  const flags = ['--keep-alive-timeout=300ms'];
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, tls: testMaterial(), flags });
  const [ALERT, DATA] = [21, 23];
  for (const [path, last] of [
    ['/', ALERT],
    ['/half', DATA],
  ] as const) {
    const types = await recordsTo(t, worker.tlsPort, async (port) => {
      const client = await RawClient.connectSecurely(t, port, { maxVersion: 'TLSv1.2' });
      client.send(GET.replace('/', path));
      await client.until(/ok$|half$/);
      await client.closed;
    });
    assert.equal(types.at(-1), last, path);
  }
});
