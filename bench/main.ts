/**
 * `npm run bench`: wunderproxy as it comes next to what people would use instead, everything on this machine. All that
 * takes part in a case runs at once and has its turn in short windows, so that what else the machine does hits all alike;
 * the ratios are those of windows of the same round. ARCHITECTURE of it: cases.ts (what), load.ts (how), peers.ts (whom).
 *
 *     npm run bench -- [--quick] [--case NAME]… [--peer NAME]… [--rounds N] [--seconds S] [--workers N]
 *                      [--json FILE] [--charts FOLDER]
 *     npm run bench:base REVISION -- [the same]        this tree next to another revision of it
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, release } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { issue, writePair } from '../test/support/certificates.ts';
import type { Cleanup } from '../test/support/processes.ts';
import { type Case, type CaseResult, type Contender, type Context, CPU, resultOf } from './case.ts';
import { CASES } from './cases.ts';
import { LoadProcess } from './load.ts';
import { packagesInstalled } from './peers.ts';
import { caseTable, chartsOf, overview } from './report.ts';
import { buildRevision } from './revision.ts';
import { versionOf, withCleanup, withRunFolder } from './session.ts';
import type { Running, Setup, Subject } from './subject.ts';
import { subjects, wunderproxy } from './subjects.ts';

/** Those from npm take as long as all others together. */
const QUICK_PEERS = ['nginx', 'haproxy', 'caddy'];

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    case: { type: 'string', multiple: true },
    peer: { type: 'string', multiple: true },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    workers: { type: 'string' },
    json: { type: 'string' },
    charts: { type: 'string' },
    base: { type: 'string' },
  },
});
const quick = values.quick;
const rounds = whole('rounds', values.rounds, quick ? 2 : 5);
const seconds = whole('seconds', values.seconds, quick ? 1 : 3);
const workers = whole('workers', values.workers, availableParallelism());

function whole(option: string, text: string | undefined, fallback: number): number {
  const number = Number(text ?? fallback);
  if (!Number.isInteger(number) || number < 1) throw new Error(`--${option}: expected a whole number above 0`);
  return number;
}

function say(line: string): void {
  console.log(`# ${line}`);
}

/** Installs what only the benchmarks need, as their own lock file says. */
function installPackages(): void {
  if (packagesInstalled()) return;
  say('npm ci in bench/: autocannon and the peers from npm');
  const { status } = spawnSync('npm', ['ci', '--no-audit', '--no-fund'], {
    cwd: import.meta.dirname,
    stdio: ['ignore', 'ignore', 'inherit'],
    timeout: 300_000,
  });
  if (status !== 0) throw new Error('the packages of bench/package.json can not be installed');
}

function chosenCases(): Case[] {
  const named = values.case;
  const unknown = named?.find((name) => !CASES.some((each) => each.name === name));
  if (unknown !== undefined) {
    throw new Error(`no case ${unknown}; there are ${CASES.map(({ name }) => name).join(', ')}`);
  }
  return CASES.filter(({ name, quick: inQuick = false, needs }) => {
    if (named !== undefined ? !named.includes(name) : quick && !inQuick) {
      if (named === undefined) say(`${name}: in the full run only`);
      return false;
    }
    const there = needs === undefined || versionOf(needs, ['--version']) !== null;
    if (!there) say(`${name}: left out, because ${needs} is not installed`);
    return there;
  });
}

/** Who is compared, and the name of whom the others are compared with. */
function chosenSubjects(cleanup: Cleanup, folder: string): { subjects: Subject[]; reference: string } {
  if (values.base !== undefined) {
    const { commit, bin } = buildRevision(cleanup, values.base, folder);
    const base = wunderproxy(`wunderproxy@${commit}`, bin);
    return { subjects: [base, wunderproxy('wunderproxy', ownBin)], reference: base.name };
  }
  const all = subjects(say);
  const named = values.peer ?? (quick ? [...QUICK_PEERS, 'no proxy'] : all.map(({ name }) => name));
  const unknown = named.find((name) => !all.some((each) => each.name === name) && values.peer !== undefined);
  if (unknown !== undefined)
    throw new Error(`no peer ${unknown} here; there are ${all.map(({ name }) => name).join(', ')}`);
  const chosen = all.filter(({ name }) => name === 'wunderproxy' || named.includes(name));
  return { subjects: chosen, reference: 'nginx' };
}

const ownBin = resolve(import.meta.dirname, '../bin/wunderproxy');

/** Starts what is asked for, once for each way in which it is set up. */
function starter(cleanup: Cleanup, tlsFiles: NonNullable<Setup['tls']>): Context['running'] {
  const started = new Map<string, Promise<Running>>();
  return async (contender, app, tls) => {
    const key = JSON.stringify([contender.subject.name, contender.workers, app, tls]);
    const known = started.get(key);
    if (known !== undefined) return known;
    const setup: Setup = { app, tls: tls ? tlsFiles : null, workers: contender.workers };
    const running = contender.subject.start(cleanup, setup);
    started.set(key, running);
    return running;
  };
}

function tlsFilesIn(folder: string): NonNullable<Setup['tls']> {
  const certificate = issue({ names: ['localhost'] });
  writePair(folder, 'tls', certificate);
  // HAProxy wants both in one file.
  writeFileSync(join(folder, 'tls.pem'), certificate.cert + certificate.key);
  return { cert: join(folder, 'tls.crt'), key: join(folder, 'tls.key') };
}

async function main(folder: string, cleanup: Cleanup): Promise<void> {
  installPackages();
  const cases = chosenCases();
  const { subjects: chosen, reference } = chosenSubjects(cleanup, folder);
  const tlsFiles = tlsFilesIn(folder);
  const load = new LoadProcess(cleanup);
  const results: CaseResult[] = [];
  const machine = {
    at: new Date().toISOString(),
    cpus: `${availableParallelism()} × ${cpus()[0]?.model ?? 'unknown'}`,
    linux: release(),
    loadBefore: loadavg()[0],
  };
  const versions = Object.fromEntries(chosen.map(({ name, version }) => [name, version]));
  say(`${machine.at.slice(0, 16)}Z, ${machine.cpus}, Linux ${machine.linux}, load ${machine.loadBefore?.toFixed(1)}`);
  say(
    `${Object.entries(versions)
      .map((each) => each.join(' ').trim())
      .join(' · ')} · ${workers} workers each`,
  );
  say(`${rounds} rounds of ${seconds} s for each; medians, × the median of the rounds' ratios to ${reference}`);
  say('memory: all own of the processes, and the file pages of the one that maps most');
  console.log('');

  const measure = async (each: Case, running: Context['running'], caseCleanup: Cleanup) => {
    const contenders = chosen
      .filter(({ only }) => only === undefined || only === each.name)
      .map((subject): Contender => ({ name: subject.name, subject, workers, reference }));
    try {
      const context = { contenders, rounds, seconds, quick, load, running, cleanup: caseCleanup };
      const result = resultOf(each, await each.measure(context));
      results.push(result);
      console.log(caseTable(result, values.base !== undefined));
    } catch (error) {
      process.exitCode = 1;
      say(`${each.name} FAILED: ${(error as Error).stack ?? String(error)}`);
    }
  };
  if (quick) {
    // Programs that were asked for one thing before are warm for the next, at the price of memory that is not its own.
    await withCleanup(async (own) => {
      const running = starter(own, tlsFiles);
      for (const each of cases) await measure(each, running, own);
    });
  } else {
    for (const each of cases) {
      await withCleanup(async (own) => measure(each, starter(own, tlsFiles), own));
    }
  }
  const table = overview(results, CPU, reference);
  if (table !== '') console.log(table);
  if (values.json !== undefined) {
    const record = { ...machine, node: process.version, workers, rounds, seconds, quick, reference, versions, results };
    writeFileSync(values.json, `${JSON.stringify(record, null, 2)}\n`);
  }
  if (values.charts !== undefined) {
    mkdirSync(values.charts, { recursive: true });
    const origin = `${machine.at.slice(0, 10)}, ${machine.cpus}`;
    for (const [name, svg] of chartsOf(results, reference, origin)) writeFileSync(join(values.charts, name), svg);
  }
}

await withRunFolder(async (folder) => withCleanup(async (cleanup) => main(folder, cleanup)));
