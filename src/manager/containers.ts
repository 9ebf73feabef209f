import type { Logger } from '../log.ts';
import type { Address, RouteTarget } from '../messages.ts';
import { type ContainerState, mayBecome } from './container-state.ts';
import type { LaunchConfig } from './launch-config.ts';
import type { ContainerInfo } from './runtime.ts';

/** A container of the app as the manager knows it. Only `Containers.change` sets its state. */
export interface Container {
  readonly id: string;
  readonly hash: string;
  readonly revision: string;
  readonly image: string;
  /** Null while it listens nowhere. */
  address: Address | null;
  readonly state: ContainerState;
  /** ISO 8601, when the engine last started it. */
  startedAt: string | null;
  /** Whether new requests are meant for it; true of one container at the most. */
  inService: boolean;
  /** Ms since the epoch, when it last came into service here. */
  switchedAt: number | null;
  /** Null until somebody needed it: a container that was found running was launched by an earlier manager. */
  config: LaunchConfig | null;
  drain: { since: number; deadline: number } | null;
  /** Why it failed. */
  failure: string | null;
}

/** So many containers that are gone are remembered. */
const MAX_GONE = 32;

/** The containers of the app, by the engine's id, in the order in which they became known. */
export class Containers {
  readonly #byId = new Map<string, Container>();
  /** When containers went, by `performance.now()`. */
  readonly #gone = new Map<string, number>();
  readonly #log: Logger;
  readonly #complete = Promise.withResolvers<void>();
  /** Whether what a start found running is among them: until then it is not known what there is. */
  complete = false;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Why the config that the store names could not be brought into service by a start, which goes on trying. */
  startProblem: string | null = null;

  /** All that runs has been added. */
  markComplete(): void {
    this.complete = true;
    this.#complete.resolve();
  }

  /** Resolves once they are complete. */
  async whenComplete(): Promise<void> {
    return this.#complete.promise;
  }

  all(): Container[] {
    return [...this.#byId.values()];
  }

  get(id: string): Container | null {
    return this.#byId.get(id) ?? null;
  }

  /** The one in service, whatever its state. */
  get active(): Container | null {
    return this.all().find((container) => container.inService) ?? null;
  }

  /** Those with this hash in any of these states, newest first. */
  find(hash: string, ...states: ContainerState[]): Container[] {
    return this.all()
      .filter((container) => container.hash === hash && states.includes(container.state))
      .toReversed();
  }

  add(info: ContainerInfo, state: ContainerState, config: LaunchConfig | null = null): Container {
    const container: Container = {
      id: info.id,
      hash: info.hash,
      revision: info.revision,
      image: info.image,
      address: info.address,
      state,
      startedAt: info.startedAt,
      inService: false,
      switchedAt: null,
      config,
      drain: null,
      failure: null,
    };
    this.#byId.set(info.id, container);
    this.#log.info({ container: shortId(info.id), hash: info.hash, revision: info.revision, state }, 'container found');
    return container;
  }

  /** The one place where a container's state changes. Throws an Error for a change that the table does not know. */
  change(container: Container, to: ContainerState, why?: string): void {
    const from = container.state;
    if (from === to) {
      // One that has failed may turn out to be gone as well.
      if (to === 'failed' && why !== undefined) container.failure = why;
      return;
    }
    if (!mayBecome(from, to)) throw new Error(`container ${shortId(container.id)} can not go from ${from} to ${to}`);
    (container as { state: ContainerState }).state = to;
    container.failure = to === 'failed' ? (why ?? null) : null;
    const about = { container: shortId(container.id), revision: container.revision, from, to, ...(why ? { why } : {}) };
    this.#log[to === 'failed' ? 'warn' : 'info'](about, 'container state');
  }

  /** Whether it is there, or was there so many ms ago. */
  wasThere(id: string, ms: number): boolean {
    return this.#byId.has(id) || performance.now() - (this.#gone.get(id) ?? -Infinity) <= ms;
  }

  /** It is gone from the engine. */
  forget(container: Container): void {
    this.#byId.delete(container.id);
    this.#gone.set(container.id, performance.now());
    for (const oldest of this.#gone.keys()) {
      if (this.#gone.size <= MAX_GONE) break;
      this.#gone.delete(oldest);
    }
  }
}

/** As people and text answers name a container. */
export function shortId(id: string): string {
  return id.slice(0, 8);
}

/** The container as workers are told of it, or null while it listens nowhere. */
export function routeTarget(container: Container): RouteTarget | null {
  const { id, hash, revision, address } = container;
  return address === null ? null : { id, hash, revision, address };
}

/** Whether it is neither in service, nor on the way there, nor draining. */
export function isOld(container: Container): boolean {
  return !container.inService && container.drain === null && ['ready', 'failed'].includes(container.state);
}
