import type { Mark } from '../messages.ts';
import type { ConnectionStates, WorkerStats } from '../worker-stats.ts';
import { countsSince, type LatencySummary, type Percentiles, percentiles, summarize } from './latency.ts';
import type { RecentFile } from './recent-file.ts';

/** Ten seconds of traffic. */
export interface RecentSlice {
  /** Its end, ISO 8601. */
  At: string;
  /** How long it is: more than 10 when the manager was away meanwhile. */
  Seconds: number;
  /** Requests that were finished in it; so are the following. */
  Requests: number;
  StatusCodes: Record<string, number>;
  /** By error code. */
  Errors: Record<string, number>;
  /** From a request's first byte to the last byte of its response. */
  Latency: LatencySummary;
  /** The containers' own time. */
  ContainerLatency: Percentiles;
  /** Open client connections at its end. */
  States: ConnectionStates;
}

/** A container came into service. */
export interface Deploy {
  /** ISO 8601. */
  At: string;
  /** `adopt`: by a start, not by anybody's call. */
  Event: 'switch' | 'rollback' | 'adopt';
  Revision: string;
  Hash: string;
  /** The engine's id. */
  Container: string;
  By: string;
}

/** Length of a slice, in ms. */
export const SLICE = 10_000;
/** What is kept, in ms. */
const HOUR = 3_600_000;
const MAX_DEPLOYS = 100;

/**
 * The last hour of traffic in slices of 10 s, and what came into service in it. It stands in a file as well, so that it
 * outlives the manager and the program.
 */
export class Recent {
  #slices: RecentSlice[] = [];
  #deploys: Deploy[] = [];
  #before: Mark;
  readonly #file: RecentFile | null;

  /**
   * @param since where the next slice begins: the end of the last one, or the start of the program
   * @param file where it is kept; what stands there is taken up by `load`
   */
  constructor(since: Mark | number, file: RecentFile | null) {
    this.#before = typeof since === 'number' ? { at: since, totals: NOTHING } : since;
    this.#file = file;
  }

  /** Takes up what the last manager left. Never rejects. */
  async load(now: Date): Promise<void> {
    if (this.#file === null) return;
    const { slices, deploys } = await this.#file.load();
    // One from the future was written before the clock was put right.
    const recent = ({ At }: { At: string }) => Math.abs(now.getTime() - Date.parse(At)) < HOUR;
    this.#slices = [...slices.filter(recent), ...this.#slices].slice(-HOUR / SLICE);
    this.#deploys = [...deploys.filter(recent), ...this.#deploys].slice(-MAX_DEPLOYS);
    this.#file.rewrite({ slices: this.#slices, deploys: this.#deploys });
  }

  /** To be called every SLICE ms with the totals of the moment. Returns where the next slice begins. */
  take(now: Mark['totals'] & Pick<WorkerStats, 'states'>, at: Date): Mark {
    const before = this.#before.totals;
    const slice: RecentSlice = {
      At: at.toISOString(),
      Seconds: Math.max(0.001, (at.getTime() - this.#before.at) / 1_000),
      Requests: now.requests - before.requests,
      StatusCodes: countsSince(now.statusCodes, before.statusCodes),
      Errors: countsSince(now.errors, before.errors),
      Latency: summarize(countsSince(now.latency, before.latency)),
      ContainerLatency: percentiles(countsSince(now.upstream.latency, before.upstream.latency)),
      States: now.states,
    };
    const { requests, statusCodes, errors, latency, upstream } = now;
    this.#before = { at: at.getTime(), totals: { requests, statusCodes, errors, latency, upstream } };
    this.#slices.push(slice);
    if (this.#slices.length > HOUR / SLICE) this.#slices.shift();
    this.#forgetDeploys(at);
    this.#file?.append({ Slice: slice }, () => ({ slices: this.#slices, deploys: this.#deploys }));
    return this.#before;
  }

  /** Something came into service. */
  note(deploy: Deploy): void {
    this.#deploys.push(deploy);
    this.#forgetDeploys(new Date(deploy.At));
    this.#file?.append({ Deploy: deploy }, () => ({ slices: this.#slices, deploys: this.#deploys }));
  }

  #forgetDeploys(now: Date): void {
    const kept = this.#deploys.filter(({ At }) => now.getTime() - Date.parse(At) < HOUR);
    this.#deploys = kept.slice(-MAX_DEPLOYS);
  }

  get slices(): readonly RecentSlice[] {
    return this.#slices;
  }

  get deploys(): readonly Deploy[] {
    return this.#deploys;
  }
}

const NOTHING: Mark['totals'] = {
  requests: 0,
  statusCodes: {},
  errors: {},
  latency: {},
  upstream: { requests: 0, seconds: 0, latency: {} },
};
