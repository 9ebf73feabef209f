/**
 * `npm run bench:page`: what open status pages cost the requests.
 *
 * The program serves a steady load, by turns with no page open and with 10 (their streams are read, as browsers do). What
 * counts is the processor time that the workers need for a request, from /proc, next to the manager's own. Rounds are
 * paired, so that a machine that gets slower or faster meanwhile does not matter; two rounds without pages, compared in the
 * same way, say how much is noise.
 *
 *     npm run bench:page -- [--rounds N] [--seconds S]
 */
import { type ClientRequest, request } from 'node:http';
import { availableParallelism, cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { workshop } from '../test/support/deployable.ts';
import { deploy } from '../test/support/deployments.ts';
import { connectionTo } from '../test/support/http.ts';
import type { Cleanup } from '../test/support/processes.ts';
import { startProgram, type TestProgram } from '../test/support/program.ts';
import { fastClients } from './slow-load.ts';
import { cpuSeconds } from './process-tree.ts';

const PAGES = 10;
const CLIENTS = 16;

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '8' }, seconds: { type: 'string', default: '5' } },
});
const rounds = Number(values.rounds);
const ms = Number(values.seconds) * 1_000;

interface Sample {
  /** Processor time of the workers per request, µs. */
  perRequest: number;
  /** Of the manager, ms per second. */
  manager: number;
  rate: number;
}

function openPages(program: TestProgram, count: number): { received: () => number; close: () => void } {
  let bytes = 0;
  const open: ClientRequest[] = Array.from({ length: count }, () => {
    const asked = request({ ...connectionTo(program.api), path: '/events', agent: false }, (response) => {
      response.on('data', (chunk: Buffer) => (bytes += chunk.length));
      response.on('error', () => {});
    });
    asked.on('error', () => {});
    asked.end();
    return asked;
  });
  return { received: () => bytes, close: () => open.forEach((each) => each.destroy()) };
}

async function sample(program: TestProgram, pages: number): Promise<Sample> {
  const watched = openPages(program, pages);
  try {
    const [workers, manager] = [program.pids('worker'), program.pids('manager')];
    const before = [cpuSeconds(workers), cpuSeconds(manager)] as const;
    const begun = performance.now();
    const { rate } = await fastClients(program.proxy, CLIENTS, ms);
    const seconds = (performance.now() - begun) / 1_000;
    const spent = [cpuSeconds(workers) - before[0], cpuSeconds(manager) - before[1]] as const;
    if (pages > 0 && watched.received() === 0) throw new Error('the pages were sent nothing');
    return { perRequest: (spent[0] * 1e6) / (rate * seconds), manager: (spent[1] * 1_000) / seconds, rate };
  } finally {
    watched.close();
  }
}

function median(numbers: number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? NaN;
}

const hooks: Parameters<Cleanup['after']>[0][] = [];
try {
  const cleanup: Cleanup = { after: (hook) => hooks.push(hook) };
  const shop = workshop(cleanup);
  const program = await startProgram(cleanup, {
    args: ['--runtime', 'process', shop.bucket, shop.prefix, 'bench'],
    stateDir: shop.stateDir,
  });
  await deploy(program, shop.config('bench'));
  await sample(program, 0);
  const done: { none: Sample; again: Sample; open: Sample }[] = [];
  for (let n = 0; n < rounds; n++) {
    done.push({ none: await sample(program, 0), open: await sample(program, PAGES), again: await sample(program, 0) });
  }
  const ratio = (of: (round: (typeof done)[number]) => number) => {
    const all = done.map(of).toSorted((a, b) => a - b);
    return `${median(all).toFixed(3)} (${all[0]?.toFixed(3)} to ${all.at(-1)?.toFixed(3)})`;
  };
  console.log(
    `# ${new Date().toISOString().slice(0, 10)}, ${availableParallelism()} × ${cpus()[0]?.model ?? 'unknown'}; ${rounds} rounds`,
  );
  console.log(`requests per second, no page open      ${median(done.map(({ none }) => none.rate)).toFixed(0)}`);
  console.log(
    `workers' time per request, no page     ${median(done.map(({ none }) => none.perRequest)).toFixed(1)} µs`,
  );
  console.log(
    `… with ${PAGES} pages open, as a ratio      ${ratio(({ none, open, again }) => (2 * open.perRequest) / (none.perRequest + again.perRequest))}`,
  );
  console.log(
    `… with no page open again (the noise)  ${ratio(({ none, again }) => again.perRequest / none.perRequest)}`,
  );
  console.log(
    `manager, no page open                  ${median(done.map(({ none }) => none.manager)).toFixed(1)} ms of processor time a second`,
  );
  console.log(
    `manager, ${PAGES} pages open                ${median(done.map(({ open }) => open.manager)).toFixed(1)} ms of processor time a second`,
  );
} finally {
  for (const hook of hooks) await hook();
}
