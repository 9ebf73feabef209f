/**
 * Runs the tests: all of them, or the files named on the command line.
 *
 * What the chosen files need of real parts (Docker, a registry, S3) is installed where that can be done, started once,
 * and handed to them by environment variables; files whose parts can't be had are skipped with a line each, which with
 * CI=true counts as a failure. Everything that was started is ended by its process id, whatever happens.
 */
import { chmodSync, existsSync, globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { finished } from 'node:stream/promises';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { canInstall, installPackages, missingPackages } from './support/packages.ts';
import { killIfThere, processesOfRun } from './support/processes.ts';
import type { Service, StartedService } from './support/service.ts';

interface Part {
  /** A test file that imports one of these, directly or not, needs the part. */
  usedThrough: string[];
  packages: string[];
  /** When this is set, the part is there already, and nothing is installed or started. */
  givenBy: string;
  load: () => Promise<Service>;
}

const PARTS: Record<string, Part> = {
  S3: {
    usedThrough: ['test/support/s3.ts'],
    packages: ['ceph-mon', 'ceph-osd', 'ceph-common', 'radosgw'],
    givenBy: 'TEST_S3_ENDPOINT',
    load: async () => (await import('./support/ceph-service.ts')).cephService,
  },
  promtool: {
    usedThrough: ['test/support/promtool.ts'],
    packages: [],
    givenBy: 'TEST_PROMTOOL',
    load: async () => (await import('./support/promtool-service.ts')).promtoolService,
  },
  curl: {
    usedThrough: ['test/support/curl.ts'],
    packages: ['curl'],
    givenBy: 'TEST_CURL',
    load: async () => (await import('./support/curl-service.ts')).curlService,
  },
  'pseudo terminals': {
    usedThrough: ['test/support/pty.ts'],
    packages: ['bsdutils'],
    givenBy: 'TEST_PTY',
    load: async () => (await import('./support/pty.ts')).ptyService,
  },
  ACME: {
    usedThrough: ['test/support/pebble.ts'],
    packages: ['pebble'],
    givenBy: 'TEST_PEBBLE',
    load: async () => (await import('./support/pebble-service.ts')).pebbleService,
  },
  Docker: {
    usedThrough: ['test/support/docker.ts', 'test/support/docker-daemon.ts'],
    packages: ['docker.io', 'iptables', 'busybox-static', 'docker-registry'],
    givenBy: 'DOCKER_HOST',
    load: async () => {
      const module: string = './support/docker-service.ts';
      return ((await import(module)) as { dockerService: Service }).dockerService;
    },
  },
  Chromium: {
    usedThrough: ['test/support/browser.ts', 'test/support/playwright.ts'],
    packages: ['chromium', 'fonts-dejavu-core', 'iproute2'],
    givenBy: 'TEST_CHROMIUM',
    load: async () => (await import('./support/browser.ts')).chromium,
  },
  'HTTP/2 clients': {
    usedThrough: ['test/support/http2-tools.ts'],
    packages: ['nghttp2-client', 'curl'],
    givenBy: 'TEST_HTTP2_CLIENTS',
    load: async () => (await import('./support/http2-tools.ts')).http2Tools,
  },
};

/** No file takes this long unless it hangs. */
const FILE_LIMIT_MS = 9 * 60_000;

/**
 * These take more than half a minute each; they begin first, in this order, so that none is left to run alone at the end.
 * What each run says about its slowest files shows whether it still holds.
 */
const LONGEST = ['test/program/docker-switch.test.ts', 'test/proxy/over-tls.test.ts'];

/**
 * How many files run at once. Most wait most of the time (for timers, containers, other processes): a file takes half a
 * core on average. On a machine that has nothing to spare, more of them only take longer each.
 */
const LANES = availableParallelism() + 2;

/** How many of the slowest files and tests are named at the end. */
const SLOWEST = 10;

interface Duration {
  ms: number;
  name: string;
}

const root = resolve(import.meta.dirname, '..');

/** Lines that make the whole run a failure, although no test failed. */
const troubles = new Set<string>();

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Every file below test/ that `file` imports, itself included. */
function importsOf(file: string): Set<string> {
  const found = new Set([file]);
  for (const each of found) {
    const source = readFileSync(join(root, each), 'utf8');
    for (const [, path = ''] of source.matchAll(/(?:from|import|import\()\s*'(\.{1,2}\/[^']+\.ts)'/g)) {
      const imported = relative(root, resolve(root, dirname(each), path));
      if (imported.startsWith('test/')) found.add(imported);
    }
  }
  return found;
}

/** Files that are named run in the order of their names on the command line. */
function chooseFiles(named: string[]): string[] {
  if (named.length > 0) return named.map((name) => relative(root, resolve(name))).filter(isThere);
  const all = globSync('test/**/*.test.ts', { cwd: root });
  // Where there are no such files there is no place in an order for them.
  const longest = LONGEST.filter(isThere);
  const others = all.filter((file) => !longest.includes(file)).sort();
  const weight = (file: string) =>
    (file.startsWith('test/program/') ? 0 : 2) + (Object.keys(neededParts(file)).length > 0 ? 0 : 1);
  return [...longest, ...others.sort((a, b) => weight(a) - weight(b))];
}

function isThere(file: string): boolean {
  if (existsSync(join(root, file))) return true;
  troubles.add(`there is no ${file}`);
  return false;
}

function neededParts(file: string): Record<string, Part> {
  const imports = importsOf(file);
  return Object.fromEntries(
    Object.entries(PARTS).filter(([, { usedThrough }]) => usedThrough.some((file) => imports.has(file))),
  );
}

/** Why a part can't be had, or null when it is there and the environment says where. */
async function obtain(part: Part, dir: string, started: StartedService[]): Promise<string | null> {
  if (process.env[part.givenBy]) return null;
  if (!canInstall()) return `needs Debian and root, or ${part.givenBy}`;
  try {
    const missing = missingPackages(part.packages);
    if (missing.length > 0) {
      say(`# installing ${missing.join(' ')}`);
      installPackages(missing);
    }
    const service = await part.load();
    await mkdir(dir);
    const begun = performance.now();
    const running = await service.start(dir);
    started.push(running);
    Object.assign(process.env, running.env);
    say(`# ${service.name} is up after ${((performance.now() - begun) / 1000).toFixed(1)} s`);
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}

/** The files that can be run, once what they need is up. */
async function prepare(files: string[], dir: string, started: StartedService[]): Promise<string[]> {
  const lacking = new Map<string, string>();
  for (const [name, part] of Object.entries(PARTS)) {
    if (!files.some((file) => name in neededParts(file))) continue;
    const reason = await obtain(part, join(dir, name.toLowerCase().replaceAll('/', '')), started);
    if (reason !== null) lacking.set(name, reason);
  }
  for (const [name, reason] of lacking) say(`# no ${name}: ${reason}`);
  return files.filter((file) => {
    const without = Object.keys(neededParts(file)).filter((name) => lacking.has(name));
    if (without.length === 0) return true;
    const line = `skipped ${file}: it needs ${without.join(' and ')}`;
    say(`# ${line}`);
    // Where parts can be installed, one that does not come up is a fault, not a lack.
    if (process.env.CI === 'true' || canInstall()) troubles.add(line);
    return false;
  });
}

/** Side by side. False when one has failed. */
async function runFiles(files: string[], signal: AbortSignal): Promise<boolean> {
  const events = run({
    files: files.map((file) => join(root, file)),
    concurrency: LANES,
    timeout: FILE_LIMIT_MS,
    signal,
  });
  let passed = false;
  const fileTimes: Duration[] = [];
  const testTimes: Duration[] = [];
  const totals: Record<string, number> = {};
  for (const event of ['test:pass', 'test:fail'] as const) {
    events.on(event, ({ name, file = '', details }) => {
      if (details.type !== 'suite')
        testTimes.push({ ms: details.duration_ms, name: `${name} (${relative(root, file)})` });
    });
  }
  events.on('test:summary', ({ file, counts, success, duration_ms: ms }) => {
    if (file !== undefined) {
      fileTimes.push({ ms, name: relative(root, file) });
      return;
    }
    passed = success;
    // Node counts them, its types forgot them.
    const { failed: fail } = counts as typeof counts & { failed: number };
    const { tests, passed: pass, cancelled, skipped, todo } = counts;
    Object.assign(totals, { tests, pass, fail, cancelled, skipped, todo });
    if (skipped > 0 && process.env.CI === 'true') troubles.add(`${skipped} skipped tests`);
  });
  const report = events.compose(new spec());
  report.pipe(process.stdout, { end: false });
  await finished(report);
  saySlowest('files', fileTimes);
  saySlowest('tests', testTimes);
  for (const [name, count] of Object.entries(totals)) say(`# ${name} ${count}`);
  return passed;
}

function saySlowest(what: string, times: Duration[]): void {
  say(`# the slowest ${what}`);
  for (const { ms, name } of times.toSorted((a, b) => b.ms - a.ms).slice(0, SLOWEST)) {
    say(`# ${(ms / 1_000).toFixed(1).padStart(7)} s  ${name}`);
  }
}

/** Kills what tests left running, and calls that a failure. */
function endLeftovers(dir: string): void {
  for (const { pid, command } of processesOfRun(dir)) {
    if (!killIfThere(pid, 'SIGKILL')) continue;
    troubles.add(`left running: ${pid} ${command.slice(0, 200)}`);
  }
}

function removeFolder(dir: string): void {
  try {
    rmSync(dir, { recursive: true, force: true });
  } catch (error) {
    troubles.add(`the temp folder can not be removed: ${(error as Error).message}`);
  }
}

async function main(): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'wundertest-'));
  // Like the system's own: workers that have become somebody else spool there.
  chmodSync(dir, 0o1777);
  process.env.TMPDIR = dir;
  // Hundreds of processes run the same sources.
  process.env.NODE_COMPILE_CACHE = join(dir, 'compile-cache');

  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      troubles.add(`ended by ${signal}`);
      stop.abort();
    });
  }

  const started: StartedService[] = [];
  let passed = false;
  try {
    const files = await prepare(chooseFiles(process.argv.slice(2)), dir, started);
    if (files.length === 0) troubles.add('there is nothing to run');
    else if (!stop.signal.aborted) passed = await runFiles(files, stop.signal);
  } finally {
    for (const service of started.reverse()) await service.stop();
    endLeftovers(dir);
    removeFolder(dir);
  }
  for (const line of troubles) say(`# FAILURE: ${line}`);
  process.exitCode = passed && troubles.size === 0 ? 0 : 1;
}

await main();
