import { type ChildProcess, execFileSync } from 'node:child_process';
import { chmodSync, closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import * as http from 'node:http';
import { connect } from 'node:http2';
import * as https from 'node:https';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { workshop } from '../test/support/deployable.ts';
import { deploy } from '../test/support/deployments.ts';
import { freePort } from '../test/support/free-port.ts';
import { type Cleanup, descendantsOf, killIfThere, spawnForTest } from '../test/support/processes.ts';
import { startProgram, type TestProgram } from '../test/support/program.ts';
import { type Load, type Target, urlOf } from './load.ts';
import { type Peer, PEERS } from './peers.ts';
import { versionOf } from './session.ts';
import type { App, Running, Setup, Subject } from './subject.ts';

const START_LIMIT = 20_000;

/** Everything that there is to compare on this machine. What is not installed is told to `missing`. */
export function subjects(missing: (line: string) => void): Subject[] {
  const peers = PEERS.flatMap((peer) => {
    const version = versionOf(peer.command, peer.versionArgs);
    if (version === null || !/^\d/.test(version)) missing(`${peer.name} is not installed: left out`);
    else return [peerSubject(peer, version)];
    return [];
  });
  return [noProxy, wunderproxy('wunderproxy', join(import.meta.dirname, '../bin/wunderproxy')), ...peers];
}

/** The application itself, as one would have it without any proxy. */
export const noProxy: Subject = {
  name: 'no proxy',
  version: '',
  tls: false,
  only: 'slow-clients',
  async start(cleanup, { app }) {
    const { address, pid } = await startApp(cleanup, app);
    return { target: { address, tls: false }, pids: () => descendantsOf(pid).map((each) => each.pid) };
  },
};

async function startApp(cleanup: Cleanup, app: App): Promise<{ address: string; pid: number }> {
  const port = await freePort();
  const env = { PATH: process.env['PATH'] ?? '', ...app.env, PORT: String(port) };
  const child = spawnForTest(cleanup, process.execPath, [app.file], { env, stdio: ['ignore', 'ignore', 'inherit'] });
  const address = `127.0.0.1:${port}`;
  await untilAnswers({ address, tls: false });
  return { address, pid: child.pid ?? 0 };
}

/** wunderproxy with its defaults, from the folder that `bin` lies in; the application is its deployment. */
export function wunderproxy(name: string, bin: string): Subject {
  const help = execFileSync(bin, ['--help'], { stdio: ['ignore', 'pipe', 'pipe'] }).toString();
  const offers = (option: string) => help.includes(`${option} `);
  return {
    name,
    version: execFileSync(bin, ['--version']).toString().trim(),
    tls: offers('--tls-cert'),
    async start(cleanup, { app, tls, workers }) {
      const shop = workshop(cleanup);
      const log = offers('--access-log') ? ['--access-log', join(openFolder(cleanup), 'access.log')] : [];
      const program = await startProgram(cleanup, {
        bin,
        args: [
          ...['--runtime', 'process', '--workers', String(workers)],
          ...log,
          ...(tls ? ['--tls', '127.0.0.1:0', '--tls-cert', tls.cert, '--tls-key', tls.key] : []),
          ...[shop.bucket, shop.prefix, 'bench'],
        ],
        stateDir: shop.stateDir,
      });
      const config = (revision: string) => shop.config(revision, { more: { ContainerConfig: commandOf(app) } });
      await deploy(program, config('bench'));
      return {
        target: tls ? { address: tlsAddress(program), tls: true } : { address: program.proxy, tls: false },
        pids: () => program.processes().flatMap(({ pid, role }) => (role === 'other' ? [] : [pid])),
        deployment: { program, config },
      };
    },
  };
}

/** Workers that have become somebody else write there. */
function openFolder(cleanup: Cleanup): string {
  const folder = mkdtempSync(join(tmpdir(), 'bench-'));
  chmodSync(folder, 0o777);
  cleanup.after(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
  return folder;
}

/** An application as a launch config has it. */
function commandOf(app: App): object {
  const env = Object.entries(app.env).map(([name, value]) => `${name}=${value}`);
  return { Cmd: [process.execPath, app.file], Env: env };
}

function tlsAddress({ log }: TestProgram): string {
  return String(log.find(({ msg }) => msg === 'ready')?.['tls']);
}

function peerSubject(peer: Peer, version: string): Subject {
  const { name, tls, only } = peer;
  return {
    name,
    version,
    tls,
    ...(only !== undefined && { only }),
    start: async (cleanup, setup) => startPeer(peer, cleanup, setup),
  };
}

async function startPeer(peer: Peer, cleanup: Cleanup, { app, tls, workers }: Setup): Promise<Running> {
  const folder = mkdtempSync(join(tmpdir(), 'bench-'));
  // nginx' workers are nobody and have their temporary files in it.
  chmodSync(folder, 0o755);
  const port = await freePort();
  const { address } = await startApp(cleanup, app);
  const place = { port, app: address, folder, tls, workers, log: join(folder, 'access.log') };
  const config = join(folder, 'config');
  writeFileSync(config, peer.config(place));
  const env = { PATH: process.env['PATH'] ?? '', ...peer.env?.(place) };
  let child: ChildProcess | null = null;
  cleanup.after(() => {
    // nginx' workers outlive a master that is killed alone.
    const all = child?.pid === undefined ? [] : descendantsOf(child.pid);
    for (const each of all) killIfThere(each.pid, 'SIGKILL');
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  });
  const log = openSync(place.log, 'a');
  const errors = openSync(join(folder, 'stderr'), 'a');
  const stdio: ['ignore', 'ignore' | number, number] = ['ignore', peer.logsToStdout === true ? log : 'ignore', errors];
  child = spawnForTest(cleanup, peer.command, peer.args(config, place), { env, stdio });
  closeSync(log);
  closeSync(errors);
  const { pid = 0 } = child;
  const target = { address: `127.0.0.1:${port}`, tls: tls !== null };
  await untilAnswers(target);
  return { target, pids: () => descendantsOf(pid).map((each) => each.pid) };
}

/** Resolves once an application answers. Rejects after START_LIMIT. */
export async function untilAnswers(target: Target): Promise<void> {
  const deadline = performance.now() + START_LIMIT;
  for (;;) {
    try {
      if ((await ask(target, { path: '/up' })).status === 200) return;
    } catch {}
    if (performance.now() > deadline) throw new Error(`nothing answers at ${target.address}`);
    await delay(50);
  }
}

type Asked = Pick<Load, 'path' | 'headers' | 'upload'>;

/** What the benchmarks look at in an answer. */
export interface Seen {
  status: number;
  body: Buffer;
  coding: string | null;
}

/**
 * One request over HTTP/1.1 on a connection of its own: a GET, or a POST of `upload` bytes. Rejects when the connection
 * fails.
 */
export async function ask(target: Target, { path, headers = {}, upload }: Asked): Promise<Seen> {
  const asked = (target.tls ? https : http).request(urlOf(target, path), {
    method: upload === undefined ? 'GET' : 'POST',
    headers: upload === undefined ? headers : { ...headers, 'content-length': upload },
    agent: false,
    timeout: 10_000,
    ...(target.tls && { rejectUnauthorized: false, servername: 'localhost' }),
  });
  asked.on('timeout', () => asked.destroy(new Error('no answer')));
  asked.end(upload === undefined ? undefined : Buffer.alloc(upload, 'u'));
  const [response] = (await once(asked, 'response')) as [http.IncomingMessage];
  const body = Buffer.concat((await response.toArray()) as Buffer[]);
  return { status: response.statusCode ?? 0, body, coding: response.headers['content-encoding'] ?? null };
}

/** Whether HTTP/2 is spoken there. */
export async function speaksHttp2({ address, tls }: Target): Promise<boolean> {
  if (!tls) return false;
  const session = connect(`https://${address}`, { rejectUnauthorized: false, servername: 'localhost' });
  session.on('error', () => {});
  try {
    await once(session, 'connect', { signal: AbortSignal.timeout(5_000) });
    return session.alpnProtocol === 'h2';
  } catch {
    return false;
  } finally {
    session.destroy();
  }
}
