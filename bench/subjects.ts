import { type ChildProcess, execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { workshop } from '../test/support/deployable.ts';
import { deploy } from '../test/support/deployments.ts';
import { freePort } from '../test/support/free-port.ts';
import { type ListenText, send } from '../test/support/http.ts';
import { type Cleanup, descendantsOf, killIfThere, spawnForTest } from '../test/support/processes.ts';
import { startProgram } from '../test/support/program.ts';

const START_LIMIT = 20_000;

/** Something that requests can be sent through to an application. */
export interface Subject {
  name: string;
  /** What it is measured with, for the record. */
  version: string;
  /** Starts it in front of an application of its own that is made from `app`; ends with `cleanup`. */
  start(cleanup: Cleanup, app: App): Promise<ListenText>;
}

/** An application: `node FILE`, with its address in PORT. */
export interface App {
  file: string;
  env: Record<string, string>;
}

/** Everything that there is to compare on this machine. What is not installed is told to `missing`. */
export function subjects(missing: (line: string) => void): Subject[] {
  const peers = [nginx, haproxy, caddy(''), caddy(BUFFERED)].flatMap((peer) => {
    const version = versionOf(peer.command, peer.versionArgs);
    if (version === null) missing(`${peer.command} is not installed: left out`);
    return version === null ? [] : [{ name: peer.name ?? peer.command, version, start: startPeer(peer) }];
  });
  return [
    { name: 'no proxy', version: '', start: startApp },
    { name: 'wunderproxy', version: execFileSync(bin, ['--version']).toString().trim(), start: startWunderproxy },
    ...peers,
  ];
}

const bin = join(import.meta.dirname, '../bin/wunderproxy');

/** Directly, as one would without any proxy. */
async function startApp(cleanup: Cleanup, app: App): Promise<ListenText> {
  const port = await freePort();
  const env = { PATH: process.env['PATH'] ?? '', ...app.env, PORT: String(port) };
  spawnForTest(cleanup, process.execPath, [app.file], { env, stdio: ['ignore', 'ignore', 'inherit'] });
  return untilAnswers(`127.0.0.1:${port}`);
}

/** The shipped program with its defaults; the application is its deployment. */
async function startWunderproxy(cleanup: Cleanup, app: App): Promise<ListenText> {
  const shop = workshop(cleanup);
  const program = await startProgram(cleanup, {
    args: ['--runtime', 'process', shop.bucket, shop.prefix, 'bench'],
    stateDir: shop.stateDir,
  });
  const env = Object.entries(app.env).map(([name, value]) => `${name}=${value}`);
  const more = { ContainerConfig: { Cmd: [process.execPath, app.file], Env: env } };
  await deploy(program, shop.config('bench', { more }));
  return program.proxy;
}

interface Peer {
  command: string;
  /** Where one command is measured in more than one way. */
  name?: string;
  versionArgs: string[];
  args(config: string, folder: string): string[];
  config(port: number, app: ListenText, folder: string): string;
}

/** As its package comes, but in the foreground and with bodies as large as wunderproxy's default. */
const nginx: Peer = {
  command: 'nginx',
  versionArgs: ['-v'],
  args: (config, folder) => ['-c', config, '-p', folder, '-e', join(folder, 'error.log')],
  config: (port, app, folder) => `
    worker_processes auto;
    daemon off;
    pid ${folder}/pid;
    events {}
    http {
      access_log off;
      client_max_body_size 100m;
      client_body_temp_path ${folder}/body;
      proxy_temp_path ${folder}/proxy;
      fastcgi_temp_path ${folder}/fastcgi;
      uwsgi_temp_path ${folder}/uwsgi;
      scgi_temp_path ${folder}/scgi;
      server {
        listen 127.0.0.1:${port};
        location / { proxy_pass http://${app}; }
      }
    }`,
};

/** It has no way to buffer whole bodies; `http-buffer-request` reaches as far as one buffer (16 KiB). */
const haproxy: Peer = {
  command: 'haproxy',
  versionArgs: ['-v'],
  args: (config) => ['-db', '-f', config],
  config: (port, app) => `
defaults
  mode http
  option http-buffer-request
  timeout connect 60s
  timeout client 60s
  timeout server 60s
listen bench
  bind 127.0.0.1:${port}
  server app ${app}
`,
};

/** Off by default; what is larger than the size is not buffered. */
const BUFFERED = `
    buffer_requests
    buffer_responses
    max_buffer_size 1MiB`;

function caddy(handling: string): Peer {
  return {
    command: 'caddy',
    name: handling === '' ? 'caddy' : 'caddy-buffered',
    versionArgs: ['version'],
    args: (config) => ['run', '--adapter', 'caddyfile', '--config', config],
    config: (port, app) => `
{
  admin off
  auto_https off
}
http://127.0.0.1:${port}, http://bench:${port} {
  bind 127.0.0.1
  reverse_proxy ${app} {${handling}
  }
}
`,
  };
}

function startPeer(peer: Peer): Subject['start'] {
  return async (cleanup, app) => {
    const folder = mkdtempSync(join(tmpdir(), 'bench-'));
    mkdirSync(join(folder, 'home'));
    const port = await freePort();
    const config = join(folder, 'config');
    writeFileSync(config, peer.config(port, await startApp(cleanup, app), folder));
    const env = { PATH: process.env['PATH'] ?? '', HOME: join(folder, 'home') };
    let child: ChildProcess | null = null;
    cleanup.after(() => {
      // nginx' workers outlive a master that is killed alone.
      const all = child?.pid === undefined ? [] : descendantsOf(child.pid);
      for (const each of all) killIfThere(each.pid, 'SIGKILL');
      rmSync(folder, { recursive: true, force: true });
    });
    child = spawnForTest(cleanup, peer.command, peer.args(config, folder), { env, stdio: 'ignore' });
    return untilAnswers(`127.0.0.1:${port}`);
  };
}

/** First line of what a command says of its version; null when there is no such command. */
function versionOf(command: string, args: string[]): string | null {
  try {
    // nginx tells it to stderr.
    const said = execFileSync('sh', ['-c', '"$@" 2>&1', 'sh', command, ...args], { stdio: 'pipe' }).toString();
    return /\d+\.\d+\.\d+/.exec(said)?.[0] ?? said.split('\n', 1)[0] ?? '';
  } catch {
    return null;
  }
}

async function untilAnswers(address: ListenText): Promise<ListenText> {
  const deadline = performance.now() + START_LIMIT;
  for (;;) {
    try {
      if ((await send(address, '/up')).status === 200) return address;
    } catch {}
    if (performance.now() > deadline) throw new Error(`nothing answers at ${address}`);
    await delay(50);
  }
}
