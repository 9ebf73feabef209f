import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { test, type TestContext } from 'node:test';
import type { AxeResults } from 'axe-core';
import type { Browser, Page } from 'playwright-core';
import { securityHeaders } from '../../src/manager/api.ts';
import { html } from '../../src/web/html.ts';
import { numbers } from '../../src/web/numbers.ts';
import { asset, render } from '../../src/web/views.ts';
import { browserFor, profile } from '../support/playwright.ts';
import { workshop } from '../support/deployable.ts';
import { NOW, PAGES } from '../support/pages.ts';
import { startProgram } from '../support/program.ts';
import { pageOf, serve } from '../web/support.ts';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** The pages that are not the status page. */
const OTHERS: Record<string, () => string> = {
  numbers: () => layout('Numbers', numbers(PAGES['enormous']?.().status ?? assert.fail(), NOW)),
  login: () => layout('Log in', render('login', { problem: 'That is not the token.' })),
  confirm: () => {
    const plan = [html`All new requests go to <b>v4</b>.`, html`v3 finishes what it does.`];
    const about = { title: 'Switch to v4?', plan, kind: 'switch', hash: 'x', seen: '', by: '', button: 'Switch to v4' };
    return layout('Switch', render('confirm', { ...about, changed: 'meanwhile v2 is in service.' }));
  },
};

function layout(title: string, body: object): string {
  return render('layout', { title, app: 'shop', host: 'web-1', body, live: false }).text;
}

/** Every page of the table at an address of its own, with the headers that the program sends. */
async function gallery(t: TestContext): Promise<string> {
  return serve(t, async (context) => {
    const name = decodeURIComponent(context.path.slice(1));
    await securityHeaders(context, async () => {
      if (name === 'page.css' || name === 'live.js' || name === 'icon.svg') {
        context.type = name.slice(name.lastIndexOf('.'));
        context.body = asset(name);
      } else if (name === 'events') {
        context.status = 503;
      } else {
        const status = PAGES[name];
        context.type = 'html';
        context.body = status ? pageOf(status(), { loggedIn: true }) : OTHERS[name]?.();
      }
    });
  });
}

/** What axe-core calls serious or critical, and how many rules it could apply. */
async function findings(page: Page): Promise<{ passed: number; serious: string[] }> {
  // Not as a script element: the page's policy does not allow any but its own.
  await page.evaluate(axe);
  const { violations, passes } = await page.evaluate<AxeResults>('axe.run(document, { resultTypes: ["violations"] })');
  const serious = violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html: at }) => at.slice(0, 160)).join(' | ')}`);
  return { passed: passes.length, serious };
}

async function judge(t: TestContext, browser: Browser, colorScheme: 'light' | 'dark', width: number): Promise<void> {
  const address = await gallery(t);
  const { context, seen } = await profile(browser, { colorScheme, viewport: { width, height: 800 } });
  const page = await context.newPage();
  for (const name of [...Object.keys(PAGES), ...Object.keys(OTHERS)]) {
    await page.goto(`http://${address}/${encodeURIComponent(name)}`);
    await page.evaluate('for (const each of document.querySelectorAll("details")) each.open = true');
    if (name in PAGES) await page.getByRole('region', { name: 'Status codes' }).waitFor();
    const over = await page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth');
    assert.ok(Number(over) <= 0, `${name} at ${width} px is ${String(over)} px too wide`);
    const { passed, serious } = await findings(page);
    assert.deepEqual(serious, [], name);
    assert.ok(passed > 10, `${passed} rules`);
  }
  assert.deepEqual(
    seen.filter((each) => !/status of 503|\/events/.test(each)),
    [],
  );
}

for (const colorScheme of ['light', 'dark'] as const) {
  test(`axe-core finds nothing serious in any state of the page, ${colorScheme}`, async (t) => {
    await judge(t, await browserFor(t), colorScheme, 1_280);
  });
}

test('on a phone of 360 px every state fits, and axe-core finds nothing serious', async (t) => {
  await judge(t, await browserFor(t), 'light', 360);
});

test('on a phone of 360 px it is seen without scrolling how peers do', async (t) => {
  const address = await gallery(t);
  const { context } = await profile(await browserFor(t), { viewport: { width: 360, height: 800 } });
  const page = await context.newPage();
  await page.goto(`http://${address}/${encodeURIComponent('a peer is out')}`);
  const table = page.getByRole('region', { name: 'Machines' });
  const edge = await table.boundingBox();
  assert.ok(edge);
  for (const told of ['✓ healthy', '✕ open', '1\u202f284 failed', '◐ half-open', '✕ unhealthy']) {
    const box = await table.getByText(told).boundingBox();
    assert.ok(box && box.x >= edge.x && box.x + box.width <= edge.x + edge.width, `${told}: ${JSON.stringify(box)}`);
  }
});

test('the keyboard reaches the content at once, then everything that can be done', async (t) => {
  const address = await gallery(t);
  const browser = await browserFor(t);
  const { context } = await profile(browser);
  const page = await context.newPage();
  await page.goto(`http://${address}/${encodeURIComponent('five containers')}`);
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate('document.activeElement.textContent'), 'Skip to the content');
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate('document.activeElement.id'), 'main');
  const reached: string[] = [];
  for (let n = 0; n < 25; n++) {
    await page.keyboard.press('Tab');
    reached.push(String(await page.evaluate('document.activeElement.textContent.trim()')));
  }
  for (const name of ['Switch to v4', 'Stop old containers', 'Launch …', 'Every status code', 'Roll back to v2']) {
    assert.ok(reached.includes(name), `${name} in ${reached.join(', ')}`);
  }
});

test('the page says so when its stream is lost, and when it is back', async (t) => {
  const shop = workshop(t);
  const args = ['--runtime', 'process', '--workers', '1', shop.bucket, shop.prefix, 'shop'];
  const first = await startProgram(t, { args, stateDir: shop.stateDir });
  const browser = await browserFor(t);
  const { context } = await profile(browser);
  const page = await context.newPage();
  await page.goto(`http://${first.api}/`);
  const note = page.locator('#live');
  await note.getByText('Live').waitFor();
  await first.kill();
  await note.getByText('Connection lost').waitFor();
  assert.equal(await note.getAttribute('class'), 'lost');
  await page.locator('#said').getByText('Connection lost').waitFor({ state: 'attached' });
  await startProgram(t, { args: ['--api', first.api, ...args], stateDir: shop.stateDir });
  await note.getByText('Live').waitFor();
  assert.equal(await note.getAttribute('class'), '');
});
