import type { Route, RouteTarget } from '../messages.ts';
import type { TargetStats } from '../worker-stats.ts';
import type { Sweeper } from './sweeper.ts';
import { Tallies } from './tally.ts';
import { Target } from './target.ts';
import type { UpstreamTimeouts } from './upstream-request.ts';

/**
 * The present route as targets. Exactly one target, or none, takes new requests; the others finish what they have and
 * are let go once nothing runs on them and the route does not name them any more.
 */
export class Router {
  readonly #timeouts: UpstreamTimeouts;
  readonly #sweeper: Sweeper;
  readonly #onDrained: () => void;
  readonly tallies = new Tallies();
  /** By id and address. */
  #targets = new Map<string, Target>();
  #current: Target | null = null;
  /** Keys of the targets that the route names. */
  #named = new Set<string>();

  /** `onDrained` is called when nothing runs any more on a target that had left service. */
  constructor(timeouts: UpstreamTimeouts, sweeper: Sweeper, onDrained: () => void) {
    this.#timeouts = timeouts;
    this.#sweeper = sweeper;
    this.#onDrained = onDrained;
  }

  /** Where new requests go; null when no container is in service. */
  get current(): Target | null {
    return this.#current;
  }

  /**
   * Works by this route from now on. When it returns, no request that was not yet written can reach another container
   * than `route.active`. Returns whether the container in service changed.
   */
  update(route: Route): boolean {
    const before = this.#current;
    this.#named = new Set(route.draining.map((draining) => keyOf(draining.target)));
    if (route.active) this.#named.add(keyOf(route.active));
    this.#current = route.active && this.#targetFor(route.active);
    this.#current?.reinstate();
    for (const target of this.#targets.values()) {
      if (target !== this.#current) target.retire();
    }
    this.#forgetDrained();
    return before?.id !== this.#current?.id;
  }

  /** Breaks off everything that runs on a container, at whatever address. */
  cut(id: string): void {
    for (const target of this.#targets.values()) if (target.id === id) target.cut();
  }

  /** Breaks off everything. */
  cutAll(): void {
    for (const target of this.#targets.values()) target.cut();
  }

  /** One entry for each container: one that has changed its address may have two targets. */
  stats(): TargetStats[] {
    return Array.from(this.tallies, (tally) => {
      const sum = { ...tally.snapshot(), inFlight: 0, upgraded: 0 };
      for (const target of this.#targets.values()) {
        if (target.tally !== tally) continue;
        sum.inFlight += target.inFlight;
        sum.upgraded += target.upgraded;
      }
      return sum;
    });
  }

  #targetFor(route: RouteTarget): Target {
    const key = keyOf(route);
    let target = this.#targets.get(key);
    if (target === undefined) {
      target = new Target(route, this.tallies.of(route), this.#timeouts, this.#sweeper, () => {
        this.#onDrained();
        this.#forgetDrained();
      });
      this.#targets.set(key, target);
    }
    return target;
  }

  #forgetDrained(): void {
    for (const [key, target] of this.#targets) {
      if (target.retired && target.idle && !this.#named.has(key)) this.#targets.delete(key);
    }
  }
}

function keyOf({ id, address }: RouteTarget): string {
  return `${id} ${address.host} ${address.port}`;
}
