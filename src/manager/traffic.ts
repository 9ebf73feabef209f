import type { DrainingTarget, FromManager, Route, RouteTarget, WorkerInfo } from '../messages.ts';
import type { WorkerStats } from '../worker-stats.ts';
import { Ledger, type LedgerState } from '../ledger.ts';

/** The workers as the manager sees them, by way of the primary: it sets their route and hears their counts. */
export class Traffic {
  #route: Route;
  #workers: WorkerInfo[];
  readonly #ledger: Ledger;
  #routedVersion: number;
  #watchers: (() => void)[] = [];
  readonly #send: (message: FromManager) => void;

  /** @param ledger what was counted before this manager */
  constructor(route: Route, workers: WorkerInfo[], ledger: LedgerState, send: (message: FromManager) => void) {
    this.#route = route;
    this.#routedVersion = route.version;
    this.#workers = workers;
    this.#ledger = new Ledger(ledger);
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

  /** Resolves once every worker works by the present route, or after so long (ms). */
  async whenRouted(limit: number): Promise<void> {
    const { version } = this.#route;
    if (this.#routedVersion < version) {
      await this.#until(() => this.#routedVersion >= version, AbortSignal.timeout(limit));
    }
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

  /** Over all workers, those that are gone included as far as their last reports went. */
  totals(): WorkerStats {
    return this.#ledger.totals(this.#route.activeSince);
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
    this.#ledger.keep(workers.map(({ id }) => id));
    this.#look();
  }

  receiveStats(worker: number, stats: WorkerStats): void {
    this.#ledger.receive(worker, stats);
    this.#look();
  }

  /** A worker that has not reported yet may have requests on it, unless it has not even begun to serve. */
  #isIdle(id: string): boolean {
    return this.#workers.every((worker) => {
      const stats = this.#ledger.report(worker.id);
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
