import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import type { Socket } from 'node:net';
import { test, type TestContext } from 'node:test';
import type { Page } from 'playwright-core';
import { browserFor, profile } from '../support/playwright.ts';
import { workshop, type Workshop } from '../support/deployable.ts';
import { deploy, statusOf, until, versionServed } from '../support/deployments.ts';
import { connectionTo } from '../support/http.ts';
import { startProgram, type TestProgram } from '../support/program.ts';

async function setUp(
  t: TestContext,
  args: string[] = [],
): Promise<{ shop: Workshop; program: TestProgram; url: string }> {
  const shop = workshop(t);
  const program = await startProgram(t, {
    args: ['--runtime', 'process', '--workers', '2', ...args, shop.bucket, shop.prefix, 'shop'],
    stateDir: shop.stateDir,
  });
  return { shop, program, url: `http://${program.api}/` };
}

/** Holds a drain up until it is closed. */
async function openTunnel(program: TestProgram): Promise<Socket> {
  const headers = { connection: 'upgrade', upgrade: 'websocket', 'sec-websocket-version': '13' };
  const asked = request({ ...connectionTo(program.proxy), headers: { host: 'shop', ...headers } });
  asked.end();
  const [, tunnel] = (await once(asked, 'upgrade')) as [unknown, Socket];
  tunnel.on('error', () => {});
  return tunnel;
}

/** By clicking, from a hash to a container in service. */
async function deployByHand(page: Page, hash: string, revision: string): Promise<void> {
  await page.getByLabel('Hash of a launch config').fill(hash);
  await page.getByRole('button', { name: 'Launch …' }).click();
  await page.getByRole('heading', { name: `Launch ${revision}?` }).waitFor();
  await page.getByText('Traffic is not touched').waitFor();
  await page.getByLabel('Your name').fill('Ines <ops>');
  await page.getByRole('button', { name: `Launch ${revision}` }).click();
  await page.getByRole('heading', { name: `Launched ${revision}` }).waitFor();
  await page.getByRole('link', { name: 'Switch to it' }).first().click();
  await page.getByRole('heading', { name: `Switch to ${revision}?` }).waitFor();
  await page.getByRole('button', { name: `Switch to ${revision}` }).click();
  await page.locator('#headline').getByText(`${revision} is in service`).waitFor();
}

test('a whole deploy is done by clicking, and watched live on a page that is never reloaded', async (t) => {
  const { shop, program, url } = await setUp(t, ['--drain-timeout', '2m']);
  const [one, two] = [shop.config('v1'), shop.config('v2', { env: { START_DELAY: '2000' } })];
  const browser = await browserFor(t);
  const { context, seen } = await profile(browser);
  const watcher = await context.newPage();
  await watcher.goto(url);
  await watcher.getByText('Nothing is deployed yet').waitFor();
  await watcher.locator('#live').getByText('Live').waitFor();
  // What a reader did: it has to be there at the end.
  await watcher.evaluate('window.marker = 1');
  await watcher.getByText('Every status code').click();
  await watcher.getByLabel('Hash of a launch config').pressSequentially('abc');
  const scrolled = async () => Number(await watcher.evaluate('scrollY'));
  assert.ok((await scrolled()) > 0, 'what the reader looks at is further down');

  const page = await context.newPage();
  await page.goto(url);
  await deployByHand(page, one, 'v1');
  assert.equal(await versionServed(program), 'v1');
  await watcher.locator('#headline').getByText('v1 is in service, and nothing fails').waitFor();
  // A screen reader is told.
  await watcher.locator('#said').getByText('v1 is in service').waitFor({ state: 'attached' });

  const tunnel = await openTunnel(program);
  const launching = watcher.getByRole('heading', { name: 'Launching v2' }).waitFor();
  const probed = watcher.getByText('connection refused').first().waitFor();
  await deployByHand(page, two, 'v2');
  await launching;
  await probed;
  await watcher.getByRole('heading', { name: 'Draining v1' }).waitFor();
  await watcher.getByRole('progressbar').waitFor();
  await watcher.getByText('0 requests and 1 tunnel to finish').waitFor();
  assert.equal(tunnel.closed, false);
  tunnel.destroy();
  await watcher.getByRole('heading', { name: 'Draining v1' }).waitFor({ state: 'detached' });
  assert.equal(await versionServed(program), 'v2');
  assert.deepEqual(
    (await statusOf(program)).Containers.map(({ Revision, State }) => [Revision, State]),
    [['v2', 'active']],
  );

  assert.equal(await watcher.evaluate('window.marker'), 1);
  assert.equal(await watcher.getByLabel('Hash of a launch config').inputValue(), 'abc');
  assert.equal(await watcher.evaluate('document.activeElement.id'), 'hash');
  // Although what is above it has grown and shrunk.
  assert.ok((await scrolled()) > 0);
  await watcher.evaluate(`{
    const { top, bottom } = document.getElementById('hash').getBoundingClientRect();
    if (top < 0 || bottom > innerHeight) throw new Error('out of sight: ' + top);
  }`);
  assert.equal(await watcher.evaluate(`document.querySelector('details[data-key=codes]').open`), true);
  // The table came when it was opened, without a word yet, and has kept up with what happened since.
  const codes = watcher.getByRole('region', { name: 'Status codes' });
  await codes.getByRole('row', { name: '101 Switching Protocols' }).waitFor();
  await codes.getByRole('row', { name: '200 OK' }).waitFor();
  const history = (await program.call('GET', '/history')).json<{ DeployedBy: string }[]>();
  assert.deepEqual(
    history.map(({ DeployedBy }) => DeployedBy),
    ['Ines <ops>', 'Ines <ops>'],
  );
  // The reader's zone is India's, half an hour off: times are told there, and exactly on hover.
  const time = watcher.locator('#containers time').first();
  const iso = (await time.getAttribute('datetime')) ?? '';
  const there = new Date(Date.parse(iso) + 5.5 * 3_600_000).toISOString().slice(11, 16);
  assert.ok((await time.textContent())?.endsWith(there));
  assert.match((await time.getAttribute('title')) ?? '', /\d{4} at .*GMT\+5:30 · \d{4}-/);
  assert.deepEqual(seen, []);
});

test('without JavaScript the page reloads itself, and every form works', async (t) => {
  const { shop, program, url } = await setUp(t);
  const [one, two] = [shop.config('v1'), shop.config('v2')];
  const browser = await browserFor(t);
  const { context, seen } = await profile(browser, { javaScriptEnabled: false });
  const page = await context.newPage();
  await page.goto(url);
  assert.equal(await page.locator('noscript meta[http-equiv=refresh]').count(), 1);
  await page.getByRole('link', { name: 'open the form alone' }).click();
  await deployByHand(page, one, 'v1');
  await deployByHand(page, two, 'v2');
  assert.equal(await versionServed(program), 'v2');
  await page.getByText(/UTC/).first().waitFor();

  await until(
    async () => statusOf(program),
    ({ Totals }) => Totals.Requests === 1,
  );
  await page.getByText('Every status code').click();
  await page.getByRole('link', { name: 'Open the table' }).first().click();
  await page.getByRole('row', { name: '200 OK' }).waitFor();
  await page.getByRole('link', { name: 'Back to the status page' }).click();

  await page.getByRole('link', { name: 'Roll back to v1' }).click();
  await page.getByText('it is launched first').waitFor();
  await page.getByText('The history is cut after it: v2 is taken out').waitFor();
  await page.getByRole('button', { name: 'Roll back to v1' }).click();
  await page.locator('#headline').getByText('v1 is in service').waitFor();
  assert.equal(await versionServed(program), 'v1');

  await program.call('POST', '/launch', two);
  await page.goto(url);
  await page.getByRole('link', { name: 'Stop old containers' }).click();
  await page.getByRole('button', { name: 'Stop it' }).click();
  await page.getByRole('heading', { name: 'Stopped old containers' }).waitFor();
  assert.equal((await statusOf(program)).Containers.length, 1);
  assert.deepEqual(seen, []);
});

test('a launch that fails says why, in words, with probes and last log lines', async (t) => {
  const { shop, program, url } = await setUp(t);
  const hash = shop.config('v1', { env: { EXIT_CODE: '3' } });
  const browser = await browserFor(t);
  const { context, seen } = await profile(browser);
  const page = await context.newPage();
  await page.goto(url);
  await page.getByLabel('Hash of a launch config').fill(hash);
  await page.getByRole('button', { name: 'Launch …' }).click();
  await page.getByRole('button', { name: 'Launch v1' }).click();
  const card = page.locator('#underway article', { hasText: 'Could not launch v1' });
  await card.waitFor();
  await card.getByText('exited with status 3').first().waitFor();
  await card.getByText('It is gone again; traffic was not touched').waitFor();
  assert.match((await card.locator('pre').textContent()) ?? '', /exiting with status 3/);

  // What can't even be tried is said on the page that asks.
  await page.goto(`${url}confirm/launch?hash=${'0'.repeat(32)}`);
  await page.getByText('Upload the launch config to the store under its hash first').waitFor();
  await page.goto(`${url}confirm/launch?hash=nonsense`);
  await page.getByText('as md5sum or sha256sum prints it').waitFor();
  assert.deepEqual(
    seen.filter((each) => !/status of 40[04]/.test(each)),
    [],
  );
  assert.equal((await statusOf(program)).Containers.length, 0);
});

test('who confirms what is no longer true is asked again', async (t) => {
  const { shop, program, url } = await setUp(t);
  const [one, two, three] = [shop.config('v1'), shop.config('v2'), shop.config('v3')];
  await deploy(program, one);
  await program.call('POST', '/launch', three);
  const browser = await browserFor(t);
  const { context } = await profile(browser);
  const page = await context.newPage();
  await page.goto(`${url}confirm/switch?hash=${three}`);
  await deploy(program, two);
  await page.getByRole('button', { name: 'Switch to v3' }).click();
  await page.getByText('meanwhile v2 is in service').waitFor();
  assert.equal(await versionServed(program), 'v2');
  await page.getByRole('button', { name: 'Switch to v3' }).click();
  await page.locator('#headline').getByText('v3 is in service').waitFor();
  assert.equal(await versionServed(program), 'v3');
});
