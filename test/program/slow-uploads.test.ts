import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { workshop } from '../support/deployable.ts';
import { deploy, statusOf, until, untilQuiet } from '../support/deployments.ts';
import { openFilesOf } from '../support/processes.ts';
import { startProgram } from '../support/program.ts';
import { Upload } from '../support/upload.ts';

const MIB = 2 ** 20;

/** In bytes. */
function memoryOf(pid: number, what: 'VmRSS' | 'VmHWM'): number {
  const line = new RegExp(`^${what}:\\s*(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'latin1'));
  return Number(line?.[1]) * 1_024;
}

function sockets(pid: number): number {
  return openFilesOf(pid).filter((name) => name.startsWith('socket:')).length;
}

/** Files without a name that a process has open: what is left of a body's. */
function spoolFiles(pid: number): number {
  return openFilesOf(pid).filter((name) => name.endsWith('(deleted)')).length;
}

/** Many bodies without as much memory: each is a part of one sequence that does not repeat. */
function bodies(count: number, length: number): { body: Buffer; sha256: string }[] {
  const step = 4_099;
  const source = Buffer.alloc(length + count * step);
  let word = 0x9e37_79b9;
  for (let at = 0; at + 4 <= source.length; at += 4) {
    word = (Math.imul(word, 1_664_525) + 1_013_904_223) >>> 0;
    source.writeUInt32LE(word, at);
  }
  return Array.from({ length: count }, (_, i) => {
    const body = source.subarray(i * step, i * step + length);
    return { body, sha256: createHash('sha256').update(body).digest('hex') };
  });
}

const UPLOADS = 1_000;
/** Of each. 10 in a run of its own; 10 GB at once are more than the disk of a small machine takes within a normal run. */
const MEGABYTES = Number(process.env['SLOW_UPLOAD_MB'] ?? 2);
const UPLOAD_BYTES = MEGABYTES * 1_000_000;
const PIECE = 100_000;
/** So many end at a time: the application has to accept a connection for each. */
const ENDING = 50;
const MEMORY_TOTAL = 64 * MIB;
/** What a worker may need for a client beyond the budget: pieces on their way from its socket and to the container, its share of garbage. */
const PER_CONNECTION = 384 * 1_024;

test(`1,000 slow uploads of ${MEGABYTES} MB at once arrive as they were sent, in bounded memory, and leave nothing behind`, async (t) => {
  const shop = workshop(t);
  const program = await startProgram(t, {
    args: [
      ...['--runtime', 'process', '--workers', '2', '--buffer-memory-total', `${MEMORY_TOTAL}`, '--spool-max', '24GiB'],
      ...[shop.bucket, shop.prefix, 'shop'],
    ],
    stateDir: shop.stateDir,
  });
  await deploy(program, shop.config('v1'));
  const workers = program.pids('worker');
  const before = workers.map((pid) => ({ pid, memory: memoryOf(pid, 'VmRSS'), sockets: sockets(pid) }));

  const sent = bodies(50, UPLOAD_BYTES);
  const at = (i: number) => sent[i % sent.length] as (typeof sent)[number];
  const uploads = await Promise.all(
    Array.from({ length: UPLOADS }, async (_, i) => Upload.begin(t, program.proxy, at(i).body)),
  );
  const begun = performance.now();
  // Every round is over when all have sent their piece: none is done before all are nearly so.
  for (let done = PIECE; done < UPLOAD_BYTES; done += PIECE) {
    await Promise.all(uploads.map(async (upload) => upload.send(PIECE)));
  }
  const full = await until(
    async () => statusOf(program),
    ({ States, Buffers }) => States.active === UPLOADS && Buffers.SpoolBytes > 0.9 * UPLOADS * (UPLOAD_BYTES - PIECE),
  );
  const connections = before.map((each) => sockets(each.pid) - each.sockets);
  assert.equal(connections[0]! + connections[1]!, UPLOADS, 'all are open together');
  assert.ok(full.Buffers.MemoryBytes <= 2 * MEMORY_TOTAL + UPLOADS * PER_CONNECTION, JSON.stringify(full.Buffers));
  assert.equal(full.Containers[0]?.InFlight, 0, 'no container is held');

  for (let first = 0; first < UPLOADS; first += ENDING) {
    const ending = uploads.slice(first, first + ENDING);
    await Promise.all(ending.map(async (upload) => upload.send(PIECE)));
    const answers = await Promise.all(ending.map(async (upload) => upload.answer()));
    for (const [i, { bytes, sha256 }] of answers.entries()) {
      assert.deepEqual({ bytes, sha256 }, { bytes: UPLOAD_BYTES, sha256: at(first + i).sha256 });
    }
  }
  t.diagnostic(`${UPLOADS} uploads took ${((performance.now() - begun) / 1_000).toFixed(1)} s`);

  for (const [i, { pid, memory }] of before.entries()) {
    const peak = memoryOf(pid, 'VmHWM');
    const mine = connections[i] ?? 0;
    const excess = Math.round((peak - memory - MEMORY_TOTAL) / mine / 1_024);
    t.diagnostic(
      `worker ${i + 1}: ${mine} uploads, ${mib(memory)} before, ${mib(peak)} at its peak: ${excess} KiB each`,
    );
    assert.ok(peak <= memory + MEMORY_TOTAL + mine * PER_CONNECTION, `${mib(peak)} for ${mine} uploads`);
  }
  await untilQuiet(program);
  assert.deepEqual(program.pids('worker'), workers, 'no worker was replaced');
  for (const pid of workers) assert.equal(spoolFiles(pid), 0);
});

function mib(bytes: number): string {
  return `${Math.round(bytes / MIB)} MiB`;
}
