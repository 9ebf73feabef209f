import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import * as tls from 'node:tls';
import { issue, type IssuedCertificate, writePair } from '../support/certificates.ts';
import { workshop, type Workshop } from '../support/deployable.ts';
import { deploy, statusOf, until } from '../support/deployments.ts';
import { connectionTo } from '../support/http.ts';
import { Load } from '../support/load.ts';
import { killIfThere } from '../support/processes.ts';
import { endPrograms, startProgram, type TestProgram } from '../support/program.ts';

const HOST = 'shop.example';
const WORKERS = 4;
const VISITS = 40;

interface Site {
  shop: Workshop;
  program: TestProgram;
  folder: string;
  certificate: IssuedCertificate;
}

/** The program with one certificate in a folder of its own and the test application in service. */
async function site(t: TestContext, prepare?: (folder: string) => string[]): Promise<Site> {
  const shop = workshop(t);
  const folder = mkdtempSync(join(tmpdir(), 'tls-'));
  t.after(async () => {
    await endPrograms(t);
    rmSync(folder, { recursive: true, force: true });
  });
  const certificate = issue({ names: [HOST] });
  const flags = prepare === undefined ? writePair(folder, 'shop', certificate) : prepare(folder);
  const program = await startProgram(t, {
    args: ['--runtime', 'process', '--workers', String(WORKERS), ...flags, shop.bucket, shop.prefix, 'shop'],
    stateDir: shop.stateDir,
  });
  await deploy(program, shop.config('v1'));
  return { shop, program, folder, certificate };
}

interface Visit {
  reused: boolean;
  session: Buffer | undefined;
  commonName: string;
  text: string;
}

/** One connection with one request. */
async function visit(program: TestProgram, options: tls.ConnectionOptions = {}): Promise<Visit> {
  const socket = tls.connect({
    ...connectionTo(program.tls),
    servername: HOST,
    rejectUnauthorized: false,
    ...options,
  });
  let session: Buffer | undefined;
  socket.on('session', (latest) => (session = latest));
  await once(socket, 'secureConnect');
  const reused = socket.isSessionReused();
  const commonName = String(socket.getPeerCertificate().subject?.CN);
  socket.write(`GET / HTTP/1.1\r\nHost: ${HOST}\r\nConnection: close\r\n\r\n`);
  const text = Buffer.concat((await socket.toArray()) as Buffer[]).toString('latin1');
  return { reused, session, commonName, text };
}

/** Which worker answers is the kernel's choice, so that many visits meet all of them. */
async function resumed(program: TestProgram, options: tls.ConnectionOptions): Promise<number> {
  let count = 0;
  for (let i = 0; i < VISITS; i++) {
    const { reused, text } = await visit(program, options);
    assert.match(text, /^HTTP\/1\.1 200 /);
    if (reused) count++;
  }
  return count;
}

/** Resolves once all workers serve and none of them is one of these. */
async function untilServing(program: TestProgram, without: number[]): Promise<void> {
  await until(
    async () => statusOf(program),
    ({ Workers }) =>
      Workers.filter(({ State, Pid }) => State === 'serving' && !without.includes(Pid)).length === WORKERS,
  );
}

for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
  test(`with ${version} every session is resumed: by any worker, after a reload, after a worker was killed`, async (t) => {
    const { program } = await site(t);
    const versions = { minVersion: version, maxVersion: version };
    const { session, reused } = await visit(program, versions);
    assert.equal(reused, false);
    assert.ok(session);
    assert.equal(await resumed(program, { ...versions, session }), VISITS);

    const before = program.pids('worker');
    program.signal('SIGHUP');
    await untilServing(program, before);
    assert.equal(await resumed(program, { ...versions, session }), VISITS);

    const [victim] = program.pids('worker');
    assert.ok(victim !== undefined && killIfThere(victim, 'SIGKILL'));
    await untilServing(program, [victim]);
    assert.equal(await resumed(program, { ...versions, session }), VISITS);
  });
}

/** Writes into the folder as `writePair`, but by renaming, as careful programs do. */
function replacePair(folder: string, name: string, certificate: IssuedCertificate): void {
  writePair(folder, 'new', certificate);
  for (const kind of ['crt', 'key']) renameSync(join(folder, `new.${kind}`), join(folder, `${name}.${kind}`));
}

test('a renewed certificate is served without a reload; workers and connections stay, no request fails', async (t) => {
  const { program, folder } = await site(t);
  const workers = program.pids('worker');
  const lasting = tls.connect({ ...connectionTo(program.tls), servername: HOST, rejectUnauthorized: false });
  t.after(() => lasting.destroy());
  await once(lasting, 'secureConnect');
  const load = new Load(t, program.tls, {
    connections: 8,
    tls: { rejectUnauthorized: false, servername: HOST },
    headers: { host: HOST },
  });
  await load.answered(100);

  for (const name of ['first.example', 'second.example', 'third.example']) {
    replacePair(folder, 'shop', issue({ names: [name, HOST], type: name === 'second.example' ? 'rsa' : 'ec' }));
    await until(
      async () => (await visit(program)).commonName,
      (seen) => seen === name,
    );
    await load.answered(50);
  }
  const { outcomes } = await load.stop();
  assert.deepEqual(Object.keys(outcomes), ['ok']);
  assert.deepEqual(program.pids('worker'), workers);
  const [certificate] = (await statusOf(program)).Certificates;
  assert.deepEqual(certificate?.Names, ['third.example', HOST]);

  lasting.write(`GET / HTTP/1.1\r\nHost: ${HOST}\r\nConnection: close\r\n\r\n`);
  const text = Buffer.concat((await lasting.toArray()) as Buffer[]).toString('latin1');
  assert.match(text, /^HTTP\/1\.1 200 /);
});

test('reloads under load over TLS fail no request', async (t) => {
  const { program } = await site(t);
  const load = new Load(t, program.tls, {
    connections: 8,
    tls: { rejectUnauthorized: false, servername: HOST },
    headers: { host: HOST },
  });
  for (let i = 0; i < 3; i++) {
    await load.answered(100);
    const before = program.pids('worker');
    program.signal('SIGHUP');
    await untilServing(program, before);
  }
  await load.answered(100);
  const { outcomes } = await load.stop();
  assert.deepEqual(Object.keys(outcomes), ['ok']);
});

for (const [what, how] of [
  ['SIGHUP', (program: TestProgram) => program.signal('SIGHUP')],
  ['the change itself', () => {}],
] as const) {
  test(`a broken file is refused after ${what}: named in log and status, and the old certificate is served on`, async (t) => {
    const { program, folder } = await site(t);
    const file = join(folder, 'shop.crt');
    writeFileSync(file, 'not a certificate');
    how(program);
    const line = await program.waitForLog(({ msg }) => String(msg).startsWith('a certificate is refused'));
    assert.deepEqual([line.level, line.file], ['error', file]);
    assert.match(String(line.why), /shop\.crt: there is no PEM certificate in it/);
    const { Certificates } = await until(
      async () => statusOf(program),
      (status) => status.Certificates[0]?.Problem !== null,
    );
    assert.deepEqual(Certificates[0]?.Names, [HOST]);
    assert.match(String(Certificates[0]?.Problem), /there is no PEM certificate in it/);
    assert.equal((await visit(program)).commonName, HOST);

    // A worker that is born now gets the old one as well.
    const [victim] = program.pids('worker');
    assert.ok(victim !== undefined && killIfThere(victim, 'SIGKILL'));
    await untilServing(program, [victim]);
    for (let i = 0; i < 12; i++) assert.equal((await visit(program)).commonName, HOST);

    replacePair(folder, 'shop', issue({ names: ['mended.example', HOST] }));
    how(program);
    const mended = await until(
      async () => statusOf(program),
      (status) => status.Certificates[0]?.Problem === null,
    );
    assert.deepEqual(mended.Certificates[0]?.Names, ['mended.example', HOST]);
  });
}

test('a folder of links that are switched at once, as Kubernetes does it, is followed', async (t) => {
  const version = (folder: string, name: string) => {
    mkdirSync(join(folder, `..${name}`));
    const { cert, key } = issue({ names: [`${name}.example`] });
    writeFileSync(join(folder, `..${name}`, 'tls.crt'), cert);
    writeFileSync(join(folder, `..${name}`, 'tls.key'), key);
    symlinkSync(`..${name}`, join(folder, '..new'));
    renameSync(join(folder, '..new'), join(folder, '..data'));
  };
  const { program, folder } = await site(t, (folder) => {
    version(folder, 'one');
    for (const file of ['tls.crt', 'tls.key']) symlinkSync(join('..data', file), join(folder, file));
    return ['--tls-dir', folder];
  });
  assert.equal((await visit(program)).commonName, 'one.example');
  version(folder, 'two');
  await until(
    async () => (await visit(program)).commonName,
    (seen) => seen === 'two.example',
  );
});

test('certificates that come into a folder or leave it are taken up; a bad one harms no other', async (t) => {
  const { program, folder } = await site(t, (folder) => {
    writePair(folder, 'b', issue({ names: [HOST] }));
    return ['--tls-dir', folder];
  });
  const served = async () => (await statusOf(program)).Certificates.map(({ Names, Problem }) => [Names, Problem]);
  writePair(folder, 'c', issue({ names: ['c.example'] }));
  await until(served, (seen) => seen.length === 2);
  assert.equal((await visit(program, { servername: 'c.example' })).commonName, 'c.example');

  writeFileSync(join(folder, 'd.pem'), 'rubbish');
  const seen = await until(served, (list) => list.length === 3);
  assert.deepEqual(seen.slice(0, 2), [
    [[HOST], null],
    [['c.example'], null],
  ]);
  assert.match(String(seen[2]?.[1]), /d\.pem: there is no PEM certificate in it/);

  for (const name of ['c.crt', 'c.key', 'd.pem']) rmSync(join(folder, name));
  await until(served, (list) => list.length === 1);
  assert.equal((await visit(program, { servername: 'c.example' })).commonName, HOST);

  // The last one stays in use although its files are gone.
  rmSync(join(folder, 'b.crt'));
  rmSync(join(folder, 'b.key'));
  await program.waitForLog(({ why }) => String(why).includes('there is no .crt or .pem in it'));
  assert.equal((await visit(program)).commonName, HOST);
});
