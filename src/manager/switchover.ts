import { messageOf, WunderproxyError } from '../errors.ts';
import { type Container, routeTarget } from './containers.ts';
import type { Control } from './control.ts';
import type { Drains } from './drains.ts';
import type { Deployment } from './history.ts';
import type { Deploy } from './recent.ts';

/**
 * What was sent to the old container just before a switch may still lie unread in its socket. The switch is answered once
 * that is finished, or has had so long (ms) to be taken up: so that by the container's own log, too, nothing begins there
 * after the answer.
 */
const SETTLE = 1_000;

/** What a switch did; `previous` drains. */
export interface Switched {
  container: Container;
  previous: Container | null;
}

/** How a container comes into service, and the one before out of it. Nothing of this may run side by side. */
export class Switchover {
  readonly #control: Control;
  readonly #drains: Drains;

  constructor(control: Control, drains: Drains) {
    this.#control = control;
    this.#drains = drains;
  }

  /**
   * Takes a container out of its drain: it is wanted again, and waits for its switch. The drain must not come to its end
   * meanwhile, so it is called off before anything is waited for.
   */
  async keep(container: Container): Promise<void> {
    if (container.state !== 'draining') return;
    const { containers, runtime, traffic } = this.#control;
    this.#drains.rescue(container);
    containers.change(container, 'ready');
    await runtime.mark(container.id, 'launched');
    await traffic.direct(traffic.route.active, traffic.route.activeSince, this.#drains.targets());
  }

  /**
   * Puts a container into service, first in the store, then in the workers. The one before drains.
   * Throws `not_launched`, `runtime_unavailable`, `store_unavailable`: then nothing was switched.
   */
  async commit(
    container: Container,
    by: string,
    event: 'switch' | 'rollback',
    change: (history: Deployment[]) => Deployment[],
  ): Promise<Switched> {
    const { containers, environment, journal, runtime } = this.#control;
    const about = { By: by, Hash: container.hash, Revision: container.revision, Container: container.id };
    const active = containers.active;
    const previous = active === container ? null : active;
    await this.keep(container);
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
        const { undo } = await environment.commit(bytes, change);
        if (container !== active && container.state !== 'ready') {
          await undo();
          throw new WunderproxyError('not_launched', { message: 'The container ended as it was switched to.' });
        }
      } catch (error) {
        if (previous) await this.#unmark(previous);
        throw error;
      }
    } catch (error) {
      journal.add({ ...about, Event: 'failure', Outcome: 'failed', Message: `${event}: ${messageOf(error)}` });
      throw error;
    }
    let message = previous ? `instead of ${previous.revision}` : '';
    if (container === active) message = 'it was in service already';
    else await this.#replace(previous, container, event, by);
    journal.add({ ...about, Event: event, Outcome: 'ok', Message: message });
    return { container, previous };
  }

  /** Puts a container that runs into service without the store. */
  async adopt(container: Container): Promise<void> {
    const { containers, runtime } = this.#control;
    const previous = containers.active;
    if (previous === container) return;
    await runtime.mark(container.id, 'launched');
    await this.#replace(previous, container, 'adopt', '');
  }

  /** All new requests go to `container`. Resolves once every worker works by it; the one before drains. */
  async #replace(previous: Container | null, container: Container, event: Deploy['Event'], by: string): Promise<void> {
    this.#enterService(container);
    if (previous) this.#leaveService(previous);
    this.#note(container, event, by);
    await this.#control.traffic.direct(routeTarget(container), container.switchedAt, this.#drains.targets());
    if (previous) this.#drains.begin(previous, by);
  }

  /** Resolves with it once nothing begins on the old container any more, as far as can be seen from outside of it. */
  async settle(switched: Switched): Promise<Switched> {
    const { previous } = switched;
    if (previous) await this.#control.traffic.whenIdle(previous.id, AbortSignal.timeout(SETTLE));
    return switched;
  }

  #enterService(container: Container): void {
    // First of all: it throws for a container that has failed meanwhile.
    this.#control.containers.change(container, 'active');
    this.#drains.rescue(container);
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
      if (current && current.hashes.includes(container.hash)) return current.bytes;
      throw error;
    }
  }
}
