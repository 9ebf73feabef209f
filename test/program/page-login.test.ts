import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { browserFor, profile } from '../support/playwright.ts';
import { workshop, type Workshop } from '../support/deployable.ts';
import { codeOf, deploy, statusOf } from '../support/deployments.ts';
import { startProgram, type TestProgram } from '../support/program.ts';

const TOKEN = 'a-token-that-nobody-guesses';
const HTML = { accept: 'text/html' };

async function setUp(t: TestContext): Promise<{ shop: Workshop; program: TestProgram; tokenFile: string }> {
  const shop = workshop(t);
  const tokenFile = join(shop.environment, 'token');
  writeFileSync(tokenFile, `${TOKEN}\n`);
  const program = await startProgram(t, {
    args: ['--runtime', 'process', '--workers', '1', '--api-token-file', tokenFile, shop.bucket, shop.prefix, 'shop'],
    stateDir: shop.stateDir,
  });
  return { shop, program, tokenFile };
}

async function logIn(program: TestProgram, token = TOKEN): Promise<{ status: number; cookie: string }> {
  const answer = await program.call('POST', '/login', `token=${token}`, { ...HTML, origin: `http://${program.api}` });
  return { status: answer.status, cookie: String(answer.headers['set-cookie'] ?? '').split(';')[0] ?? '' };
}

test('the page asks for the token once; then it is live, and a logout ends that at once', async (t) => {
  const { shop, program } = await setUp(t);
  const browser = await browserFor(t);
  const { context, seen } = await profile(browser);
  const page = await context.newPage();
  const first = await page.goto(`http://${program.api}/`);
  assert.equal(first?.status(), 401);
  await page.getByLabel('Token').fill('a-token-that-somebody-guessed');
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByText('That is not the token.').waitFor();
  await page.getByLabel('Token').fill(TOKEN);
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.locator('#live').getByText('Live').waitFor();
  const [cookie] = await context.cookies();
  assert.equal(cookie?.httpOnly, true);
  assert.equal(cookie?.sameSite, 'Strict');
  assert.equal(cookie?.value.includes(TOKEN), false);
  assert.equal(await page.evaluate('document.cookie'), '');

  // It may do what the page does, by forms and by the API.
  const hash = shop.config('v1');
  await page.getByLabel('Hash of a launch config').fill(hash);
  await page.getByRole('button', { name: 'Launch …' }).click();
  await page.getByRole('button', { name: 'Launch v1' }).click();
  await page.getByRole('heading', { name: 'Launched v1' }).waitFor();

  // Another page of the same reader, open while the first logs out, loses its stream and asks for the token again.
  const other = await context.newPage();
  await other.goto(`http://${program.api}/`);
  await other.locator('#live').getByText('Live').waitFor();
  await page.getByRole('button', { name: 'Log out' }).click();
  await page.getByLabel('Token').waitFor();
  await other.getByLabel('Token').waitFor();
  assert.deepEqual(
    seen.filter((each) => !/status of 401/.test(each)),
    [],
  );
  assert.equal(JSON.stringify(program.log).includes(TOKEN), false);
});

test('a login outlives the manager, which is when it is needed', async (t) => {
  const { program } = await setUp(t);
  const { cookie } = await logIn(program);
  assert.equal((await program.call('GET', '/status', undefined, { cookie })).status, 200);
  const from = program.log.length;
  for (const pid of program.pids('manager')) process.kill(pid, 'SIGKILL');
  await program.waitForLog(({ msg }) => msg === 'manager died: traffic goes on', { from });
  assert.equal((await program.call('GET', '/status', undefined, { cookie })).status, 200);
});

test('a new token ends all logins', async (t) => {
  const { program, tokenFile } = await setUp(t);
  const { cookie } = await logIn(program);
  writeFileSync(tokenFile, 'another-token\n');
  program.signal('SIGHUP');
  let status = 0;
  for (let tries = 0; tries < 200 && status !== 401; tries++) {
    ({ status } = await program.call('GET', '/status', undefined, { cookie }));
  }
  assert.equal(status, 401);
  assert.equal((await logIn(program, 'another-token')).status, 303);
});

test('a browser that is logged in does nothing that a foreign page asks of it', async (t) => {
  const { shop, program } = await setUp(t);
  const bearer = { authorization: `Bearer ${TOKEN}` };
  const hash = shop.config('v1');
  for (const path of ['/launch', '/switch']) {
    assert.equal((await program.call('POST', path, hash, bearer)).status, 200);
  }
  const { cookie } = await logIn(program);
  const own = `http://${program.api}`;
  const refused: Record<string, string>[] = [
    { cookie },
    { cookie, origin: 'https://attacker.example' },
    { cookie, origin: 'null' },
    { cookie, origin: own, 'sec-fetch-site': 'cross-site' },
    { cookie, origin: own, 'sec-fetch-site': 'same-site' },
    { cookie, 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' },
  ];
  for (const headers of refused) {
    for (const path of ['/rollback', '/stop-old', '/act/stop-old', '/logout']) {
      assert.equal((await program.call('POST', path, '', headers)).status, 403, `${path} ${JSON.stringify(headers)}`);
    }
  }
  assert.equal(
    (await program.call('GET', '/events', undefined, { cookie, 'sec-fetch-site': 'cross-site' })).status,
    403,
  );
  assert.equal((await program.call('POST', '/stop-old', '', { cookie, origin: own })).status, 200);
  assert.equal((await program.call('GET', '/status', undefined, bearer)).status, 200);
  assert.equal((await program.call('GET', '/status')).status, 401);
});

test('a real foreign page with a form that submits itself gets nowhere', async (t) => {
  const { shop, program } = await setUp(t);
  void shop;
  const foreign = createServer((_request, response) => {
    response.setHeader('content-type', 'text/html');
    response.end(
      `<form method="post" action="http://${program.api}/act/stop-old"><button>go</button></form><script>document.forms[0].submit()</script>`,
    );
  }).listen(0, '127.0.0.1');
  await once(foreign, 'listening');
  t.after(() => {
    foreign.closeAllConnections();
    foreign.close();
  });
  const browser = await browserFor(t);
  const { context } = await profile(browser);
  const page = await context.newPage();
  await page.goto(`http://${program.api}/`);
  await page.getByLabel('Token').fill(TOKEN);
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.locator('#live').getByText('Live').waitFor();
  const answered = page.waitForResponse((response) => response.url().endsWith('/act/stop-old'));
  await page.goto(`http://127.0.0.1:${(foreign.address() as AddressInfo).port}/`);
  assert.equal((await answered).status(), 403);
});

test('who guesses tokens is slowed down, by form and by header', async (t) => {
  const { program } = await setUp(t);
  for (let n = 0; n < 10; n++) assert.equal((await logIn(program, `guess${n}`)).status, 401);
  for (let n = 0; n < 10; n++) {
    assert.equal((await program.call('GET', '/status', undefined, { authorization: `Bearer ${n}` })).status, 401);
  }
  assert.equal((await logIn(program)).status, 429);
  const answer = await program.call('GET', '/status', undefined, {
    authorization: `Bearer ${TOKEN}`,
    accept: 'application/json',
  });
  assert.deepEqual(
    [answer.status, answer.headers['wunderproxy-error'], answer.headers['retry-after']],
    [429, 'too_many_attempts', '1'],
  );
});

test('without a token nobody logs in; a foreign name for this machine is turned away', async (t) => {
  const shop = workshop(t);
  const program = await startProgram(t, {
    args: ['--runtime', 'process', '--workers', '1', shop.bucket, shop.prefix, 'shop'],
    stateDir: shop.stateDir,
  });
  await deploy(program, shop.config('v1'));
  assert.equal((await program.call('POST', '/login', 'token=', HTML)).status, 303);
  for (const path of ['/', '/events', '/page.css', '/confirm/stop-old']) {
    const answer = await program.call('GET', path, undefined, { ...HTML, host: 'attacker.example' });
    assert.equal(answer.status, 403, path);
  }
  assert.equal((await program.call('POST', '/act/stop-old', '', { origin: 'http://127.0.0.1:1' })).status, 403);
  assert.equal(
    (await program.call('POST', '/act/stop-old', '', { ...HTML, 'sec-fetch-site': 'same-site' })).status,
    403,
  );
  assert.deepEqual(await codeOf(program, 'POST', '/act/burn'), [404, 'not_found']);
  assert.equal((await program.call('GET', '/')).text.split('\n')[0], 'shop: v1 is in service, and nothing fails.');
  assert.equal((await statusOf(program)).Containers.length, 1);
});
