/**
 * `npm run bench:compression`: what compression costs and saves.
 *
 * First the encoders alone, level by level: processor time for one body and how many times smaller it becomes. Then whole
 * requests through wunderproxy and through nginx with its gzip, each with one worker: processor time of that worker for
 * one request, by turns, the median of the rounds. All over three kinds of content (JSON, HTML, JavaScript).
 *
 *     npm run bench:compression -- [--rounds N]
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Agent } from 'node:http';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import * as zlib from 'node:zlib';
import { workshop } from '../test/support/deployable.ts';
import { deploy } from '../test/support/deployments.ts';
import { freePort } from '../test/support/free-port.ts';
import { type ListenText, send } from '../test/support/http.ts';
import { type Cleanup, descendantsOf, killIfThere, spawnForTest } from '../test/support/processes.ts';
import { startProgram } from '../test/support/program.ts';
import { KINDS } from './sample-bodies.ts';
import { untilAnswers } from './subjects.ts';

const SIZES = [4 * 1024, 64 * 1024, 1024 * 1024];
/** Requests of one measurement: about the same bytes each. */
const REQUESTS: Record<number, number> = { [4 * 1024]: 1_500, [64 * 1024]: 300, [1024 * 1024]: 30 };
const CONNECTIONS = 8;

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '5' } } });
const rounds = Number(values.rounds);
const { constants } = zlib;

/** Processor time (µs) and bytes of one thing, of which the median is told. */
interface Sample {
  cpu: number;
  bytes: number;
}

type Results = Map<string, Map<string, Sample[]>>;

function note(results: Results, name: string, column: string, sample: Sample): void {
  const row = results.get(name) ?? new Map<string, Sample[]>();
  results.set(name, row.set(column, [...(row.get(column) ?? []), sample]));
}

// The encoders alone -------------------------------------------------------------------------------------------------

function brotli(quality: number): (body: Buffer) => Buffer {
  return (body) => {
    const params = {
      [constants.BROTLI_PARAM_QUALITY]: quality,
      [constants.BROTLI_PARAM_LGWIN]: 18,
      [constants.BROTLI_PARAM_SIZE_HINT]: body.length,
    };
    return zlib.brotliCompressSync(body, { params });
  };
}

function zstd(level: number): (body: Buffer) => Buffer {
  const params = { [constants.ZSTD_c_compressionLevel]: level };
  return (body) => zlib.zstdCompressSync(body, { params, pledgedSrcSize: body.length });
}

const ENCODERS: [name: string, encode: (body: Buffer) => Buffer][] = [
  ...[1, 4, 5, 6, 9].map((level) => [`gzip ${level}`, (body: Buffer) => zlib.gzipSync(body, { level })] as const),
  ...[1, 3, 4, 5, 6].map((quality) => [`br ${quality}`, brotli(quality)] as const),
  ...[1, 3, 5, 9].map((level) => [`zstd ${level}`, zstd(level)] as const),
].map(([name, encode]) => [name, encode]);

function measureEncoders(): Results {
  const results: Results = new Map();
  for (const [kind, { make }] of Object.entries(KINDS)) {
    for (const size of SIZES) {
      const body = make(size);
      const times = Math.ceil(1_000_000 / size);
      for (let round = 0; round < rounds; round++) {
        for (const [name, encode] of ENCODERS) {
          let bytes = 0;
          const before = process.cpuUsage();
          for (let i = 0; i < times; i++) bytes = encode(body).length;
          const { user, system } = process.cpuUsage(before);
          note(results, name, `${kind} ${size}`, { cpu: (user + system) / times, bytes });
        }
      }
    }
  }
  return results;
}

// Whole requests -----------------------------------------------------------------------------------------------------

interface Subject {
  name: string;
  accept: string;
  address: ListenText;
  /** Of the processes that work. */
  pids: number[];
}

async function startApp(cleanup: Cleanup): Promise<ListenText> {
  const port = await freePort();
  const env = { PATH: process.env['PATH'] ?? '', PORT: String(port) };
  spawnForTest(cleanup, process.execPath, [join(import.meta.dirname, 'sample-app.ts')], { env, stdio: 'ignore' });
  const address: ListenText = `127.0.0.1:${port}`;
  await untilAnswers({ address, tls: false });
  return address;
}

async function startWunderproxy(cleanup: Cleanup): Promise<Subject[]> {
  const shop = workshop(cleanup);
  const program = await startProgram(cleanup, {
    args: ['--workers=1', '--runtime', 'process', shop.bucket, shop.prefix, 'bench'],
    stateDir: shop.stateDir,
  });
  const more = { ContainerConfig: { Cmd: [process.execPath, join(import.meta.dirname, 'sample-app.ts')] } };
  await deploy(program, shop.config('bench', { more }));
  const workers = descendantsOf(program.pid).filter(({ command }) => command.startsWith('wunderproxy: worker'));
  const pids = workers.map(({ pid }) => pid);
  return ['identity', 'gzip', 'br', 'zstd'].map((accept) => {
    return { name: `wunderproxy, ${accept}`, accept, address: program.proxy, pids };
  });
}

async function startNginx(cleanup: Cleanup): Promise<Subject[]> {
  const app = await startApp(cleanup);
  const subjects: Subject[] = [];
  for (const level of [1, 5, 6]) {
    const port = await freePort();
    const folder = mkdtempSync(join(tmpdir(), 'bench-'));
    const temp = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((of) => `${of}_temp_path ${folder}/${of};`);
    const config = `
      worker_processes 1; daemon off; pid ${folder}/pid; events {}
      http {
        access_log off; ${temp.join(' ')}
        upstream app { server ${app}; keepalive 16; }
        gzip on; gzip_comp_level ${level}; gzip_min_length 1024; gzip_types application/json text/javascript;
        server {
          listen 127.0.0.1:${port}; keepalive_requests 100000000;
          location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }
        }
      }`;
    writeFileSync(join(folder, 'config'), config);
    const args = ['-c', join(folder, 'config'), '-p', folder, '-e', join(folder, 'error.log'), '-g', 'user root;'];
    const child = spawnForTest(cleanup, 'nginx', args, { stdio: 'ignore' });
    cleanup.after(() => {
      // nginx' workers outlive a master that is killed alone.
      for (const { pid } of descendantsOf(child.pid ?? 0)) killIfThere(pid, 'SIGKILL');
      rmSync(folder, { recursive: true, force: true });
    });
    const address: ListenText = `127.0.0.1:${port}`;
    await untilAnswers({ address, tls: false });
    const pids = descendantsOf(child.pid ?? 0).map(({ pid }) => pid);
    if (level === 1) subjects.push({ name: 'nginx, identity', accept: 'identity', address, pids });
    subjects.push({ name: `nginx, gzip ${level}`, accept: 'gzip', address, pids });
  }
  return subjects;
}

/** Processor time of processes with all their threads, in µs. */
function cpuOf(pids: number[]): number {
  let ns = 0;
  for (const pid of pids) {
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      ns += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'latin1').split(' ')[0]);
    }
  }
  return ns / 1_000;
}

async function measureRequests(subject: Subject, path: string, count: number): Promise<Sample> {
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  const call = { agent, headers: { 'accept-encoding': subject.accept } };
  let bytes = 0;
  let left = CONNECTIONS;
  const line = async () => {
    while (left-- > 0) {
      const answer = await send(subject.address, path, call);
      if (answer.status !== 200) throw new Error(`${subject.name}: ${answer.status}`);
      if ((answer.headers['content-encoding'] ?? 'identity') !== subject.accept) throw new Error('another coding');
      bytes = answer.bytes.length;
    }
  };
  const lines = () => Promise.all(Array.from({ length: CONNECTIONS }, line));
  await lines();
  left = count;
  const before = cpuOf(subject.pids);
  await lines();
  const cpu = (cpuOf(subject.pids) - before) / count;
  agent.destroy();
  return { cpu, bytes };
}

async function measureProxies(cleanup: Cleanup): Promise<Results> {
  const subjects = [...(await startWunderproxy(cleanup)), ...(await startNginx(cleanup))];
  const results: Results = new Map();
  for (let round = 0; round < rounds; round++) {
    for (const kind of Object.keys(KINDS)) {
      for (const size of SIZES) {
        for (const subject of subjects) {
          const sample = await measureRequests(subject, `/${kind}/${size}`, REQUESTS[size] ?? 0);
          note(results, subject.name, `${kind} ${size}`, sample);
        }
      }
    }
  }
  return results;
}

// Output -------------------------------------------------------------------------------------------------------------

function median(numbers: number[]): number {
  return numbers.sort((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? NaN;
}

/** For each size the mean over the kinds of content: ms of processor time, and how many times smaller. */
function table(results: Results, head: string): string {
  const rows = Array.from(results, ([name, columns]) => {
    const cells = SIZES.map((size) => {
      const kinds = Object.keys(KINDS).map((kind) => columns.get(`${kind} ${size}`) ?? []);
      const cpu = kinds.reduce((sum, samples) => sum + median(samples.map((each) => each.cpu)), 0) / kinds.length;
      const bytes = kinds.reduce((sum, samples) => sum + (samples[0]?.bytes ?? NaN), 0) / kinds.length;
      return `${(cpu / 1_000).toFixed(2)} ms · ${(size / bytes).toFixed(2)}`;
    });
    return [name, ...cells];
  });
  const titles = [head, ...SIZES.map((size) => `${size / 1_024} KiB`)];
  return [titles, titles.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

const machine = `${availableParallelism()} × ${cpus()[0]?.model ?? 'unknown'}`;
console.log(`# ${new Date().toISOString().slice(0, 10)}, ${machine}, node ${process.version}; ${rounds} rounds`);
console.log(table(measureEncoders(), 'encoder'));
const hooks: (() => Promise<void> | void)[] = [];
try {
  console.log(`\n${table(await measureProxies({ after: (hook) => hooks.push(hook) }), 'through')}`);
} finally {
  for (const hook of hooks) await hook();
}
