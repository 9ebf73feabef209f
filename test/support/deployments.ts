import assert from 'node:assert/strict';
import { request } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { connectionTo } from './http.ts';
import type { Cleanup } from './processes.ts';
import type { TestProgram } from './program.ts';

/** What tests read of a container in `/status`. */
export interface ContainerAnswer {
  Hash: string;
  Revision: string;
  Id: string;
  State: string;
  Address: string | null;
  Failure: string | null;
  InFlight: number;
  Upgraded: number;
}

/** What tests read of a certificate in `/status`. */
export interface CertificateAnswer {
  Names: string[];
  Source: string;
  Issuer: string;
  NotBefore: string | null;
  NotAfter: string | null;
  DaysLeft: number | null;
  Problem: string | null;
}

/** What tests read of `/status`. */
export interface StatusAnswer {
  /** In bytes. */
  HeapSize: number;
  Active: ContainerAnswer | null;
  Containers: ContainerAnswer[];
  History: { Hash: string; Revision: string }[];
  DockerState: string;
  StoreState: string;
  Certificates: CertificateAnswer[];
  Workers: { Id: number; Pid: number; State: string }[];
  Totals: { Requests: number; StatusCodes: Record<string, number> };
  States: Record<'new' | 'active' | 'idle' | 'hijacked', number>;
  Buffers: Record<'MemoryBytes' | 'SpoolBytes' | 'SpoolFiles', number>;
}

const PATIENCE = 20_000;

export async function statusOf(program: TestProgram): Promise<StatusAnswer> {
  return (await program.call('GET', '/status')).json<StatusAnswer>();
}

/** Launches and switches; both must succeed. */
export async function deploy(program: TestProgram, hash: string): Promise<void> {
  for (const path of ['/launch', '/switch']) {
    const answer = await program.call('POST', path, hash);
    assert.equal(answer.status, 200, answer.text);
  }
}

/** Which version of the test application answers. */
export async function versionServed(program: TestProgram): Promise<string> {
  const answer = await program.get('/');
  assert.equal(answer.status, 200, answer.text);
  return answer.json<{ version: string }>().version;
}

/** Status and code of a call that must fail. */
export async function codeOf(
  program: TestProgram,
  method: string,
  path: string,
  body = '',
): Promise<[status: number, code: string]> {
  const answer = await program.call(method, path, body, { accept: 'application/json' });
  const { Error: error } = answer.json<{ Error: { Code: string; Message: string } }>();
  assert.equal(answer.headers['wunderproxy-error'], error.Code);
  assert.ok(error.Message.length > 0);
  return [answer.status, error.Code];
}

/**
 * Asks again and again until the condition holds: for what no event tells. Rejects with the last thing seen after 20 s, or
 * so many ms.
 */
export async function until<T>(ask: () => Promise<T>, holds: (seen: T) => boolean, patience = PATIENCE): Promise<T> {
  const deadline = performance.now() + patience;
  for (;;) {
    const seen = await ask();
    if (holds(seen)) return seen;
    if (performance.now() > deadline) throw new Error(`it did not come about; last seen: ${JSON.stringify(seen)}`);
    await delay(20);
  }
}

/** SIGHUP; resolves when there are new workers, and no old one is left. */
export async function reload(program: TestProgram): Promise<void> {
  const before = program.pids('worker');
  program.signal('SIGHUP');
  await until(
    async () => Promise.resolve(program.pids('worker')),
    (pids) => pids.length === before.length && pids.every((pid) => !before.includes(pid)),
  );
}

/** Resolves once nothing is left of what clients did: no connection, nothing in flight, no body kept. */
export async function untilQuiet(program: TestProgram): Promise<StatusAnswer> {
  return until(
    async () => statusOf(program),
    ({ Containers, States, Buffers }) =>
      Containers.every(({ InFlight, Upgraded }) => InFlight === 0 && Upgraded === 0) &&
      [...Object.values(States), ...Object.values(Buffers)].every((count) => count === 0),
  );
}

/** Resolves once so many requests are known to be in flight on containers, as the workers last reported. */
export async function untilInFlight(program: TestProgram, count: number): Promise<void> {
  await until(
    async () => (await statusOf(program)).Containers.reduce((sum, each) => sum + each.InFlight, 0),
    (inFlight) => inFlight >= count,
  );
}

/**
 * A request that keeps a machine's container busy, and its drain from ending, until it is given up. `begun` resolves once
 * the container has it.
 */
export async function hold(
  t: Cleanup,
  program: TestProgram,
  begun: () => Promise<unknown> = async () => untilInFlight(program, 1),
): Promise<{ giveUp: () => void }> {
  const asked = request({ ...connectionTo(program.proxy), path: '/slow?ms=120000', agent: false });
  asked.on('error', () => {});
  asked.end();
  const giveUp = () => void asked.destroy();
  t.after(giveUp);
  await begun();
  return { giveUp };
}
