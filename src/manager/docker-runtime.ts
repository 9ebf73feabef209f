import { setTimeout as delay } from 'node:timers/promises';
import type { ContainerCreateOptions } from 'dockerode';
import { messageOf, WunderproxyError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { createContainer, openLogs } from './docker-api.ts';
import { DockerClient, EngineRefusal, unlessAborted } from './docker-client.ts';
import { containerInfo, containerName, createBody, LABELS, launchingName, markOf } from './docker-container.ts';
import { ImageSource } from './docker-image.ts';
import { followLogs, readLogs } from './docker-logs.ts';
import { DockerMonitor } from './docker-monitor.ts';
import { imageReference } from './launch-config.ts';
import { launchCancelled, launchFailed, unavailable } from './runtime-errors.ts';
import type { ContainerInfo, ContainerMark, ContainerRuntime, CreateRequest } from './runtime.ts';
import type { ConfigStore } from './store.ts';

/** What calls may take, in ms; an engine that hangs is noticed sooner. */
const LIMITS = { read: 10_000, change: 60_000, logs: 5_000 } as const;
/** What `stop` may take longer than the container is given, in ms. */
const STOP_MARGIN = 15_000;
/** How often, and how many times, a removal that somebody else has begun is looked after. */
const REMOVAL = { interval: 100, tries: 100 } as const;

/** What a DockerRuntime is made of. */
export interface DockerRuntimeOptions {
  app: string;
  /** Name of the store and prefix: containers of another environment are left alone. */
  environment: string;
  registryPort: number;
  /** ConfigStore's. */
  openArtifact: ConfigStore['openArtifact'];
  log: Logger;
  /** As in `DOCKER_HOST`: `unix:///path` or `tcp://host:port`. */
  dockerHost: string;
}

/** Containers of a Docker Engine (API 1.41 and later). */
export class DockerRuntime implements ContainerRuntime {
  readonly kind = 'docker';
  readonly #app: string;
  readonly #environment: string;
  readonly #registryPort: number;
  readonly #log: Logger;
  readonly #client: DockerClient;
  readonly #images: ImageSource;
  #monitor: DockerMonitor | null = null;
  /** Ids of this app's containers that were seen: events of networks name containers by nothing else. */
  readonly #seen = new Set<string>();
  /** Names or ids of containers that nobody waits for: their `create` was broken off. They may not exist. */
  readonly #strays = new Set<string>();
  /** Names given in calls to `create` that the engine did not answer: it may get to them at any time. */
  readonly #unanswered = new Set<string>();

  /** Throws a RangeError when `dockerHost` can't be understood. */
  constructor(options: DockerRuntimeOptions) {
    this.#app = options.app;
    this.#environment = options.environment;
    this.#registryPort = options.registryPort;
    this.#log = options.log;
    this.#client = new DockerClient(options.dockerHost);
    this.#images = new ImageSource(this.#client, options.openArtifact);
  }

  get problem(): string | null {
    return this.#client.problem;
  }

  watch(onChange: (id: string | null) => void): void {
    this.#monitor = new DockerMonitor(this.#client, {
      changed: (id, action, labels) => {
        const unanswered = this.#unanswered.delete(labels['name'] ?? '');
        if (unanswered && action !== 'destroy') return void this.#removeStrays([id]);
        if (labels[LABELS.app] === this.#app) this.#seen.add(id);
        if (this.#seen.has(id)) onChange(id);
        if (action === 'destroy') this.#seen.delete(id);
      },
      connected: () => {
        void this.#removeStrays();
        onChange(null);
      },
    });
    this.#monitor.start();
  }

  close(): void {
    this.#monitor?.close();
  }

  async list(): Promise<ContainerInfo[]> {
    const filters = { label: [`${LABELS.app}=${this.#app}`] };
    const found = await this.#read((abortSignal) =>
      this.#client.docker.listContainers({ all: true, filters, abortSignal }),
    );
    const containers = await Promise.all((found ?? []).map(async ({ Id }) => this.inspect(Id)));
    return containers.filter((container) => container !== null);
  }

  async inspect(id: string): Promise<ContainerInfo | null> {
    const found = await this.#read((abortSignal) => this.#client.docker.getContainer(id).inspect({ abortSignal }));
    const info = found && containerInfo(this.#app, this.#environment, found);
    if (info) this.#seen.add(info.id);
    else this.#seen.delete(id);
    return info;
  }

  async create(request: CreateRequest): Promise<string> {
    const { config, signal, onProgress } = request;
    const image = imageReference(config, this.#app, this.#registryPort);
    try {
      const exposed = await this.#images.ensure(image, {
        reload: config.ForceReload === true,
        artifact: config.ImageArtifact ?? null,
        signal,
        onProgress: (text) => onProgress(text, 'image'),
      });
      signal.throwIfAborted();
      onProgress('creating the container', 'create');
      await this.#removeStrays();
      const id = await this.#create(createBody(this.#app, this.#environment, image, exposed, request), config.Revision);
      if (!signal.aborted) return id;
      this.#strays.add(id);
      await this.#removeStrays();
      throw launchCancelled(signal);
    } catch (error) {
      throw signal.aborted ? launchCancelled(signal) : error;
    }
  }

  async start(id: string): Promise<void> {
    try {
      await this.#change((abortSignal) => this.#client.docker.getContainer(id).start({ abortSignal }));
    } catch (error) {
      if (!(error instanceof EngineRefusal)) throw error;
      if (error.status === 304) return;
      throw launchFailed(`The container can not be started: ${error.message}`);
    }
  }

  async mark(id: string, mark: ContainerMark): Promise<void> {
    const container = this.#client.docker.getContainer(id);
    const found = await this.#read((abortSignal) => container.inspect({ abortSignal }));
    if (!found || markOf(found.Name) === mark) return;
    const revision = found.Config.Labels[LABELS.revision] ?? '';
    const name = containerName(this.#app, revision, found.Id, mark);
    try {
      await this.#change((abortSignal) => container.rename({ name, abortSignal }));
    } catch (error) {
      if (!(error instanceof EngineRefusal)) throw error;
      if (error.status !== 404) throw launchFailed(`The container can not be named ${name}: ${error.message}`);
    }
  }

  async logs(id: string, lines: number): Promise<string[]> {
    const container = this.#client.docker.getContainer(id);
    try {
      return await this.#client.call(LIMITS.logs, async (abortSignal) => {
        const { Tty } = (await container.inspect({ abortSignal })).Config;
        return readLogs(await openLogs(this.#client.docker, id, { lines, follow: false }, abortSignal), Tty, lines);
      });
    } catch (error) {
      this.#log.debug({ err: error, container: id }, 'no logs of the container');
      return [];
    }
  }

  async *follow(id: string, lines: number, signal: AbortSignal): AsyncGenerator<string> {
    const { docker } = this.#client;
    const found = await this.#read((abortSignal) => docker.getContainer(id).inspect({ abortSignal }));
    if (found === null) return;
    try {
      const stream = await unlessAborted(signal, openLogs(docker, id, { lines, follow: true }, signal));
      yield* followLogs(stream, found.Config.Tty);
    } catch (error) {
      // Broken off by whoever follows, or by an engine that ends: there is no more to come in either case.
      this.#log.debug({ err: error, container: id }, 'the log of a container is followed no more');
    }
  }

  async stop(id: string, timeoutMs: number): Promise<void> {
    const t = Math.ceil(timeoutMs / 1_000);
    try {
      await this.#client.call(t * 1_000 + STOP_MARGIN, (abortSignal) =>
        this.#client.docker.getContainer(id).stop({ t, abortSignal }),
      );
    } catch (error) {
      if (!(error instanceof EngineRefusal)) throw error;
      if (error.status !== 304 && error.status !== 404) {
        throw unavailable(`Docker can not stop the container: ${error.message}`);
      }
    }
  }

  async remove(id: string): Promise<void> {
    const container = this.#client.docker.getContainer(id);
    for (let tries = 0; tries < REMOVAL.tries; tries++) {
      try {
        await this.#change((abortSignal) => container.remove({ force: true, v: true, abortSignal }));
        return;
      } catch (error) {
        if (!(error instanceof EngineRefusal)) throw error;
        if (error.status === 404) return;
        // 409: somebody else's removal (or that of HostConfig.AutoRemove) is under way.
        if (error.status !== 409) throw unavailable(`Docker can not remove the container: ${error.message}`);
      }
      await delay(REMOVAL.interval);
    }
    throw unavailable('Docker can not remove the container: its removal does not end.');
  }

  async #create(body: ContainerCreateOptions, revision: string): Promise<string> {
    const name = launchingName(this.#app, revision);
    try {
      // Not to be aborted: the engine would finish it all the same, and nobody would know of the container.
      const id = await this.#change(() => createContainer(this.#client.docker, name, body));
      this.#seen.add(id);
      return id;
    } catch (error) {
      if (!(error instanceof EngineRefusal)) {
        // It may be there now, or when the engine is back, or later: then its event tells.
        this.#unanswered.add(name);
        await this.#removeStrays([name]);
        throw error;
      }
      const words = withoutValues(error.message, body.Env ?? []);
      if (/no such image/i.test(words)) throw new WunderproxyError('image_unavailable', { message: words });
      throw launchFailed(`The container can not be created: ${words}`);
    }
  }

  /** Clears away what calls to `create` left that nobody got an answer to. What can't be removed is tried again later. */
  async #removeStrays(names: Iterable<string> = []): Promise<void> {
    for (const name of names) this.#strays.add(name);
    for (const name of this.#strays) {
      try {
        await this.remove(name);
        this.#strays.delete(name);
      } catch (error) {
        this.#log.warn(
          { why: messageOf(error), container: name },
          'a container that nobody waits for is not removed yet',
        );
      }
    }
  }

  /** Null when the engine says that there is no such thing. */
  async #read<T>(run: (abortSignal: AbortSignal) => Promise<T>): Promise<T | null> {
    try {
      return await this.#client.call(LIMITS.read, run);
    } catch (error) {
      if (!(error instanceof EngineRefusal)) throw error;
      if (error.status === 404) return null;
      throw unavailable(`Docker answers ${error.status}: ${error.message}`);
    }
  }

  async #change<T>(run: (abortSignal: AbortSignal) => Promise<T>): Promise<T> {
    return this.#client.call(LIMITS.change, run);
  }
}

/** Docker quotes what it does not like, which may be a variable with a secret in it. */
function withoutValues(text: string, environment: string[]): string {
  const words = text.replace(/(invalid environment variable: ).*/, '$1…');
  return environment.reduce((rest, line) => {
    const value = line.slice(line.indexOf('=') + 1);
    return value.length < 4 ? rest : rest.replaceAll(value, '…');
  }, words);
}
