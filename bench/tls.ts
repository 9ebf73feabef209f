/**
 * `npm run bench:tls`: what TLS costs. New connections with one request each, and requests on kept-alive connections, by
 * wrk through each proxy that is installed, all with one ECDSA P-256 certificate and one worker. What counts is the
 * processor time of the proxy's processes per request, which a busy machine changes less than rates; the least of the rounds.
 *
 *     npm run bench:tls -- [--rounds N] [--seconds S]
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { issue, writePair } from '../test/support/certificates.ts';
import { workshop } from '../test/support/deployable.ts';
import { deploy } from '../test/support/deployments.ts';
import { freePort } from '../test/support/free-port.ts';
import { connectionTo, send } from '../test/support/http.ts';
import { type Cleanup, descendantsOf, killIfThere, spawnForTest } from '../test/support/processes.ts';
import { startProgram } from '../test/support/program.ts';
import { cpuSeconds } from './process-tree.ts';

const HOST = 'bench.example';
const APP = join(import.meta.dirname, 'tls-app.ts');

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '5' }, seconds: { type: 'string', default: '4' } },
});
const rounds = Number(values.rounds);
const seconds = Number(values.seconds);

const WAYS = { 'new connections': ['-H', 'Connection: close'], 'kept alive': [] as string[] };
type Way = keyof typeof WAYS;

interface Front {
  name: string;
  port: number;
  /** Its first process; the application is not below it, or is left out. */
  pid: number;
}

const PEERS: Record<string, (port: number, app: string, folder: string) => { config: string; args: string[] }> = {
  nginx: (port, app, folder) => ({
    args: ['-c', join(folder, 'config'), '-p', folder, '-e', join(folder, 'error.log')],
    config: `
    worker_processes 1;
    daemon off;
    pid ${folder}/pid;
    events { worker_connections 4096; }
    http {
      access_log off;
      client_body_temp_path ${folder}/body;
      proxy_temp_path ${folder}/proxy;
      fastcgi_temp_path ${folder}/fastcgi;
      uwsgi_temp_path ${folder}/uwsgi;
      scgi_temp_path ${folder}/scgi;
      keepalive_requests 1000000;
      upstream app { server ${app}; keepalive 64; keepalive_requests 1000000; }
      server {
        listen 127.0.0.1:${port} ssl;
        ssl_certificate ${folder}/shop.crt;
        ssl_certificate_key ${folder}/shop.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }
      }
    }`,
  }),
  caddy: (port, app, folder) => ({
    args: ['run', '--adapter', 'caddyfile', '--config', join(folder, 'config')],
    config: `
{
  admin off
  auto_https off
  servers {
    protocols h1
  }
}
https://127.0.0.1:${port}, https://${HOST}:${port} {
  bind 127.0.0.1
  tls ${folder}/shop.crt ${folder}/shop.key
  reverse_proxy ${app}
}
`,
  }),
};

function isInstalled(command: string): boolean {
  return spawnSync('sh', ['-c', `command -v ${command}`], { stdio: 'ignore' }).status === 0;
}

async function startWunderproxy(cleanup: Cleanup, flags: string[]): Promise<Front> {
  const shop = workshop(cleanup);
  const program = await startProgram(cleanup, {
    args: ['--runtime', 'process', '--workers', '1', ...flags, shop.bucket, shop.prefix, 'bench'],
    stateDir: shop.stateDir,
  });
  await deploy(program, shop.config('bench', { more: { ContainerConfig: { Cmd: [process.execPath, APP] } } }));
  return { name: 'wunderproxy', port: portOf(program.tls), pid: program.pid };
}

function portOf(address: string): number {
  return (connectionTo(address) as { port: number }).port;
}

async function startPeer(cleanup: Cleanup, name: string, folder: string): Promise<Front> {
  const appPort = await freePort();
  const env = { PATH: process.env['PATH'] ?? '', PORT: String(appPort), HOME: folder, GOMAXPROCS: '1' };
  spawnForTest(cleanup, process.execPath, [APP], { env, stdio: 'inherit' });
  const port = await freePort();
  const { config, args } = PEERS[name]?.(port, `127.0.0.1:${appPort}`, folder) ?? { config: '', args: [] };
  writeFileSync(join(folder, 'config'), config);
  const child = spawnForTest(cleanup, name, args, { env, stdio: 'ignore' });
  const pid = child.pid ?? 0;
  // nginx' workers outlive a master that is killed alone.
  cleanup.after(() => descendantsOf(pid).forEach((each) => killIfThere(each.pid, 'SIGKILL')));
  return { name, port, pid };
}

async function untilAnswers({ name, port }: Front): Promise<void> {
  for (let i = 0; i < 200; i++) {
    const answer = await send(`127.0.0.1:${port}`, '/', {
      headers: { host: HOST },
      tls: { servername: HOST, rejectUnauthorized: false },
    }).catch(() => null);
    if (answer?.status === 200) return;
    await delay(50);
  }
  throw new Error(`${name} does not answer`);
}

/** In ms: of a front and everything below it but the application. */
function cpuTime(pid: number): number {
  const pids = descendantsOf(pid).flatMap((each) => (each.command.includes(APP) ? [] : [each.pid]));
  return cpuSeconds(pids) * 1_000;
}

interface Sample {
  /** µs per request. */
  cpu: number;
  rate: number;
}

async function measure(front: Front, way: Way): Promise<Sample> {
  const before = cpuTime(front.pid);
  const args = [
    '-t1',
    '-c16',
    `-d${seconds}s`,
    '-H',
    `Host: ${HOST}`,
    ...WAYS[way],
    `https://127.0.0.1:${front.port}/`,
  ];
  const said = execFileSync('wrk', args, { encoding: 'utf8' });
  const requests = Number(/(\d+) requests in/.exec(said)?.[1]);
  if (/Non-2xx/.test(said)) throw new Error(`${front.name}: ${said}`);
  return { cpu: ((cpuTime(front.pid) - before) * 1_000) / requests, rate: requests / seconds };
}

const hooks: (() => Promise<void> | void)[] = [];
const cleanup: Cleanup = { after: (hook) => hooks.push(hook) };
try {
  const certificate = issue({ names: [HOST] });
  const folder = mkdtempSync(join(tmpdir(), 'bench-'));
  const fronts = [await startWunderproxy(cleanup, writePair(folder, 'shop', certificate))];
  for (const name of Object.keys(PEERS).filter(isInstalled)) {
    const own = join(folder, name);
    mkdirSync(own);
    writePair(own, 'shop', certificate);
    fronts.push(await startPeer(cleanup, name, own));
  }
  cleanup.after(() => rmSync(folder, { recursive: true, force: true }));
  await Promise.all(fronts.map(untilAnswers));
  for (const way of Object.keys(WAYS) as Way[]) {
    const samples = new Map<string, Sample[]>();
    for (const front of fronts) await measure(front, way);
    for (let round = 0; round < rounds; round++) {
      for (const front of fronts) {
        samples.set(front.name, [...(samples.get(front.name) ?? []), await measure(front, way)]);
      }
    }
    for (const [name, all] of samples) {
      const cpu = Math.min(...all.map((sample) => sample.cpu));
      const rate = Math.max(...all.map((sample) => sample.rate));
      process.stdout.write(
        `${way}\t${name}\t${cpu.toFixed(0)} µs of processor a request\t${rate.toFixed(0)} a second\n`,
      );
    }
  }
} finally {
  for (const hook of hooks.toReversed()) await hook();
}
