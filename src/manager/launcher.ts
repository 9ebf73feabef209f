import { messageOf, WunderproxyError } from '../errors.ts';
import { type Container, shortId } from './containers.ts';
import type { Control } from './control.ts';
import type { StoredConfig } from './environment.ts';
import { probeFor, ProbeLog, type ProbeResult, probeUntilHealthy } from './health.ts';
import { exitInWords } from './runtime.ts';

/** How many of its last log lines a container that failed leaves behind. */
const LOG_LINES = 50;

/** How often (ms) the engine is asked whether a container that is being probed still runs. */
const ALIVE_INTERVAL = 500;

/** A container that is being launched. */
export interface Launch {
  hash: string;
  revision: string;
  by: string;
  /** Ms since the epoch. */
  startedAt: number;
  phase: 'image' | 'create' | 'start' | 'health';
  /** What goes on, for people. */
  step: string;
  /** What the health check has answered so far, until it is healthy. */
  probes: readonly ProbeResult[];
}

/** Brings a config to a healthy container, or to an error with nothing left behind. */
export class Launcher {
  readonly #control: Control;
  readonly running = new Map<string, Launch>();

  constructor(control: Control) {
    this.#control = control;
  }

  /**
   * Image → create → start → healthy. Resolves to a container in state `ready`.
   * Throws `image_unavailable`, `launch_failed`, `not_healthy`, `runtime_unavailable`, `shutting_down`; then neither the
   * container nor its name is left.
   */
  async launch(stored: StoredConfig, by: string): Promise<Container> {
    const { counts, journal, log, stopping } = this.#control;
    const { hash, config } = stored;
    const launch: Launch = {
      hash,
      revision: config.Revision,
      by,
      startedAt: Date.now(),
      phase: 'image',
      step: 'getting the image',
      probes: [],
    };
    const about = { By: by, Hash: hash, Revision: config.Revision };
    this.running.set(hash, launch);
    let id: string | null = null;
    try {
      id = await this.#control.runtime.create({
        hash,
        config,
        environment: this.#control.environmentForContainers(),
        signal: stopping,
        onProgress: (text, phase) => {
          launch.step = text;
          launch.phase = phase;
          log.info({ hash, revision: config.Revision }, text);
        },
      });
      const container = await this.#bringUp(id, stored, launch);
      counts.add('launch', 'ok');
      journal.add({ ...about, Event: 'launch', Container: id, Outcome: 'ok', Message: 'healthy' });
      return container;
    } catch (error) {
      const reason = stopping.aborted ? new WunderproxyError('shutting_down', { cause: error }) : error;
      counts.addFailure('launch', reason);
      const detail = reason instanceof WunderproxyError ? reason.detail : undefined;
      journal.add({
        ...about,
        Event: 'failure',
        Container: id ?? '',
        Outcome: 'failed',
        Message: `launch: ${messageOf(reason)}`,
        Detail: detail,
      });
      if (id !== null) await this.#discard(id);
      throw reason;
    } finally {
      this.running.delete(hash);
    }
  }

  async #bringUp(id: string, stored: StoredConfig, launch: Launch): Promise<Container> {
    const { containers, runtime } = this.#control;
    launch.phase = 'start';
    launch.step = 'starting the container';
    await runtime.start(id);
    const info = await runtime.inspect(id);
    if (info === null)
      throw new WunderproxyError('launch_failed', { message: 'The container vanished as it started.' });
    const container = containers.add(info, 'starting', stored.config);
    launch.phase = 'health';
    launch.step = 'waiting until it is healthy';
    await this.#untilHealthy(container, stored, launch);
    await runtime.mark(id, 'launched');
    containers.change(container, 'ready');
    return container;
  }

  /** Throws `not_healthy` as soon as the container exits, whatever its restart policy, or after the launch timeout. */
  async #untilHealthy(container: Container, { config }: StoredConfig, launch: Launch): Promise<void> {
    const { app, launchTimeout, stopping } = this.#control;
    const probes = new ProbeLog();
    launch.probes = probes.results;
    const exited = new AbortController();
    const timedOut = AbortSignal.timeout(launchTimeout);
    const watch = setInterval(() => void this.#checkAlive(container, exited), ALIVE_INTERVAL);
    try {
      const give = AbortSignal.any([timedOut, exited.signal, stopping]);
      if (await probeUntilHealthy(() => container.address, probeFor(config, app), probes, give)) return;
    } finally {
      clearInterval(watch);
    }
    const seconds = launchTimeout / 1_000;
    const why = exited.signal.aborted ? String(exited.signal.reason) : `was not healthy within ${seconds}s`;
    throw new WunderproxyError('not_healthy', {
      message: `The container ${why}; ${config.HealthCheckPath} answered: ${probes.toString()}.`,
      detail: { Probes: probes.results, Logs: await this.#control.runtime.logs(container.id, LOG_LINES) },
    });
  }

  async #checkAlive(container: Container, exited: AbortController): Promise<void> {
    try {
      const info = await this.#control.runtime.inspect(container.id);
      if (info?.running && info.startedAt === container.startedAt) container.address = info.address;
      else if (info?.running) exited.abort('exited, and its restart policy started it again');
      else if (info === null) exited.abort('was removed by somebody else');
      else if (info.lastExit !== null) exited.abort(exitInWords(info.lastExit));
    } catch {
      // An engine that does not answer says nothing about the container; probes and the timeout decide.
    }
  }

  async #discard(id: string): Promise<void> {
    const { containers, runtime, log } = this.#control;
    const container = containers.get(id);
    try {
      await runtime.remove(id);
    } catch (error) {
      // Its mark says `launching`, so it is removed when the engine is back, or by the next start.
      log.error({ err: error, container: shortId(id) }, 'a container that failed to launch could not be removed yet');
    }
    if (container) containers.forget(container);
  }
}
