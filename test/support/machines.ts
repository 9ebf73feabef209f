import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PutObjectCommand } from '@aws-sdk/client-s3';
import { type ConfigOptions, processConfig } from './deployable.ts';
import { deploy, until } from './deployments.ts';
import { freePort } from './free-port.ts';
import { type Cleanup, killIfThere } from './processes.ts';
import { endPrograms, startProgram, type TestProgram } from './program.ts';
import { s3ForTest } from './s3.ts';

/** What tests read of `/status` about other machines. */
export interface FallbackAnswer {
  Active: { State: string } | null;
  Totals: {
    Requests: number;
    StatusCodes: Record<string, number>;
    Fallbacks: { Peer: string; Reason: string; Outcome: string; Count: number }[];
    Markers: Record<string, number>;
  };
  Peers: { Machine: string | null; Fallback: { Url: string; State: string } | null }[];
}

/** Machines that share one S3 and one secret: programs at 127.0.0.1, 127.0.0.2, … with the same port. */
export interface Fleet {
  machines: TestProgram[];
  /** Stores a launch config of the test application and resolves to its hash. */
  store(revision: string, options?: ConfigOptions): Promise<string>;
  /** Method and target of each request that an application has begun to work on, on whatever machine. */
  executed(): string[];
  /** What they share. */
  secret(): string;
  /** Changes the file, which is read at the next reload. */
  setSecret(): void;
}

/** All with the same options, the list of all as their peers. */
export async function startFleet(t: Cleanup, count: number, more: string[] = []): Promise<Fleet> {
  const folder = mkdtempSync(join(tmpdir(), 'fleet-'));
  t.after(async () => {
    await endPrograms(t);
    rmSync(folder, { recursive: true, force: true });
  });
  const { endpoint, bucket, env, client } = await s3ForTest(t);
  const secret = join(folder, 'secret');
  const executed = join(folder, 'executed');
  const cfg = join(folder, 'cfg');
  const setSecret = () => writeFileSync(secret, randomBytes(32).toString('hex'));
  setSecret();
  writeFileSync(executed, '');
  writeFileSync(cfg, `COUNT_FILE=${executed}\n`);
  const port = await freePort();
  const hosts = Array.from({ length: count }, (_, i) => `127.0.0.${i + 1}:${port}`);
  const peers = hosts.flatMap((host) => ['--peer', `http://${host}`]);
  const common = [
    '--runtime',
    'process',
    '--workers',
    '2',
    '--cfg',
    cfg,
    '--peer-secret-file',
    secret,
    ...peers,
    ...more,
  ];
  const machines = await Promise.all(
    hosts.map(async (host, i) =>
      startProgram(t, {
        args: [...common, '--proxy', host, '--s3-endpoint', endpoint, '--s3-path-style', bucket, 'production', 'shop'],
        env,
        stateDir: join(folder, `state-${i + 1}`),
      }),
    ),
  );
  return {
    machines,
    async store(revision, options) {
      const { hash, bytes } = processConfig(revision, options);
      await client.send(
        new PutObjectCommand({ Bucket: bucket, Key: `production/container.${hash}.json`, Body: bytes }),
      );
      return hash;
    },
    executed: () => readFileSync(executed, 'utf8').split('\n').slice(0, -1),
    secret: () => readFileSync(secret, 'utf8'),
    setSecret,
  };
}

export async function fallbackStatus(program: TestProgram): Promise<FallbackAnswer> {
  return (await program.call('GET', '/status')).json<FallbackAnswer>();
}

/** Puts one config into service everywhere, one machine after the other. */
export async function deployEverywhere(fleet: Fleet, revision: string): Promise<void> {
  const hash = await fleet.store(revision);
  for (const machine of fleet.machines) await deploy(machine, hash);
}

/** Resolves once a machine knows that its application has gone. */
export async function untilDown(machine: TestProgram): Promise<void> {
  await until(
    async () => (await fallbackStatus(machine)).Active?.State,
    (state) => state === 'failed',
  );
}

/** Resolves once a machine finds all the others in this state. */
export async function untilPeers(machine: TestProgram, count: number, state = 'healthy'): Promise<void> {
  await until(
    async () => (await fallbackStatus(machine)).Peers.filter(({ Fallback }) => Fallback?.State === state).length,
    (found) => found === count,
  );
}

/** Kills the application of a machine, as when it crashes; resolves to the moment, in ms since the epoch. */
export function killApplication(machine: TestProgram): number {
  const applications = machine
    .processes()
    .filter(({ role, command }) => role === 'other' && command.includes('app/server.js'));
  if (applications.length === 0) throw new Error('there is no application to kill');
  for (const { pid } of applications) killIfThere(pid, 'SIGKILL');
  return Date.now();
}
