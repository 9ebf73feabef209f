import { WunderproxyError } from '../errors.ts';
import { type Container, isOld } from './containers.ts';
import type { Control } from './control.ts';
import type { DeployEvent } from './deploy-counts.ts';
import { Drains } from './drains.ts';
import type { StoredConfig } from './environment.ts';
import { pause, probeFor, probeOnce } from './health.ts';
import { cutAfter, rollbackTarget, withDeployment } from './history.ts';
import { Launcher } from './launcher.ts';
import { type Switched, Switchover } from './switchover.ts';

/** What is asked for right after a start waits so long (ms) until it is known what runs. */
const START_PATIENCE = 10_000;

/**
 * What operators ask for: launch, switch, roll back, stop old.
 *
 * Switches go one after the other; launches side by side, but a second launch of a hash joins the first.
 */
export class Deployments {
  readonly #control: Control;
  readonly launcher: Launcher;
  readonly drains: Drains;
  readonly #switchover: Switchover;
  readonly #launches = new Map<string, Promise<Container>>();
  #lastSwitch: Promise<unknown> = Promise.resolve();

  constructor(control: Control) {
    this.#control = control;
    this.launcher = new Launcher(control);
    this.drains = new Drains(control);
    this.#switchover = new Switchover(control, this.drains);
  }

  /**
   * A healthy container of this config: one that runs, or a new one.
   * Throws `launch_config_not_found`, `hash_mismatch`, `invalid_launch_config`, `store_unavailable` and what
   * Launcher.launch throws.
   */
  async launch(hash: string, by: string): Promise<Container> {
    return this.#joined(hash, async () => this.#launchNow(await this.#configOf(hash), by));
  }

  /** As `launch`, with a config that has been read already; a container that runs is taken as it is. */
  async launchStored(stored: StoredConfig, by: string): Promise<Container> {
    return this.#joined(stored.hash, async () => {
      return (await this.#healthy(stored)) ?? (await this.launcher.launch(stored, by));
    });
  }

  /**
   * A manager that has just taken the place of another knows of no container yet: it would launch once more what runs
   * already, and refuse to switch to it. Throws `runtime_unavailable`.
   */
  async #whenComplete(): Promise<void> {
    const { containers, runtime, stopping } = this.#control;
    if (containers.complete) return;
    if (runtime.problem === null) await Promise.race([containers.whenComplete(), pause(START_PATIENCE, stopping)]);
    if (!containers.complete) {
      throw new WunderproxyError('runtime_unavailable', {
        message: runtime.problem ?? 'It is not known yet what runs.',
      });
    }
  }

  /** A launch that does not get as far as its config has failed, too. */
  async #configOf(hash: string): Promise<StoredConfig> {
    const { counts, environment } = this.#control;
    try {
      await this.#whenComplete();
      return await environment.launchConfig(hash);
    } catch (error) {
      counts.addFailure('launch', error);
      throw error;
    }
  }

  async #joined(hash: string, launch: () => Promise<Container>): Promise<Container> {
    const running = this.#launches.get(hash);
    if (running) return running;
    const started = launch().finally(() => this.#launches.delete(hash));
    this.#launches.set(hash, started);
    return started;
  }

  async #launchNow(stored: StoredConfig, by: string): Promise<Container> {
    if (stored.config.ForceReload !== true) {
      const running = await this.#healthy(stored);
      if (running) return running;
    }
    const superseded = this.#control.containers.find(stored.hash, 'ready', 'failed');
    const container = await this.launcher.launch(stored, by);
    // Launched anew, it takes the place of those that wait or failed; one in service stays until it is switched away from.
    await this.#oneByOne(async () => {
      for (const old of superseded) if (isOld(old)) await this.drains.stop(old, by, 'it was launched anew');
    });
    return container;
  }

  /** A container of this config that answers its health check now. */
  async #healthy(stored: StoredConfig): Promise<Container | null> {
    const { app, containers } = this.#control;
    for (const container of containers.find(stored.hash, 'active', 'ready', 'draining')) {
      if (container.address === null) continue;
      container.config ??= stored.config;
      if ((await probeOnce(container.address, probeFor(stored.config, app))) !== null) continue;
      await this.#oneByOne(async () => this.#switchover.keep(container));
      if (container.state === 'active' || container.state === 'ready') return container;
    }
    return null;
  }

  /**
   * All new requests go to the container with this hash. Resolves once every worker works by it; the one before drains.
   * Throws `not_launched`, `runtime_unavailable`, `store_unavailable`: then nothing was switched.
   */
  async switchTo(hash: string, by: string): Promise<Switched> {
    const switched = await this.#counted('switch', async () => {
      await this.#whenComplete();
      return this.#oneByOne(async () => {
        const container = this.#switchable(hash);
        const deployment = {
          Revision: container.revision,
          DeployedAt: new Date().toISOString(),
          DeployedBy: by,
          Hash: hash,
        };
        return this.#switchover.commit(container, by, 'switch', (history) => withDeployment(history, deployment));
      });
    });
    return this.#switchover.settle(switched);
  }

  /**
   * Back to the deployment before the one in service, or to the last one with this hash; the history is cut after it.
   * Throws `empty_history`, `not_in_history` and what `launch` and `switchTo` throw.
   */
  async rollback(hash: string | null, by: string): Promise<Switched> {
    const switched = await this.#counted('rollback', async () => {
      await this.#whenComplete();
      const history = await this.#control.environment.history();
      const target = rollbackTarget(history, this.#control.containers.active?.hash ?? null, hash).Hash;
      await this.launch(target, by);
      return this.#oneByOne(async () => {
        const container = this.#switchable(target);
        return this.#switchover.commit(container, by, 'rollback', (events) => cutAfter(events, target));
      });
    });
    return this.#switchover.settle(switched);
  }

  /** Counts how it went, whatever it failed at. */
  async #counted<T>(event: DeployEvent, act: () => Promise<T>): Promise<T> {
    const { counts } = this.#control;
    try {
      const done = await act();
      counts.add(event, 'ok');
      return done;
    } catch (error) {
      counts.addFailure(event, error);
      throw error;
    }
  }

  /**
   * Stops and removes every container of the app that is neither in service nor draining nor being launched; with a hash,
   * only those that have it.
   */
  async stopOld(by: string, hash: string | null = null): Promise<Container[]> {
    await this.#whenComplete();
    return this.#oneByOne(async () => {
      const { containers } = this.#control;
      const old = containers.all().filter((each) => isOld(each) && (hash === null || each.hash === hash));
      const results = await Promise.allSettled(old.map(async (each) => this.drains.stop(each, by, 'stop-old')));
      const failed = results.find((result) => result.status === 'rejected');
      if (failed) throw failed.reason;
      return old;
    });
  }

  /**
   * Puts a container into service without the store: what a start finds, or what a crash kept a switch from doing.
   * The container must run.
   */
  async adopt(container: Container): Promise<void> {
    await this.#oneByOne(async () => this.#switchover.adopt(container));
  }

  /** Resolves when no launch, switch or drain runs. Never rejects. */
  async whenQuiet(): Promise<void> {
    await Promise.allSettled(this.#launches.values());
    await this.#lastSwitch;
    await this.drains.whenAllGone();
  }

  /** The newest container with this hash that can take traffic. Throws `not_launched`. */
  #switchable(hash: string): Container {
    const { containers } = this.#control;
    const [container] = [
      ...containers.find(hash, 'ready'),
      ...containers.find(hash, 'active'),
      ...containers.find(hash, 'draining'),
    ];
    if (!container) throw new WunderproxyError('not_launched');
    return container;
  }

  async #oneByOne<T>(action: () => Promise<T>): Promise<T> {
    const result = this.#lastSwitch.then(action);
    this.#lastSwitch = result.catch(() => {});
    return result;
  }
}
