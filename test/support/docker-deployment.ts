import { PutObjectCommand } from '@aws-sdk/client-s3';
import { type ConfigOptions, encode } from './deployable.ts';
import { dockerForTest, type TestDocker } from './docker.ts';
import type { Cleanup } from './processes.ts';
import { startProgram, type TestProgram } from './program.ts';
import { s3ForTest, type TestS3 } from './s3.ts';

const PREFIX = 'test/docker';

/** Real parts for deployments on Docker: engine, registry, S3, and the program on top. */
export class DockerDeployment {
  readonly docker: TestDocker;
  readonly s3: TestS3;
  readonly #t: Cleanup;
  readonly #stateDir: string;

  constructor(t: Cleanup, docker: TestDocker, s3: TestS3, stateDir: string) {
    this.#t = t;
    this.docker = docker;
    this.s3 = s3;
    this.#stateDir = stateDir;
  }

  /** Builds this version's image, pushes it and stores its launch config; resolves to the hash. */
  async release(revision: string, options: ConfigOptions = {}): Promise<string> {
    await this.docker.push(await this.docker.appImage(revision));
    return this.store(revision, options);
  }

  /** Stores a launch config alone. */
  async store(revision: string, { env = {}, more = {}, algorithm }: ConfigOptions = {}): Promise<string> {
    const Env = Object.entries(env).map(([key, value]) => `${key}=${value}`);
    const config = { ContainerConfig: { Env }, HealthCheckPath: 'up', Revision: revision, ...more };
    const { hash, bytes } = encode(config, algorithm);
    await this.put(`container.${hash}.json`, bytes);
    return hash;
  }

  async put(key: string, bytes: Buffer): Promise<void> {
    const { bucket, client } = this.s3;
    await client.send(new PutObjectCommand({ Bucket: bucket, Key: `${PREFIX}/${key}`, Body: bytes }));
  }

  /** Starts the program; `dockerHost` and `endpoint` may lead it through a tap. */
  async start({
    args = [],
    dockerHost = this.docker.host,
    endpoint = this.s3.endpoint,
  }: { args?: string[]; dockerHost?: string; endpoint?: string } = {}): Promise<TestProgram> {
    const s3 = ['--s3-endpoint', endpoint, '--s3-path-style'];
    const options = ['--workers', '2', '--registry-port', String(this.docker.registryPort), ...s3, ...args];
    return startProgram(this.#t, {
      args: [...options, this.s3.bucket, PREFIX, this.docker.app],
      env: { ...this.s3.env, DOCKER_HOST: dockerHost },
      stateDir: this.#stateDir,
    });
  }
}

/** Everything is cleared away when the test ends. */
export async function dockerDeployment(t: Cleanup, stateDir: string): Promise<DockerDeployment> {
  const docker = await dockerForTest(t);
  return new DockerDeployment(t, docker, await s3ForTest(t), stateDir);
}
