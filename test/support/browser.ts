import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo, Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Cleanup, descendantsOf, endProcess, killIfThere, spawnForTest } from './processes.ts';
import type { Service } from './service.ts';
import { serveSocks } from './socks.ts';

/** What starts the browser, and by which way (a SOCKS 5 server) it reaches the machine's network, if not directly. */
export const EXECUTABLE = process.env['TEST_CHROMIUM'] ?? '/usr/bin/chromium';
export const WAY_OUT = process.env['TEST_CHROMIUM_PROXY'];

/**
 * In a network of its own, where nothing ever changes: with every interface that comes or goes, Chromium breaks off what
 * its pages have asked for (ERR_NETWORK_CHANGED), and Docker makes and removes them all the time.
 */
export const chromium: Service = {
  name: 'Chromium',
  async start(dir) {
    const script = 'ip link set lo up && exec "$@"';
    const inside = [process.execPath, join(import.meta.dirname, 'inside-network.ts')];
    const network = spawn('unshare', ['--net', 'sh', '-c', script, 'sh', ...inside], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    const [, server] = (await Promise.race([
      once(network, 'message'),
      once(network, 'exit').then(([code]) => Promise.reject(new Error(`no network of its own: exit code ${code}`))),
    ])) as [string, Server];
    serveSocks(server);
    const executable = join(dir, 'chromium');
    const enter = `nsenter --net=/proc/${network.pid}/ns/net`;
    writeFileSync(executable, `#!/bin/sh\nexec ${enter} ${EXECUTABLE} "$@"\n`, { mode: 0o755 });
    const { port } = server.address() as AddressInfo;
    return {
      env: { TEST_CHROMIUM: executable, TEST_CHROMIUM_PROXY: `socks5://127.0.0.1:${port}` },
      async stop() {
        server.close();
        await endProcess(network);
      },
    };
  },
};

/** Opens a page without a window, whatever its certificate; it is closed with the test. */
export function openPage(t: Cleanup, url: string): void {
  const folder = mkdtempSync(join(tmpdir(), 'chromium-'));
  const quiet = ['--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
  const flags = ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--ignore-certificate-errors'];
  if (WAY_OUT !== undefined) flags.push(`--proxy-server=${WAY_OUT}`, '--proxy-bypass-list=<-loopback>');
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
