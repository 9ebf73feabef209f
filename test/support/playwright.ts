import { type Browser, type BrowserContext, type BrowserContextOptions, chromium } from 'playwright-core';
import { EXECUTABLE, WAY_OUT } from './browser.ts';
import type { Cleanup } from './processes.ts';

const ARGS = [
  ...['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
  ...['--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'],
];

/** A browser that ends with the test. */
export async function browserFor(t: Cleanup): Promise<Browser> {
  const browser = await chromium.launch({
    executablePath: EXECUTABLE,
    ...(WAY_OUT !== undefined && { proxy: { server: WAY_OUT, bypass: '<-loopback>' } }),
    args: ARGS,
    headless: true,
  });
  t.after(async () => browser.close());
  return browser;
}

/** What a page complained about: script errors, and whatever the Content-Security-Policy kept it from. */
export interface Complaints {
  context: BrowserContext;
  seen: string[];
}

/** A fresh profile whose pages' complaints are collected. */
export async function profile(browser: Browser, options: BrowserContextOptions = {}): Promise<Complaints> {
  const context = await browser.newContext({ timezoneId: 'Asia/Kolkata', locale: 'en-GB', ...options });
  context.setDefaultTimeout(60_000);
  const seen: string[] = [];
  context.on('weberror', (error) => seen.push(String(error.error())));
  context.on('console', (message) => {
    if (message.type() === 'error' || /Content.Security.Policy/i.test(message.text())) seen.push(message.text());
  });
  return { context, seen };
}
