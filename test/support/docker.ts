import { randomBytes } from 'node:crypto';
import { createWriteStream, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import Docker from 'dockerode';
import { buildBaseImage, deriveImage, finish, hasImage, plainImage } from './image.ts';
import type { Cleanup } from './processes.ts';
import { ImageRegistry } from './registry.ts';

/** `GET /images/get`, which dockerode's types lack. */
type GetImages = (options: { names: string[] }) => Promise<NodeJS.ReadableStream>;

/** What an image of the test application is to differ in. */
export interface AppImageOptions {
  /** Settings of app/server.js, beside VERSION. */
  env?: Record<string, string>;
  /** Further Dockerfile instructions that only change the configuration, such as `EXPOSE 8080/tcp`. */
  changes?: string[];
}

/** A Docker Engine in a test, with an application name that no other test uses. */
export class TestDocker {
  readonly docker: Docker;
  /** As in `DOCKER_HOST`. */
  readonly host: string;
  readonly registryPort: number;
  readonly app: string;

  constructor(host: string, registryPort: number, app: string) {
    this.host = host;
    this.docker = new Docker({ socketPath: host.replace('unix://', '') });
    this.registryPort = registryPort;
    this.app = app;
  }

  /** The name under which the registry knows a version of this test's application. */
  reference(tag: string): string {
    return `localhost:${this.registryPort}/${this.app}:${tag}`;
  }

  /** Makes a version of the application in the engine and resolves to its name; VERSION is the tag. */
  async appImage(tag: string, options: AppImageOptions = {}): Promise<string> {
    const base = await buildBaseImage(this.docker);
    const env = Object.entries({ VERSION: tag, ...options.env }).map(([key, value]) => `ENV ${key}=${value}`);
    await deriveImage(this.docker, base, this.reference(tag), [...env, ...(options.changes ?? [])]);
    return this.reference(tag);
  }

  /** An image with nothing in it but files of random bytes, a layer each: for what can be had with less than an application. */
  async plainImage(reference: string, sizes: number[]): Promise<void> {
    await plainImage(this.docker, reference, sizes);
  }

  async push(reference: string): Promise<void> {
    await finish(await this.docker.getImage(reference).push({ authconfig: { key: 'e30=' } }));
  }

  async hasImage(reference: string): Promise<boolean> {
    return hasImage(this.docker, reference);
  }

  async removeImage(reference: string): Promise<void> {
    await this.docker.getImage(reference).remove({ force: true });
  }

  /** A `docker save` archive of images, as a file. */
  async save(file: string, ...references: string[]): Promise<void> {
    const [only] = references;
    const archive =
      only !== undefined && references.length === 1
        ? await this.docker.getImage(only).get()
        : await (this.docker as unknown as { getImages: GetImages }).getImages({ names: references });
    await pipeline(archive, createWriteStream(file));
  }

  /** Names of this application's containers in any state, without the slash. */
  async containerNames(): Promise<string[]> {
    const all = await this.docker.listContainers({ all: true });
    const names = all.flatMap(({ Names }) => Names.map((name) => name.slice(1)));
    return names.filter((name) => name.startsWith(`${this.app}-`));
  }

  /** Removes everything that carries this application's name. */
  async cleanUp(): Promise<void> {
    await this.removeContainers();
    const images = await this.docker.listImages();
    const tags = images.flatMap(({ RepoTags }) => RepoTags ?? []);
    for (const tag of tags.filter((each) => each.includes(`/${this.app}:`) || each.startsWith(`${this.app}:`))) {
      await this.removeImage(tag);
    }
  }

  /** Removes this application's containers, also those that only have a name like theirs. */
  async removeContainers(): Promise<void> {
    const filters = { label: [`wunderproxy.app=${this.app}`] };
    const labelled = await this.docker.listContainers({ all: true, filters });
    const named = await this.docker.listContainers({ all: true, filters: { name: [`^/${this.app}-`] } });
    const ids = new Set([...labelled, ...named].map(({ Id }) => Id));
    for (const id of ids) await this.docker.getContainer(id).remove({ force: true, v: true });
  }
}

/**
 * The engine that `DOCKER_HOST` names, as the runner sets it; a registry of its own if the runner started none. Whatever
 * the test makes under its application's name is removed when it ends.
 */
export async function dockerForTest(t: Cleanup): Promise<TestDocker> {
  const host = process.env['DOCKER_HOST'] ?? '';
  if (!host.startsWith('unix://')) throw new Error('DOCKER_HOST is to name a Docker Engine: unix:///path');
  const registryPort = Number(process.env['TEST_REGISTRY_PORT'] ?? 0) || (await ownRegistry(t));
  const docker = new TestDocker(host, registryPort, `t${randomBytes(5).toString('hex')}`);
  t.after(async () => {
    await docker.cleanUp();
  });
  return docker;
}

async function ownRegistry(t: Cleanup): Promise<number> {
  const registry = await ImageRegistry.start(mkdtempSync(join(tmpdir(), 'wunderregistry-')));
  t.after(async () => {
    await registry.stop();
  });
  return registry.port;
}
