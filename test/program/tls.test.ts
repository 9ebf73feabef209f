import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import * as tls from 'node:tls';
import { issue, writePair } from '../support/certificates.ts';
import { workshop, type Workshop } from '../support/deployable.ts';
import { deploy, statusOf } from '../support/deployments.ts';
import { type Answer, connectionTo, send } from '../support/http.ts';
import { endPrograms, runProgram, startProgram, type TestProgram } from '../support/program.ts';

const HOST = 'shop.example';

/** A folder only for its owner, as certificates have; gone when the test ends. */
function privateFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'tls-'));
  t.after(async () => {
    await endPrograms(t);
    rmSync(folder, { recursive: true, force: true });
  });
  return folder;
}

function argsFor(shop: Workshop, more: string[]): string[] {
  return ['--runtime', 'process', '--workers', '2', ...more, shop.bucket, shop.prefix, 'shop'];
}

async function ask(program: TestProgram, path: string, ca: string, servername = HOST): Promise<Answer> {
  return send(program.tls, path, { headers: { host: HOST }, tls: { ca, servername } });
}

test('requests over TLS reach the application, and the program says where and with what', async (t) => {
  const shop = workshop(t);
  const folder = privateFolder(t);
  const certificate = issue({ names: [HOST, `*.${HOST}`] });
  const program = await startProgram(t, {
    args: argsFor(shop, [...writePair(folder, 'shop', certificate), '--hsts=180d', '--plain-path=/up']),
    stateDir: shop.stateDir,
  });
  await deploy(program, shop.config('v1'));
  const { port } = connectionTo(program.tls) as { port: number };
  assert.notEqual(port, 0);

  const answer = await ask(program, '/hello', certificate.cert);
  assert.equal(answer.status, 200);
  assert.equal(answer.headers['strict-transport-security'], 'max-age=15552000');
  const { rawHeaders } = answer.json<{ rawHeaders: string[] }>();
  assert.equal(rawHeaders[rawHeaders.indexOf('X-Forwarded-Proto') + 1], 'https');

  const redirected = await program.get('/a?b', { headers: { host: `${HOST}:8080` } });
  assert.equal(redirected.status, 308);
  assert.equal(redirected.headers.location, `https://${HOST}:${port}/a?b`);
  assert.equal((await program.get('/up')).status, 200);

  const text = (await program.call('GET', '/status')).text;
  const { Certificates } = JSON.parse(text) as Awaited<ReturnType<typeof statusOf>>;
  const { NotBefore, NotAfter, ...rest } = Certificates[0] ?? assert.fail(text);
  assert.deepEqual(rest, {
    Names: [HOST, `*.${HOST}`],
    Source: join(folder, 'shop.crt'),
    Issuer: HOST,
    DaysLeft: 89,
    Problem: null,
  });
  assert.ok(Date.parse(NotBefore ?? '') < Date.now() && Date.now() < Date.parse(NotAfter ?? ''));
  // Of the key neither its text nor its bytes appear anywhere.
  const secret = certificate.key.split('\n')[1] ?? '';
  for (const said of [text, JSON.stringify(program.log)]) assert.equal(said.includes(secret.slice(0, 24)), false);
});

test('a certificate that ends within days is warned of in the log', async (t) => {
  const shop = workshop(t);
  const ending = issue({ names: [HOST], notAfter: new Date(Date.now() + 5.5 * 86_400_000) });
  const folder = privateFolder(t);
  const program = await startProgram(t, { args: argsFor(shop, writePair(folder, 'ending', ending)) });
  const line = await program.waitForLog(({ msg }) => msg === 'a certificate is about to expire');
  assert.deepEqual([line.level, line.file], ['warn', join(folder, 'ending.crt')]);
  const [certificate] = (await statusOf(program)).Certificates;
  assert.deepEqual([certificate?.Problem, certificate?.DaysLeft], [null, 5]);
});

test('an expired certificate is served, with a warning in the log and in the status', async (t) => {
  const shop = workshop(t);
  const expired = issue({ names: [HOST], notAfter: new Date(Date.now() - 3 * 86_400_000 - 60_000) });
  const args = argsFor(shop, writePair(privateFolder(t), 'old', expired));
  const program = await startProgram(t, { args });
  const line = await program.waitForLog(({ msg }) => msg === 'a certificate has expired');
  assert.equal(line.level, 'warn');
  const [certificate] = (await statusOf(program)).Certificates;
  assert.equal(certificate?.Problem, 'it has expired');
  assert.equal(certificate?.DaysLeft, -4);
  await assert.rejects(ask(program, '/', expired.cert), { code: 'CERT_HAS_EXPIRED' });
});

test('certificates of a folder are all served; the first by name is for unknown hosts', async (t) => {
  const shop = workshop(t);
  const folder = privateFolder(t);
  const first = issue({ names: ['a.example'] });
  const second = issue({ names: ['b.example'], type: 'rsa' });
  writePair(folder, 'b-second', second);
  writeFileSync(join(folder, 'a-first.pem'), first.cert + first.key);
  writeFileSync(join(folder, 'README'), 'not a certificate');
  mkdirSync(join(folder, '..data'));
  const program = await startProgram(t, { args: argsFor(shop, ['--tls-dir', folder]) });
  for (const [servername, ca] of [
    ['a.example', first.cert],
    ['b.example', second.cert],
  ] as const) {
    assert.equal((await ask(program, '/', ca, servername)).status, 503);
  }
  const socket = tls.connect({ ...connectionTo(program.tls), servername: 'c.example', rejectUnauthorized: false });
  t.after(() => socket.destroy());
  await once(socket, 'secureConnect');
  assert.equal(socket.getPeerCertificate().subject.CN, 'a.example');
  socket.destroy();
});

test('TLS is spoken on a unix socket too', async (t) => {
  const shop = workshop(t);
  const folder = privateFolder(t);
  const certificate = issue({ names: [HOST] });
  const path = join(folder, 'tls.sock');
  const args = argsFor(shop, [...writePair(folder, 'shop', certificate), '--tls', `unix:${path}`]);
  const program = await startProgram(t, { args, stateDir: shop.stateDir });
  assert.equal(program.tls, `unix:${path}`);
  await deploy(program, shop.config('v1'));
  assert.equal((await ask(program, '/', certificate.cert)).status, 200);
  const redirected = await program.get('/', { headers: { host: HOST } });
  assert.equal(redirected.headers.location, `https://${HOST}/`);
});

test('what can not be served is one line that names the file, status 1, and nothing is started', async (t) => {
  const shop = workshop(t);
  const folder = privateFolder(t);
  const file = (name: string, text: string) => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  const good = issue({ names: [HOST] });
  const other = issue({ names: [HOST] });
  const rsa = issue({ names: [HOST], type: 'rsa' });
  const cert = file('good.crt', good.cert);
  const key = file('good.key', good.key);
  const broken = file('broken.crt', good.cert.replace(/[A-Z]{2}/g, 'xx'));
  const encrypted = file(
    'encrypted.key',
    '-----BEGIN ENCRYPTED PRIVATE KEY-----\nMII=\n-----END ENCRYPTED PRIVATE KEY-----',
  );
  const empty = join(folder, 'empty');
  const lonelyCert = join(folder, 'lonely-cert');
  const lonelyKey = join(folder, 'lonely-key');
  const half = join(folder, 'half');
  for (const each of [empty, lonelyCert, lonelyKey, half]) mkdirSync(each);
  writeFileSync(join(lonelyCert, 'a.crt'), good.cert);
  writeFileSync(join(lonelyKey, 'a.key'), good.key);
  writeFileSync(join(half, 'a.pem'), good.cert);
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  t.after(() => taken.close());
  const { port } = taken.address() as AddressInfo;

  const pair = (c: string, k: string) => ['--tls-cert', c, '--tls-key', k];
  const cases: [string[], number, RegExp][] = [
    [pair(cert, file('other.key', other.key)), 1, /good\.crt: the certificate and the private key do not belong/],
    [pair(cert, file('rsa.key', rsa.key)), 1, /good\.crt: the certificate and the private key do not belong/],
    [pair(join(folder, 'nowhere.crt'), key), 1, /nowhere\.crt: ENOENT/],
    [pair(cert, join(folder, 'nowhere.key')), 1, /nowhere\.key: ENOENT/],
    [pair(folder, key), 1, /EISDIR/],
    [pair(file('garbage.crt', 'garbage'), key), 1, /garbage\.crt: there is no PEM certificate in it/],
    [pair(broken, key), 1, /broken\.crt: /],
    [pair(cert, file('garbage.key', 'garbage')), 1, /good\.crt: there is no PEM private key for it/],
    [pair(cert, encrypted), 1, /good\.crt: its private key is protected by a password/],
    [['--tls-dir', empty], 1, /empty: there is no \.crt or \.pem in it/],
    [['--tls-dir', join(folder, 'nowhere')], 1, /--tls-dir .*nowhere: ENOENT/],
    [['--tls-dir', lonelyCert], 1, /a\.key: ENOENT/],
    [['--tls-dir', lonelyKey], 1, /a\.key: there is no a\.crt for it/],
    [['--tls-dir', half], 1, /a\.pem: there is no PEM private key for it/],
    [[...pair(cert, key), '--tls', `127.0.0.1:${port}`], 1, /--tls 127\.0\.0\.1:\d+: the address is already in use/],
    [['--tls-cert', cert], 2, /--tls-cert and --tls-key come in pairs/],
  ];
  for (const [more, code, message] of cases) {
    const ended = await runProgram(t, { args: argsFor(shop, more) });
    assert.match(ended.stderr, message);
    assert.equal(ended.code, code, more.join(' '));
    assert.equal(ended.stderr.trim().split('\n').length, 1, ended.stderr);
    assert.equal(ended.stdout, '');
    assert.doesNotMatch(ended.stderr, /PRIVATE KEY-----/);
  }
});

test('without a certificate there is no TLS listener, and nothing is redirected', async (t) => {
  const shop = workshop(t);
  const program = await startProgram(t, { args: argsFor(shop, []), stateDir: shop.stateDir });
  assert.equal(program.tls, '');
  await deploy(program, shop.config('v1'));
  assert.equal((await program.get('/')).status, 200);
  assert.deepEqual((await statusOf(program)).Certificates, []);
});
