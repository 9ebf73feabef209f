import { describeError, messageOf, WunderproxyError } from '../errors.ts';
import { type Container, isOld } from './containers.ts';
import type { Control } from './control.ts';
import type { Deployments } from './deployments.ts';
import type { CurrentConfig } from './environment.ts';
import { pause, probeFor, probeOnce } from './health.ts';
import type { ContainerInfo } from './runtime.ts';

/**
 * A start that could not do its work tries again after so long (ms), doubling up to the longest; while store or engine
 * can't be reached, up to a shorter one.
 */
const RETRY = { first: 1_000, longest: 60_000, unreachable: 5_000 };

/**
 * What a start does with what it finds: the workers' route (when only the manager was restarted), the engine's containers
 * and `current.json`.
 */
export class Adoption {
  readonly #control: Control;
  readonly #deployments: Deployments;
  readonly #superseded: Container[] = [];
  #hurry = new AbortController();

  constructor(control: Control, deployments: Deployments) {
    this.#control = control;
    this.#deployments = deployments;
  }

  /**
   * Takes up what runs. The workers get their route as soon as it is known what can serve at once; a container that must
   * be launched first is launched in the background. Tries again until it has succeeded or somebody has switched.
   * Never rejects.
   */
  async run(): Promise<void> {
    const { containers, log, stopping, traffic } = this.#control;
    let seen = false;
    for (let wait: number = RETRY.first; !stopping.aborted; wait *= 2) {
      try {
        if (!seen) await this.#takeUpContainers();
        seen = true;
        containers.markComplete();
        await this.#serveCurrent();
        containers.startProblem = null;
        this.#stopSuperseded();
        return;
      } catch (error) {
        const unreachable = isUnreachable(error);
        wait = Math.min(wait, unreachable ? RETRY.unreachable : RETRY.longest);
        // A store or an engine that is out of reach is told as such.
        containers.startProblem = unreachable ? null : messageOf(error);
        log.error({ err: error, retryInMs: wait }, 'the config in service could not be taken up');
      }
      traffic.confirm();
      this.#hurry = new AbortController();
      await pause(wait, AbortSignal.any([stopping, this.#hurry.signal]));
      if (containers.active?.state === 'active') break;
    }
    containers.startProblem = null;
    this.#stopSuperseded();
  }

  /** The engine is there again: what waits for it need wait no longer. */
  hurry(): void {
    this.#hurry.abort();
  }

  async #takeUpContainers(): Promise<void> {
    const { traffic, runtime, containers } = this.#control;
    const { active, activeSince } = traffic.route;
    const found = (await runtime.list()).toSorted((a, b) => (a.startedAt ?? '').localeCompare(b.startedAt ?? ''));
    for (const info of found) this.#takeUp(info);
    const inService = active === null ? null : containers.get(active.id);
    if (inService) {
      inService.inService = true;
      inService.switchedAt = activeSince;
    }
    const moved =
      inService?.address?.host !== active?.address.host || inService?.address?.port !== active?.address.port;
    if (active !== null && (inService?.state !== 'active' || moved)) {
      const target =
        inService?.state === 'active' && inService.address ? { ...active, address: inService.address } : null;
      await traffic.direct(target, activeSince, this.#deployments.drains.targets());
    }
  }

  #takeUp(info: ContainerInfo): void {
    const { containers, traffic } = this.#control;
    const { active, draining } = traffic.route;
    const drain = draining.find((each) => each.target.id === info.id);
    if (info.id === active?.id) {
      containers.add(info, info.running ? 'active' : 'failed');
    } else if (drain) {
      const container = containers.add(info, 'draining');
      container.drain = { since: drain.since, deadline: drain.deadline };
      this.#deployments.drains.begin(container, '');
    } else if (info.mark !== 'launching') {
      // Else its launch was cut short; `Recovery.look` removes it, which must not keep anything from being served.
      const container = containers.add(info, info.running ? 'ready' : 'failed');
      if (info.mark === 'superseded') this.#superseded.push(container);
    }
  }

  /** Sees to it that the config in `current.json` is in service, unless this program has been serving another all along. */
  async #serveCurrent(): Promise<void> {
    const { containers, environment, traffic, runtime } = this.#control;
    const { active } = containers;
    if (active) {
      traffic.confirm();
      // A switch that was cut short after its store write has this mark on the container it switches away from.
      const info = await runtime.inspect(active.id);
      if (info?.mark !== 'superseded') return;
    }
    const current = await environment.current();
    const next = current && (await this.#running(current));
    if (active && (next === null || next === active)) return runtime.mark(active.id, 'launched');
    if (next) return this.#deployments.adopt(next);
    traffic.confirm();
    if (current) await this.#launch(current);
  }

  /** A healthy container of this config. */
  async #running(current: CurrentConfig): Promise<Container | null> {
    const { app, containers } = this.#control;
    const probe = probeFor(current.config, app);
    for (const hash of current.hashes) {
      for (const container of containers.find(hash, 'active', 'ready')) {
        container.config = current.config;
        if (container.address && (await probeOnce(container.address, probe)) === null) return container;
      }
    }
    return null;
  }

  async #launch(current: CurrentConfig): Promise<void> {
    const { containers } = this.#control;
    // Those that have died, or do not answer: the new one takes their place.
    const unhealthy = current.hashes.flatMap((hash) => containers.find(hash, 'ready', 'failed'));
    const container = await this.#deployments.launchStored(current, '');
    if (containers.active !== null) return;
    await this.#deployments.adopt(container);
    this.#superseded.push(...unhealthy.filter((each) => each !== container));
  }

  #stopSuperseded(): void {
    for (const container of this.#superseded.splice(0)) {
      if (isOld(container)) this.#deployments.drains.beginLeftOver(container);
    }
  }
}

function isUnreachable(error: unknown): boolean {
  return error instanceof WunderproxyError && describeError(error.code).retryable;
}
