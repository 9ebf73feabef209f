import assert from 'node:assert/strict';
import { createPrivateKey } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { AcmeObjects } from '../../src/manager/acme-objects.ts';
import { issue, type IssuedCertificate } from '../support/certificates.ts';
import { memoryLog } from '../support/memory-log.ts';
import { openForTest, unavailable } from './store.contract.ts';

const DIRECTORY = 'https://acme.example.com/directory';
const DAY = 86_400_000;

function place(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), 'acme-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const settings = { bucket: `file://${directory}`, prefix: 'p', s3Endpoint: null, s3PathStyle: false };
  const { log, lines } = memoryLog();
  return {
    lines,
    folder: join(directory, 'p/acme'),
    open: async (domains: string[], authority = DIRECTORY) =>
      new AcmeObjects(await openForTest(t, settings), authority, domains, log),
  };
}

async function put(objects: AcmeObjects, { cert, key }: IssuedCertificate, expected: string | null = null) {
  return objects.putCertificate(cert, key, expected);
}

describe('the account', () => {
  test('of many machines that ask at once all get the same key, on P-256', async (t) => {
    const { open } = place(t);
    const machines = await Promise.all(Array.from({ length: 6 }, async () => open(['a.example'])));
    const keys = new Set(await Promise.all(machines.map(async (each) => each.accountKey())));
    assert.equal(keys.size, 1);
    const key = createPrivateKey([...keys][0] ?? '');
    assert.equal(key.asymmetricKeyDetails?.namedCurve, 'prime256v1');
  });

  test('each authority has its own', async (t) => {
    const { open } = place(t);
    const one = await (await open(['a.example'])).accountKey();
    assert.notEqual(await (await open(['a.example'], 'https://other.example/directory')).accountKey(), one);
    assert.equal(await (await open(['b.example'])).accountKey(), one);
  });
});

describe('the certificate', () => {
  test('what was stored is found by every machine with the same names, in whatever order', async (t) => {
    const { open } = place(t);
    const certificate = issue({ names: ['a.example', 'b.example'] });
    assert.ok(await put(await open(['a.example', 'b.example']), certificate));
    const { obtained, version } = await (await open(['a.example', 'b.example'])).certificate();
    assert.deepEqual([obtained?.cert, obtained?.key], [certificate.cert, certificate.key]);
    assert.notEqual(version, null);
    const empty = { obtained: null, version: null };
    assert.deepEqual(await (await open(['a.example'])).certificate(), empty);
    assert.deepEqual(await (await open(['a.example', 'b.example'], 'https://o.example/')).certificate(), empty);
  });

  test('one is replaced only by who knows it', async (t) => {
    const { open } = place(t);
    const objects = await open(['a.example']);
    const [first, second] = [issue({ names: ['a.example'] }), issue({ names: ['a.example'] })];
    assert.ok(await put(objects, first));
    assert.equal(await put(objects, second), null);
    const { version } = await objects.certificate();
    assert.ok(await put(objects, second, version));
    assert.equal((await objects.certificate()).obtained?.cert, second.cert);
  });

  test('only the owner can read keys', async (t) => {
    const { folder, open } = place(t);
    const objects = await open(['a.example']);
    await put(objects, issue({ names: ['a.example'] }));
    await objects.accountKey();
    for (const kind of ['certificates', 'accounts']) {
      const names = readdirSync(join(folder, kind));
      assert.equal(names.length, 1);
      for (const name of names) assert.equal(statSync(join(folder, kind, name)).mode & 0o777, 0o600);
    }
  });

  test('one that is not for all names, or not for its key, is not stored', async (t) => {
    const { open } = place(t);
    const objects = await open(['a.example', 'b.example']);
    await assert.rejects(put(objects, issue({ names: ['a.example'] })), /not for b\.example/);
    const names = ['a.example', 'b.example'];
    const mixed = { ...issue({ names }), key: issue({ names }).key };
    await assert.rejects(put(objects, mixed), /do not belong together/);
    await assert.rejects(put(objects, { ...issue({ names }), cert: 'nothing' }), /no PEM certificate/);
    assert.deepEqual(await objects.certificate(), { obtained: null, version: null });
  });

  test('a damaged one is none, can be replaced, and is told without its key', async (t) => {
    const { folder, lines, open } = place(t);
    const objects = await open(['a.example']);
    const certificate = issue({ names: ['a.example'] });
    await put(objects, certificate);
    const [name = ''] = readdirSync(join(folder, 'certificates'));
    const cut = certificate.key.slice(0, -60);
    const mixed = { Directory: '', Domains: ['a.example'], Certificate: certificate.cert, Key: cut };
    for (const text of ['', `{"Key":"${'secret'.repeat(9)}`, JSON.stringify({ Key: cut }), JSON.stringify(mixed)]) {
      writeFileSync(join(folder, 'certificates', name), text);
      const { obtained, version } = await objects.certificate();
      assert.equal(obtained, null);
      assert.ok(await put(objects, certificate, version), 'it can be replaced');
    }
    assert.equal(lines.length, 4);
    const told = JSON.stringify(lines);
    assert.match(told, /it is damaged/);
    assert.doesNotMatch(told, /secret/);
    assert.ok(!told.includes(cut.split('\n')[1] ?? assert.fail()));
  });
});

describe('while there is no certificate for the names', () => {
  test('the one that covers most of them serves, unless it has expired', async (t) => {
    const { open } = place(t);
    const wanted = ['a.example', 'b.example', 'c.example'];
    const sets = [['a.example'], ['a.example', 'b.example', 'x.example'], ['y.example']];
    for (const names of sets) await put(await open(names), issue({ names }));
    const expired = { names: wanted, notAfter: new Date(Date.now() - DAY / 24), notBefore: new Date(Date.now() - DAY) };
    await put(await open(wanted, 'https://other.example/'), issue(expired));
    assert.deepEqual((await (await open(wanted)).substitute())?.domains, sets[1]);
    assert.equal(await (await open(['z.example'])).substitute(), null);
  });

  test('a copy serves if it is for one of the names and has not expired', async (t) => {
    const { open } = place(t);
    const objects = await open(['a.example']);
    const stored = await put(objects, issue({ names: ['a.example'] }));
    const bytes = stored?.bytes ?? assert.fail();
    assert.equal(objects.fromCopy(bytes)?.cert, stored?.cert);
    assert.equal((await open(['b.example'])).fromCopy(bytes), null);
    assert.equal(objects.fromCopy(Buffer.from('{')), null);
    const old = await open(['old.example']);
    const past = { notBefore: new Date(Date.now() - 2 * DAY), notAfter: new Date(Date.now() - DAY) };
    const expired = await put(old, issue({ names: ['old.example'], ...past }));
    assert.equal(old.fromCopy(expired?.bytes ?? assert.fail()), null);
  });
});

test('what is damaged is an error of the store that shows nothing of it', async (t) => {
  const { folder, open } = place(t);
  const objects = await open(['a.example']);
  await objects.accountKey();
  await objects.putAttempt({ At: new Date().toISOString(), Error: null, Failures: 0, NextTry: null });
  await objects.putAnswers({ token: 'answer' });
  const damage = (path: string, text: string) => writeFileSync(join(folder, path), text);
  damage(`accounts/${readdirSync(join(folder, 'accounts'))[0]}`, '{"Key":"secret"');
  damage(`attempts/${readdirSync(join(folder, 'attempts'))[0]}`, '{"At":"yesterday"}');
  damage('challenges.json', '{"no token at all":"answer"}');
  await assert.rejects(objects.accountKey(), unavailable(/^acme\/accounts\/[^ ]+ in the store is damaged\.$/));
  await assert.rejects(objects.attempt(), unavailable(/^acme\/attempts\/[^ ]+ in the store is damaged\.$/));
  await assert.rejects(objects.answers(), unavailable(/^acme\/challenges\.json in the store is damaged\.$/));
});
