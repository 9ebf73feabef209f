import { join } from 'node:path';
import { GetObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { type ConfigOptions, encode } from './deployable.ts';
import { until } from './deployments.ts';
import { dockerForTest, type TestDocker } from './docker.ts';
import type { Cleanup } from './processes.ts';
import { startProgram, type TestProgram } from './program.ts';
import { s3ForTest, type TestS3 } from './s3.ts';
import { Tap } from './tap.ts';

const PREFIX = 'test/docker';

/** How a program is to be started. */
export interface StartOptions {
  args?: string[];
  /** May lead it through a tap. */
  dockerHost?: string;
  /** May lead it through a tap. */
  endpoint?: string;
  /** Default: the deployment's own, which every start shares. */
  stateDir?: string;
}

/** A deployment as `history.json` has it. */
export interface HistoryEntry {
  Revision: string;
  DeployedBy: string;
  Hash: string;
}

/** Real parts for deployments on Docker: engine, registry, S3, and the program on top. */
export class DockerDeployment {
  readonly docker: TestDocker;
  readonly s3: TestS3;
  readonly stateDir: string;
  readonly #t: Cleanup;

  constructor(t: Cleanup, docker: TestDocker, s3: TestS3, stateDir: string) {
    this.#t = t;
    this.docker = docker;
    this.s3 = s3;
    this.stateDir = stateDir;
  }

  /** Builds this version's image, pushes it and stores its launch config; resolves to the hash. */
  async release(revision: string, options: ConfigOptions = {}): Promise<string> {
    await this.docker.push(await this.docker.appImage(revision));
    return this.store(revision, options);
  }

  /** Stores a launch config alone. */
  async store(revision: string, options: ConfigOptions & { image?: string } = {}): Promise<string> {
    const { env = {}, more = {}, algorithm, image } = options;
    const Env = Object.entries(env).map(([key, value]) => `${key}=${value}`);
    const ContainerConfig = image === undefined ? { Env } : { Env, Image: image };
    const config = { ContainerConfig, HealthCheckPath: 'up', Revision: revision, ...more };
    const { hash, bytes } = encode(config, algorithm);
    await this.put(`container.${hash}.json`, bytes);
    return hash;
  }

  async put(key: string, bytes: Buffer): Promise<void> {
    const { bucket, client } = this.s3;
    await client.send(new PutObjectCommand({ Bucket: bucket, Key: `${PREFIX}/${key}`, Body: bytes }));
  }

  /** An object of the environment, as JSON. */
  async read<T>(key: string): Promise<T> {
    const { bucket, client } = this.s3;
    const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key: `${PREFIX}/${key}` }));
    return JSON.parse((await Body?.transformToString()) ?? '') as T;
  }

  /** The revision that `current.json` names. */
  async current(): Promise<string> {
    return (await this.read<{ Revision: string }>('current.json')).Revision;
  }

  /** Revisions in `history.json`, oldest first. */
  async history(): Promise<string[]> {
    return (await this.read<HistoryEntry[]>('history.json')).map(({ Revision }) => Revision);
  }

  /** This application's containers in any state, `<revision>-ID<-mark> <state>` each, in order. */
  async containers(): Promise<string[]> {
    const { app, docker } = this.docker;
    const found = await docker.listContainers({ all: true, filters: { label: [`wunderproxy.app=${app}`] } });
    return found
      .map(({ Names, Id, State }) =>
        `${(Names[0] ?? '').replace(`/${app}-`, '')} ${State}`.replace(Id.slice(0, 8), 'ID'),
      )
      .toSorted();
  }

  /** Resolves once these, and no others, are this application's containers. */
  async settledAt(...expected: string[]): Promise<void> {
    await until(
      async () => this.containers(),
      (found) => JSON.stringify(found) === JSON.stringify(expected),
    );
  }

  /** Starts the program. */
  async start({
    args = [],
    dockerHost = this.docker.host,
    endpoint = this.s3.endpoint,
    stateDir = this.stateDir,
  }: StartOptions = {}): Promise<TestProgram> {
    const s3 = ['--s3-endpoint', endpoint, '--s3-path-style'];
    const options = ['--workers', '2', '--registry-port', String(this.docker.registryPort), ...s3, ...args];
    return startProgram(this.#t, {
      args: [...options, this.s3.bucket, PREFIX, this.docker.app],
      env: { ...this.s3.env, DOCKER_HOST: dockerHost },
      stateDir,
    });
  }

  /** Puts a tap in front of Docker and one in front of S3. */
  async tapped(): Promise<Taps> {
    const socketPath = this.docker.host.slice('unix://'.length);
    const path = join(this.stateDir, 'tap.sock');
    const docker = await Tap.start(this.#t, { socketPath }, path);
    const s3 = await Tap.start(this.#t, { url: this.s3.endpoint });
    return { docker, s3, start: { dockerHost: `unix://${path}`, endpoint: s3.url } };
  }
}

/** Between a program that is started with `start` and its Docker and S3. */
export interface Taps {
  docker: Tap;
  s3: Tap;
  start: StartOptions;
}

type Ends = (() => Promise<void> | void)[];

/** What ends before a store is removed. */
const endsOf = new WeakMap<TestS3, Ends>();

/**
 * Everything is cleared away when the test ends: the programs and taps first, so that no program is at work on what is
 * being removed. With the store of another deployment it stands for a second machine, and ends together with it.
 */
export async function dockerDeployment(t: Cleanup, stateDir: string, store?: TestS3): Promise<DockerDeployment> {
  const ends: Ends = (store && endsOf.get(store)) ?? [];
  if (store === undefined) {
    t.after(async () => {
      for (const end of ends) await end();
    });
  }
  const docker = await dockerForTest(t);
  const s3 = store ?? (await s3ForTest(t));
  endsOf.set(s3, ends);
  return new DockerDeployment({ after: (end) => void ends.push(end) }, docker, s3, stateDir);
}

/**
 * Images of the test application by version, built once for all tests of a file; configs name them in full. Gone when
 * `t` ends.
 */
export async function sharedImages(t: Cleanup, versions: string[]): Promise<TestDocker> {
  const images = await dockerForTest(t);
  for (const version of versions) await images.appImage(version);
  return images;
}
