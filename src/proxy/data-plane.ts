import type { Logger } from '../log.ts';
import type { FromWorker, Route, WorkerConfig, WorkerStats, WorkerTimeouts } from '../messages.ts';
import { Account } from './account.ts';
import { trustIn } from './headers.ts';
import { Listener } from './listener.ts';
import { type PipelineContext, refuse, serve } from './pipeline.ts';
import { Router } from './router.ts';

const STATS_INTERVAL = 1_000;

/** Unless the configuration says otherwise. */
const TIMEOUTS: WorkerTimeouts = {
  header: 30_000,
  keepAlive: 75_000,
  connect: 3_000,
  response: 60_000,
  responseIdle: 60_000,
};

/** Everything that one worker process does, apart from being a process. */
export class DataPlane {
  readonly #config: WorkerConfig;
  readonly #log: Logger;
  readonly #send: (message: FromWorker) => void;
  readonly #account = new Account();
  readonly #router: Router;
  readonly #listener: Listener;
  #version: number;
  #retireTimer: NodeJS.Timeout | null = null;

  /** `onDone` is called when it has retired and no connection is left. */
  constructor(
    config: WorkerConfig,
    route: Route,
    log: Logger,
    send: (message: FromWorker) => void,
    onDone: () => void,
  ) {
    this.#config = config;
    this.#log = log;
    this.#send = send;
    const timeouts = { ...TIMEOUTS, ...config.timeouts };
    this.#router = new Router(timeouts, () => this.#sendStats());
    const context: PipelineContext = {
      router: this.#router,
      account: this.#account,
      limits: { maxBody: config.maxBodyBytes },
      trust: trustIn(config.trustedProxies),
      log,
    };
    this.#listener = new Listener(timeouts, {
      serve: (exchange) => void serve(exchange, context),
      refuse: (exchange, code) => void refuse(exchange, code, context),
      onEmpty: () => {
        this.#sendStats();
        onDone();
      },
    });
    this.#version = route.version;
    this.#router.update(route);
  }

  /** Accepts connections from now on and says so. */
  async listen(): Promise<void> {
    await this.#listener.listen(this.#config.proxyFd);
    setInterval(() => this.#sendStats(), STATS_INTERVAL).unref();
    this.#send({ type: 'listening' });
  }

  /** Works by this route when it returns, and acknowledges it. */
  setRoute(route: Route): void {
    if (route.version >= this.#version) {
      this.#version = route.version;
      if (this.#router.update(route)) this.#account.onSwitch();
    }
    // First, so that whoever learns that the route is in force already has counts from after the switch.
    this.#sendStats();
    this.#send({ type: 'routed', version: route.version });
  }

  cut(id: string): void {
    this.#router.cut(id);
    this.#sendStats();
  }

  /** Stops accepting and finishes what runs within `timeoutMs`; a later call can only shorten that. */
  retire(timeoutMs: number, keepIdle: boolean): void {
    this.#send({ type: 'retiring' });
    if (this.#retireTimer) clearTimeout(this.#retireTimer);
    this.#retireTimer = setTimeout(() => this.#breakOff(), timeoutMs);
    this.#listener.retire(keepIdle);
  }

  #breakOff(): void {
    this.#log.warn({ connections: this.#listener.connections }, 'retire timeout: what still runs is broken off');
    this.#router.cutAll();
    // Answers that were just given get the chance to leave.
    setImmediate(() => this.#listener.destroyAll());
  }

  #sendStats(): void {
    this.#send({ type: 'stats', stats: this.#stats() });
  }

  #stats(): WorkerStats {
    return {
      targets: this.#router.stats(),
      states: this.#listener.states,
      connectionsAccepted: this.#listener.accepted,
      connectionsClosed: this.#listener.closed,
      ...this.#account.snapshot(),
      heapUsed: process.memoryUsage().heapUsed,
    };
  }
}
