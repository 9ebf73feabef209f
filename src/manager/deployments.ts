import { messageOf, WunderproxyError } from '../errors.ts';
import { type Container, isOld, routeTarget } from './containers.ts';
import type { Control } from './control.ts';
import type { DeployEvent } from './deploy-counts.ts';
import { Drains } from './drains.ts';
import type { StoredConfig } from './environment.ts';
import { pause, probeFor, probeOnce } from './health.ts';
import { cutAfter, type Deployment, rollbackTarget, withDeployment } from './history.ts';
import { Launcher } from './launcher.ts';
import type { Deploy } from './recent.ts';

/**
 * What was sent to the old container just before a switch may still lie unread in its socket. The switch is answered once
 * that is finished, or has had so long (ms) to be taken up: so that by the container's own log, too, nothing begins there
 * after the answer.
 */
const SETTLE = 1_000;

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
  readonly #launches = new Map<string, Promise<Container>>();
  #lastSwitch: Promise<unknown> = Promise.resolve();
  /** The history as it was last seen. */
  knownHistory: Deployment[] = [];

  constructor(control: Control) {
    this.#control = control;
    this.launcher = new Launcher(control);
    this.drains = new Drains(control);
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
      await this.#oneByOne(async () => this.#keep(container));
      if (container.state === 'active' || container.state === 'ready') return container;
    }
    return null;
  }

  /**
   * Takes a container out of its drain: it is wanted again, and waits for its switch. Only to be called one by one; the
   * drain must not come to its end meanwhile, so it is called off before anything is waited for.
   */
  async #keep(container: Container): Promise<void> {
    if (container.state !== 'draining') return;
    const { containers, runtime, traffic } = this.#control;
    this.drains.rescue(container);
    containers.change(container, 'ready');
    await runtime.mark(container.id, 'launched');
    await traffic.direct(traffic.route.active, traffic.route.activeSince, this.drains.targets());
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
        return this.#switch(container, by, 'switch', (history) => withDeployment(history, deployment));
      });
    });
    return this.#settled(switched);
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
        return this.#switch(container, by, 'rollback', (events) => cutAfter(events, target));
      });
    });
    return this.#settled(switched);
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
    await this.#oneByOne(async () => {
      const { containers, runtime, traffic } = this.#control;
      const previous = containers.active;
      if (previous === container) return;
      await runtime.mark(container.id, 'launched');
      this.#enterService(container);
      if (previous) this.#leaveService(previous);
      this.#note(container, 'adopt', '');
      await traffic.direct(routeTarget(container), container.switchedAt, this.drains.targets());
      if (previous) this.drains.begin(previous, '');
    });
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

  async #switch(
    container: Container,
    by: string,
    event: 'switch' | 'rollback',
    change: (history: Deployment[]) => Deployment[],
  ): Promise<Switched> {
    const { containers, environment, journal, runtime, traffic } = this.#control;
    const about = { By: by, Hash: container.hash, Revision: container.revision, Container: container.id };
    const active = containers.active;
    const previous = active === container ? null : active;
    await this.#keep(container);
    try {
      const info = await runtime.inspect(container.id);
      if (!info?.running || info.address === null) {
        throw new WunderproxyError('not_launched', { message: 'The container no longer runs.' });
      }
      container.address = info.address;
      const bytes = await this.#bytesOf(container);
      // The mark first: whenever the program dies, marks and current.json tell the next start what to do.
      if (previous) await runtime.mark(previous.id, 'superseded');
      try {
        const { history, undo } = await environment.commit(bytes, change);
        if (container !== active && container.state !== 'ready') {
          await undo();
          throw new WunderproxyError('not_launched', { message: 'The container ended as it was switched to.' });
        }
        this.knownHistory = history;
      } catch (error) {
        if (previous) await this.#unmark(previous);
        throw error;
      }
    } catch (error) {
      journal.add({ ...about, Event: 'failure', Outcome: 'failed', Message: `${event}: ${messageOf(error)}` });
      throw error;
    }
    if (container !== active) {
      this.#enterService(container);
      if (previous) this.#leaveService(previous);
      this.#note(container, event, by);
      await traffic.direct(routeTarget(container), container.switchedAt, this.drains.targets());
      if (previous) this.drains.begin(previous, by);
    }
    journal.add({ ...about, Event: event, Outcome: 'ok', Message: previous ? `instead of ${previous.revision}` : '' });
    return { container, previous };
  }

  async #settled(switched: Switched): Promise<Switched> {
    const { previous } = switched;
    if (previous) await this.#control.traffic.whenIdle(previous.id, AbortSignal.timeout(SETTLE));
    return switched;
  }

  #enterService(container: Container): void {
    // First of all: it throws for a container that has failed meanwhile.
    this.#control.containers.change(container, 'active');
    this.drains.rescue(container);
    container.inService = true;
    container.switchedAt = Date.now();
  }

  #note(container: Container, event: Deploy['Event'], by: string): void {
    const { hash, revision, id, switchedAt } = container;
    const at = new Date(switchedAt ?? Date.now()).toISOString();
    this.#control.recent.note({ At: at, Event: event, Revision: revision, Hash: hash, Container: id, By: by });
  }

  #leaveService(container: Container): void {
    const { containers, drainTimeout } = this.#control;
    const since = Date.now();
    container.inService = false;
    container.drain = { since, deadline: since + drainTimeout };
    if (container.state === 'active') containers.change(container, 'draining');
    if (container.state === 'starting') containers.change(container, 'failed', 'it left service before it was back');
  }

  async #unmark(container: Container): Promise<void> {
    try {
      await this.#control.runtime.mark(container.id, 'launched');
    } catch (error) {
      this.#control.log.warn({ err: error }, 'a mark could not be taken back: the next start goes by current.json');
    }
  }

  /** The exact bytes of its launch config; the config in service has a copy of them when its own object is gone. */
  async #bytesOf(container: Container): Promise<Buffer> {
    const { environment } = this.#control;
    try {
      const stored = await environment.launchConfig(container.hash);
      container.config = stored.config;
      return stored.bytes;
    } catch (error) {
      if (!(error instanceof WunderproxyError) || error.code !== 'launch_config_not_found') throw error;
      const current = await environment.current();
      if (current && [current.hash, current.sha256].includes(container.hash)) return current.bytes;
      throw error;
    }
  }

  async #oneByOne<T>(action: () => Promise<T>): Promise<T> {
    const result = this.#lastSwitch.then(action);
    this.#lastSwitch = result.catch(() => {});
    return result;
  }
}

/** What a switch did; `previous` drains. */
export interface Switched {
  container: Container;
  previous: Container | null;
}
