import type { TargetStats } from '../worker-stats.ts';
import { Latency } from './latency.ts';

/** So many containers are told apart; those that were served longest ago are forgotten first. */
const MAX_TALLIES = 32;

/** How often each of a few values occurred. */
export class Counts<T extends string | number> {
  readonly #counts = new Map<T, number>();

  add(value: T): void {
    this.#counts.set(value, (this.#counts.get(value) ?? 0) + 1);
  }

  snapshot(): Record<string, number> {
    return Object.fromEntries(this.#counts);
  }
}

/** What is counted of one container, whatever its address. It outlives the container's targets. */
export class Tally {
  readonly id: string;
  readonly hash: string;
  readonly revision: string;
  /** Final responses to clients, by whoever gave them, to requests that were meant for it. */
  readonly statusCodes = new Counts<number>();
  /** Requests that were written to it and are over. */
  requests = 0;
  /** How long these took it, together. */
  seconds = 0;
  readonly #latency = new Latency();
  readonly #all: Tally | null;

  /** @param all counts the same for all containers */
  constructor(id: string, hash: string, revision: string, all: Tally | null) {
    this.id = id;
    this.hash = hash;
    this.revision = revision;
    this.#all = all;
  }

  /** A request that was written to it is over, after so many ms. */
  finish(elapsed: number): void {
    this.requests++;
    this.seconds += elapsed / 1_000;
    this.#latency.record(elapsed);
    this.#all?.finish(elapsed);
  }

  snapshot(): Omit<TargetStats, 'inFlight' | 'upgraded'> {
    const { id, revision, requests, seconds } = this;
    return {
      id,
      revision,
      requests,
      seconds,
      latency: this.#latency.snapshot(),
      statusCodes: this.statusCodes.snapshot(),
    };
  }
}

/** The tallies of one worker, by container. */
export class Tallies {
  /** All containers together, those that are forgotten too. */
  readonly all = new Tally('', '', '', null);
  /** For what was answered without a container. */
  readonly none = new Tally('', '', '', null);
  readonly #byId = new Map<string, Tally>();

  of({ id, hash, revision }: { id: string; hash: string; revision: string }): Tally {
    const tally = this.#byId.get(id) ?? new Tally(id, hash, revision, this.all);
    // Last in line to be forgotten.
    this.#byId.delete(id);
    this.#byId.set(id, tally);
    for (const oldest of this.#byId.keys()) {
      if (this.#byId.size <= MAX_TALLIES) break;
      this.#byId.delete(oldest);
    }
    return tally;
  }

  [Symbol.iterator](): Iterator<Tally> {
    return [...this.#byId.values(), this.none][Symbol.iterator]();
  }
}
