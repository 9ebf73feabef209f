import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from './free-port.ts';
import { type Cleanup, endProcess, spawnForTest } from './processes.ts';

const START_LIMIT_MS = 20_000;

export interface PebbleOptions {
  /** Where it asks for answers to http-01 challenges, whatever the name: a port of 127.0.0.1. */
  httpPort: number;
  /** How long its certificates are valid, in s. */
  validity?: number;
  /** Of all good nonces, so many percent are refused. */
  badNonces?: number;
  /** So many percent of the authorizations that were given once are given again without a challenge. */
  reused?: number;
}

/** A real ACME server with its own name server, both of this test only. Every name leads to 127.0.0.1. */
export class Pebble {
  readonly directory: string;
  /** File with the certificate of its API, for NODE_EXTRA_CA_CERTS. */
  readonly caFile: string;
  readonly #management: string;
  #process: ChildProcess | null = null;

  private constructor(port: number, management: number, caFile: string) {
    this.directory = `https://localhost:${port}/dir`;
    this.caFile = caFile;
    this.#management = `https://localhost:${management}`;
  }

  static async start(t: Cleanup, options: PebbleOptions): Promise<Pebble> {
    const given = process.env.TEST_PEBBLE;
    if (!given) throw new Error('There is no Pebble to test with: run this file with `npm test -- FILE`.');
    const folder = mkdtempSync(join(tmpdir(), 'pebble-'));
    const names = await startNameServer(t);
    const [port, management] = [await freePort(), await freePort()];
    const pebble = new Pebble(port, management, join(given, 'cert.pem'));
    const config = {
      listenAddress: `127.0.0.1:${port}`,
      managementListenAddress: `127.0.0.1:${management}`,
      certificate: pebble.caFile,
      privateKey: join(given, 'key.pem'),
      httpPort: options.httpPort,
      tlsPort: 5001,
      ocspResponderURL: '',
      externalAccountBindingRequired: false,
      certificateValidityPeriod: options.validity ?? 86_400,
    };
    writeFileSync(join(folder, 'config.json'), JSON.stringify({ pebble: config }));
    const child = spawnForTest(t, 'pebble', ['-config', join(folder, 'config.json'), '-dnsserver', names], {
      env: {
        PATH: process.env.PATH,
        PEBBLE_VA_NOSLEEP: '1',
        PEBBLE_WFE_NONCEREJECT: String(options.badNonces ?? 5),
        PEBBLE_AUTHZREUSE: String(options.reused ?? 50),
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    pebble.#process = child;
    await said(child, /ACME directory available/);
    // It says so just before it listens.
    await untilListens(port);
    return pebble;
  }

  /** The root of what it issues: PEM. */
  async root(): Promise<string> {
    const asked = request(`${this.#management}/roots/0`, { ca: readFileSync(this.caFile), agent: false }).end();
    const [response] = (await once(asked, 'response')) as [IncomingMessage];
    return Buffer.concat((await response.toArray()) as Buffer[]).toString();
  }

  /** From now on nobody answers at its address. */
  async stop(): Promise<void> {
    if (this.#process) await endProcess(this.#process);
  }
}

async function untilListens(port: number): Promise<void> {
  const deadline = performance.now() + START_LIMIT_MS;
  for (;;) {
    const socket = connect(port, '127.0.0.1');
    const heard = await once(socket, 'connect').then(
      () => true,
      () => false,
    );
    socket.destroy();
    if (heard) return;
    if (performance.now() > deadline) throw new Error(`nothing listens on port ${port}`);
    await delay(10);
  }
}

/** Its address. It knows every name. */
async function startNameServer(t: Cleanup): Promise<string> {
  const address = `127.0.0.1:${await freePort()}`;
  const off = ['-http01', '', '-https01', '', '-tlsalpn01', ''];
  const management = `127.0.0.1:${await freePort()}`;
  const args = ['-dns01', address, '-management', management, '-defaultIPv4', '127.0.0.1', '-defaultIPv6', ''];
  const child = spawnForTest(t, 'pebble-challtestsrv', [...off, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  await said(child, /Starting management server/);
  return address;
}

/** Resolves once a process has written this to its output. */
async function said(child: ChildProcess, what: RegExp): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    output += chunk.toString();
    if (what.test(output)) resolve();
  });
  child.once('error', reject);
  child.once('exit', (code) => reject(new Error(`${child.spawnfile} ended with ${code}: ${output}`)));
  const limit = setTimeout(() => reject(new Error(`${child.spawnfile} did not start: ${output}`)), START_LIMIT_MS);
  try {
    await promise;
  } finally {
    clearTimeout(limit);
  }
}
