import type {
  DrainingTarget,
  FromManager,
  LatencyCounts,
  Route,
  RouteTarget,
  WorkerInfo,
  WorkerStats,
} from '../messages.ts';
import { addCounts } from './latency.ts';

/** What all workers together have to do with one container. */
export interface TargetCounts {
  inFlight: number;
  upgraded: number;
  requests: number;
  latency: LatencyCounts;
}

/** Totals over all workers, dead ones included as far as their last report went. */
export type TrafficTotals = Omit<WorkerStats, 'targets'>;

const NOTHING: TrafficTotals = {
  states: { new: 0, active: 0, idle: 0, hijacked: 0 },
  connectionsAccepted: 0,
  connectionsClosed: 0,
  requests: 0,
  statusCodes: {},
  latency: {},
  sinceSwitch: { requests: 0, seconds: 0 },
  buffers: { memoryBytes: 0, spoolBytes: 0, spoolFiles: 0 },
  heapUsed: 0,
};

/** The workers as the manager sees them, by way of the primary: it sets their route and hears their counts. */
export class Traffic {
  #route: Route;
  #workers: WorkerInfo[];
  readonly #stats = new Map<number, WorkerStats>();
  #ofDeadWorkers: TrafficTotals = NOTHING;
  #routedVersion: number;
  #watchers: (() => void)[] = [];
  readonly #send: (message: FromManager) => void;

  constructor(route: Route, workers: WorkerInfo[], send: (message: FromManager) => void) {
    this.#route = route;
    this.#routedVersion = route.version;
    this.#workers = workers;
    this.#send = send;
  }

  get route(): Route {
    return this.#route;
  }

  get workers(): WorkerInfo[] {
    return this.#workers;
  }

  /**
   * Directs new requests to `active`. Resolves once every worker has acknowledged: from then on no new request reaches
   * another container. Always resolves, because the primary ends a worker that does not acknowledge.
   */
  async direct(active: RouteTarget | null, activeSince: number | null, draining: DrainingTarget[]): Promise<void> {
    const version = this.#route.version + 1;
    this.#route = { version, active, activeSince, draining };
    this.#send({ type: 'route', route: this.#route });
    await this.#until(() => this.#routedVersion >= version);
  }

  /** Tells the primary the route as it is: the workers wait for the manager's first word. */
  confirm(): void {
    this.#send({ type: 'route', route: this.#route });
  }

  /** Breaks off what still runs on a container. */
  cut(id: string): void {
    this.#send({ type: 'cut', id });
  }

  /** Resolves to true once no worker has anything to do with the container, to false when `signal` aborts before. */
  async whenIdle(id: string, signal: AbortSignal): Promise<boolean> {
    return this.#until(() => this.#isIdle(id), signal);
  }

  /** Resolves once a worker serves, or `signal` aborts. */
  async whenServing(signal: AbortSignal): Promise<void> {
    await this.#until(() => this.serving, signal);
  }

  /** Resolves once no worker is left. */
  async whenNoWorkers(): Promise<void> {
    await this.#until(() => this.#workers.length === 0);
  }

  counts(id: string): TargetCounts {
    const sum: TargetCounts = { inFlight: 0, upgraded: 0, requests: 0, latency: {} };
    for (const stats of this.#stats.values()) {
      for (const target of stats.targets) {
        if (target.id !== id) continue;
        sum.inFlight += target.inFlight;
        sum.upgraded += target.upgraded;
        sum.requests += target.requests;
        sum.latency = addCounts(sum.latency, target.latency);
      }
    }
    return sum;
  }

  totals(): TrafficTotals {
    return [...this.#stats.values()].reduce<TrafficTotals>(add, this.#ofDeadWorkers);
  }

  /** Whether at least one worker serves. */
  get serving(): boolean {
    return this.#workers.some((worker) => worker.state === 'serving');
  }

  receiveRouted(version: number): void {
    this.#routedVersion = Math.max(this.#routedVersion, version);
    this.#look();
  }

  receiveWorkers(workers: WorkerInfo[]): void {
    this.#workers = workers;
    for (const [id, stats] of this.#stats) {
      if (workers.some((worker) => worker.id === id)) continue;
      this.#stats.delete(id);
      // What it had open and in memory ended with it; what it had counted stays counted.
      const { states, buffers, heapUsed } = NOTHING;
      const ended = { states, buffers, heapUsed, connectionsClosed: stats.connectionsAccepted };
      this.#ofDeadWorkers = add(this.#ofDeadWorkers, { ...stats, ...ended });
    }
    this.#look();
  }

  receiveStats(worker: number, stats: WorkerStats): void {
    this.#stats.set(worker, stats);
    this.#look();
  }

  /** The counts since the switch start anew; so must those that dead workers left. */
  forgetSinceSwitch(): void {
    this.#ofDeadWorkers = { ...this.#ofDeadWorkers, sinceSwitch: NOTHING.sinceSwitch };
  }

  /** A worker that has not reported yet may have requests on it, unless it has not even begun to serve. */
  #isIdle(id: string): boolean {
    return this.#workers.every((worker) => {
      const stats = this.#stats.get(worker.id);
      if (!stats) return worker.state === 'starting';
      return !stats.targets.some((target) => target.id === id && target.inFlight + target.upgraded > 0);
    });
  }

  async #until(condition: () => boolean, signal?: AbortSignal): Promise<boolean> {
    if (condition()) return true;
    if (signal?.aborted) return false;
    return new Promise((resolve) => {
      const finish = (result: boolean) => {
        this.#watchers = this.#watchers.filter((each) => each !== watcher);
        signal?.removeEventListener('abort', abort);
        resolve(result);
      };
      const watcher = () => {
        if (condition()) finish(true);
      };
      const abort = () => finish(false);
      this.#watchers.push(watcher);
      signal?.addEventListener('abort', abort);
    });
  }

  #look(): void {
    for (const watcher of this.#watchers) watcher();
  }
}

function add(a: TrafficTotals, b: TrafficTotals): TrafficTotals {
  return {
    states: {
      new: a.states.new + b.states.new,
      active: a.states.active + b.states.active,
      idle: a.states.idle + b.states.idle,
      hijacked: a.states.hijacked + b.states.hijacked,
    },
    connectionsAccepted: a.connectionsAccepted + b.connectionsAccepted,
    connectionsClosed: a.connectionsClosed + b.connectionsClosed,
    requests: a.requests + b.requests,
    statusCodes: addCounts(a.statusCodes, b.statusCodes),
    latency: addCounts(a.latency, b.latency),
    sinceSwitch: {
      requests: a.sinceSwitch.requests + b.sinceSwitch.requests,
      seconds: a.sinceSwitch.seconds + b.sinceSwitch.seconds,
    },
    buffers: {
      memoryBytes: a.buffers.memoryBytes + b.buffers.memoryBytes,
      spoolBytes: a.buffers.spoolBytes + b.buffers.spoolBytes,
      spoolFiles: a.buffers.spoolFiles + b.buffers.spoolFiles,
    },
    heapUsed: a.heapUsed + b.heapUsed,
  };
}
