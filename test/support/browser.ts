import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Cleanup, descendantsOf, endProcess, killIfThere, spawnForTest } from './processes.ts';
import type { Service } from './service.ts';

const EXECUTABLE = process.env['TEST_CHROMIUM'] ?? '/usr/bin/chromium';

/** Only has to be installed. */
export const chromium: Service = {
  name: 'Chromium',
  start() {
    return Promise.resolve({ env: { TEST_CHROMIUM: EXECUTABLE }, stop: () => Promise.resolve() });
  },
};

/** Opens a page without a window, whatever its certificate; it is closed with the test. */
export function openPage(t: Cleanup, url: string): void {
  const folder = mkdtempSync(join(tmpdir(), 'chromium-'));
  const quiet = ['--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
  const flags = ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--ignore-certificate-errors'];
  const ends: Cleanup = {
    after(fn) {
      t.after(async () => {
        // Its own children first: they would outlive it for a while, and write into the folder.
        for (const { pid } of descendantsOf(child.pid ?? 0)) killIfThere(pid, 'SIGKILL');
        await fn();
        await endProcess(child);
        rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
      });
    },
  };
  const child = spawnForTest(ends, EXECUTABLE, [...flags, ...quiet, `--user-data-dir=${folder}`, url], {
    stdio: 'ignore',
  });
}
