import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

/**
 * `npm run demo`: wunderproxy on one machine without Docker or S3, with version 1 of the example in service and version 2
 * in the store. Everything it writes lies in a folder that goes with it.
 */
const root = dirname(dirname(fileURLToPath(import.meta.url)));
const shop = join(root, 'examples/shop');
const folder = mkdtempSync(join(tmpdir(), 'wunderproxy-demo-'));

interface Config {
  Revision: string;
  ContainerConfig: Record<string, unknown>;
}

/** Puts a launch config into the store, as a deploy script would, and returns its hash. */
function store(file: string, inService: boolean): string {
  const config = JSON.parse(readFileSync(join(shop, file), 'utf8')) as Config;
  config.ContainerConfig['WorkingDir'] = shop;
  const bytes = `${JSON.stringify(config, null, 2)}\n`;
  const hash = createHash('md5').update(bytes).digest('hex');
  const environment = join(folder, 'store/demo');
  mkdirSync(environment, { recursive: true });
  writeFileSync(join(environment, `container.${hash}.json`), bytes);
  if (inService) {
    const deployed = {
      Revision: config.Revision,
      DeployedAt: new Date().toISOString(),
      DeployedBy: 'demo',
      Hash: hash,
    };
    writeFileSync(join(environment, 'current.json'), bytes);
    writeFileSync(join(environment, 'history.json'), JSON.stringify([deployed]));
  }
  return hash;
}

/** The port, or 0 for any when somebody has it already. */
async function freeOr0(port: number): Promise<number> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(0));
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(port)));
  });
}

store('v1.json', true);
const hash = store('v2.json', false);

const program = spawn(
  join(root, 'bin/wunderproxy'),
  [
    ...['--runtime', 'process', '--state-dir', join(folder, 'state'), '--workers', '2'],
    ...['--proxy', `127.0.0.1:${await freeOr0(8080)}`, '--api', `127.0.0.1:${await freeOr0(8001)}`],
    ...[`file://${join(folder, 'store')}`, 'demo', 'shop'],
  ],
  {
    stdio: ['ignore', 'pipe', 'inherit'],
    // A group of its own: Ctrl-C is passed on once, below.
    detached: true,
    env: { ...process.env, PATH: `${join(root, 'node_modules/.bin')}${delimiter}${process.env['PATH'] ?? ''}` },
  },
);

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => program.kill(signal));
program.once('exit', (code, signal) => {
  rmSync(folder, { recursive: true, force: true });
  console.log(signal === null && code === 0 ? 'stopped; nothing is left behind' : `ended with ${signal ?? code}`);
  process.exit(code ?? 1);
});

createInterface({ input: program.stdout }).on('line', (line) => {
  const entry = JSON.parse(line) as { msg: string; level: string; proxy?: string; api?: string; to?: string };
  if (entry.msg === 'ready') void explain(entry.proxy ?? '', entry.api ?? '');
  else if (entry.level !== 'info') console.log(line);
});

/** Once version 1 is in service: its launch takes a second. */
async function explain(proxy: string, api: string): Promise<void> {
  for (let tries = 0; tries < 100; tries++) {
    const status = await fetch(`http://${api}/status`).then((answer) => answer.json() as Promise<{ Active: unknown }>);
    if (status.Active !== null) break;
    await delay(100);
  }
  console.log(instructions(proxy, api));
}

function instructions(proxy: string, api: string): string {
  return `
wunderproxy is up, with version 1 of examples/shop in service (this demo's files: ${folder}).

  The application:      curl http://${proxy}/
  What is going on:     http://${api}/ in a browser, or curl http://${api}/status

Deploy version 2, which waits in the store:

  curl -d ${hash} http://${api}/launch
  curl -d ${hash} http://${api}/switch
  curl http://${proxy}/

And back:               curl -X POST http://${api}/rollback

Ctrl-C ends it.
`;
}
