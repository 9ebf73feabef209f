import { Child, FIRST_INHERITED_FD } from './child.ts';
import { STDOUT } from './log-output.ts';
import type { Logger } from './log.ts';
import { type FromWorker, NO_ROUTE, type Route, type ToWorker, type WorkerInfo } from './messages.ts';
import type { NamedAddresses, PeerMaterial } from './peer-messages.ts';
import { type TlsMaterial, type WorkerConfig } from './worker-config.ts';
import { Respawn } from './respawn.ts';

/** What the pool tells its owner. */
export interface WorkerPoolEvents {
  onWorkers(): void;
  onMessage(worker: number, message: FromWorker): void;
  /** Every worker that may accept a connection works by this version of the route. */
  onRouted(version: number): void;
}

export interface WorkerPoolOptions {
  /** Listening socket of each slot. */
  fds: number[];
  /** As many for TLS; null when it is off. */
  tlsFds: number[] | null;
  tls: TlsMaterial | null;
  peerMaterial: PeerMaterial | null;
  env: Record<string, string>;
  config: Omit<WorkerConfig, 'slot' | 'proxyFd' | 'tlsFd' | 'tls' | 'accessLog' | 'peerMaterial' | 'namedPeers'>;
  /** Asked for the descriptor whenever a worker is started; null: no access log. */
  accessLog: { fd: () => number | null; query: boolean };
  /** How long (ms) a worker that was replaced may finish its requests. */
  retireTimeout: number;
}

/** How Node is started for a worker. */
export const WORKER_FLAGS: readonly string[] = [
  // Any process of the same user could otherwise have a debugger opened with a signal, and give the worker commands.
  '--disable-sigusr1',
  // V8 would take up to 32 MiB: 45 MB more for each worker, for some 3 % of its processor time.
  '--max-semi-space-size=8',
];

/** glibc gives each of V8's threads an arena of its own otherwise, which keeps what compilers once used. */
export const WORKER_ENVIRONMENT = { MALLOC_ARENA_MAX: '2' };

/** A worker that does not acknowledge a route for so long (ms) hangs, and might send requests to the old container. */
const ACK_TIMEOUT = 5_000;

interface Worker {
  info: WorkerInfo;
  child: Child<ToWorker, FromWorker>;
  accessLog: WorkerConfig['accessLog'];
  /** The last version that it acknowledged. */
  acknowledged: number;
}

interface Slot {
  number: number;
  /** For plain HTTP, and for TLS if that is on. */
  fds: number[];
  respawn: Respawn;
  /** The worker that is to serve this slot; retiring ones are only in `#workers`. */
  current: Worker | null;
  /** The one that is starting is to be replaced as soon as it serves. */
  replaceAgain: boolean;
}

/**
 * The proxy workers: one per slot, replaced when they die or when the program reloads, all told the same route.
 *
 * Life of a worker: starting → serving → retiring → gone; it gets the route with its first message, so it never serves
 * by an old one.
 */
export class WorkerPool {
  readonly #options: WorkerPoolOptions;
  readonly #events: WorkerPoolEvents;
  readonly #log: Logger;
  readonly #slots: Slot[];
  readonly #workers = new Map<number, Worker>();
  #lastId = 0;
  #route: Route = NO_ROUTE;
  #tls: TlsMaterial | null;
  #peerMaterial: PeerMaterial | null;
  #namedPeers: NamedAddresses | null = null;
  /** Versions below this have been reported as acknowledged by all. */
  #reported = 0;
  #ackTimer: NodeJS.Timeout | null = null;
  #open = false;
  /** How many workers died without having been told to go. */
  deaths = 0;
  #stopping = false;

  constructor(options: WorkerPoolOptions, events: WorkerPoolEvents, log: Logger) {
    this.#options = options;
    this.#events = events;
    this.#log = log;
    this.#tls = options.tls;
    this.#peerMaterial = options.peerMaterial;
    this.#slots = options.fds.map((fd, i) => ({
      number: i + 1,
      fds: [fd, ...(options.tlsFds?.slice(i, i + 1) ?? [])],
      respawn: new Respawn(),
      current: null,
      replaceAgain: false,
    }));
  }

  get route(): Route {
    return this.#route;
  }

  /** Every worker that lives, retiring ones included. */
  get workers(): WorkerInfo[] {
    return Array.from(this.#workers.values(), (worker) => worker.info);
  }

  /** Whether every slot has a worker that serves. */
  get serving(): boolean {
    return this.#slots.every((slot) => slot.current?.info.state === 'serving');
  }

  /** Starts the processes; they load, but open nothing before `open`. */
  spawnAll(): void {
    for (const slot of this.#slots) this.#spawn(slot);
  }

  /** From now on workers get their route and listen. */
  open(): void {
    if (this.#open) return;
    this.#open = true;
    for (const worker of this.#workers.values()) this.#start(worker);
  }

  /** Makes all workers work by a newer route; an older or equal one is ignored. */
  setRoute(route: Route): void {
    if (route.version <= this.#route.version) return;
    this.#route = route;
    if (this.#open) this.broadcast({ type: 'route', route });
    this.#checkAcknowledged();
  }

  /** All workers, those born later too, use this for handshakes from now on. */
  setTls(material: TlsMaterial): void {
    this.#tls = material;
    if (this.#open) this.broadcast({ type: 'tls', material });
  }

  /** All workers, those born later too, know peers by this from now on. */
  setPeerMaterial(material: PeerMaterial): void {
    this.#peerMaterial = material;
    if (this.#open) this.broadcast({ type: 'peerMaterial', material });
  }

  /** Sends to one worker; dropped when it is gone. */
  send(worker: number, message: ToWorker): void {
    this.#workers.get(worker)?.child.send(message);
  }

  /** Sends to every worker, retiring ones included. */
  broadcast(message: ToWorker): void {
    for (const worker of this.#workers.values()) worker.child.send(message);
  }

  /**
   * New workers first; each old one retires once its successor, or the one that replaces a dead successor, listens. One
   * at a time in each slot, however often it is asked for: a burst of reloads must not start a burst of processes.
   */
  replaceAll(): void {
    for (const slot of this.#slots) {
      // Without a current one its replacement is about to start anyway.
      if (slot.current?.info.state === 'starting') slot.replaceAgain = true;
      else if (slot.current !== null) this.#spawn(slot);
    }
  }

  /** All workers finish and exit; `onWorkers` tells when the last one is gone. */
  retireAll(timeoutMs: number): void {
    this.#stopping = true;
    for (const slot of this.#slots) slot.respawn.cancel();
    for (const worker of this.#workers.values()) this.#retire(worker, timeoutMs, false);
  }

  killAll(): void {
    this.#stopping = true;
    for (const worker of this.#workers.values()) worker.child.kill();
  }

  #retire(worker: Worker, timeoutMs: number, keepIdle: boolean): void {
    // A worker that was never told to start has nothing to finish.
    if (worker.info.state === 'starting') worker.child.kill();
    else worker.child.send({ type: 'retire', timeoutMs, keepIdle });
    worker.info.state = 'retiring';
    this.#events.onWorkers();
  }

  #retirePredecessors(of: Worker): void {
    for (const worker of this.#workers.values()) {
      const older = worker.info.slot === of.info.slot && worker.info.id < of.info.id;
      if (older && worker.info.state !== 'retiring') this.#retire(worker, this.#options.retireTimeout, true);
    }
  }

  #replaceAgain(listening: Worker): void {
    const slot = this.#slots.find(({ current }) => current === listening);
    if (slot?.replaceAgain === true && !this.#stopping) this.#spawn(slot);
  }

  #spawn(slot: Slot): void {
    slot.replaceAgain = false;
    const id = ++this.#lastId;
    const log = this.#options.accessLog.fd();
    // Stdout is inherited anyway, under its own number.
    const fds = [...slot.fds, ...(log === null || log === STDOUT ? [] : [log])];
    const child = new Child<ToWorker, FromWorker>(
      './proxy/worker.js',
      { env: { ...this.#options.env, ...WORKER_ENVIRONMENT }, fds, execArgv: [...WORKER_FLAGS] },
      (message) => this.#receive(worker, message),
      (how, clean) => this.#exited(slot, worker, how, clean),
    );
    const info: WorkerInfo = { id, pid: child.pid, slot: slot.number, state: 'starting', startedAt: child.startedAt };
    const fd = log === STDOUT ? STDOUT : FIRST_INHERITED_FD + fds.length - 1;
    const accessLog = log === null ? null : { fd, query: this.#options.accessLog.query };
    const worker: Worker = { info, child, accessLog, acknowledged: 0 };
    this.#workers.set(id, worker);
    slot.current = worker;
    slot.respawn.started();
    if (this.#open) this.#start(worker);
    this.#events.onWorkers();
  }

  #start(worker: Worker): void {
    const config: WorkerConfig = {
      ...this.#options.config,
      slot: worker.info.slot,
      proxyFd: FIRST_INHERITED_FD,
      tlsFd: this.#options.tlsFds === null ? null : FIRST_INHERITED_FD + 1,
      tls: this.#tls,
      peerMaterial: this.#peerMaterial,
      namedPeers: this.#namedPeers,
      accessLog: worker.accessLog,
    };
    worker.acknowledged = this.#route.version;
    worker.child.send({ type: 'start', config, route: this.#route });
  }

  #receive(worker: Worker, message: FromWorker): void {
    if (message.type === 'listening') {
      if (worker.info.state === 'starting') worker.info.state = 'serving';
      this.#retirePredecessors(worker);
      this.#events.onWorkers();
      this.#replaceAgain(worker);
    } else if (message.type === 'routed') {
      worker.acknowledged = Math.max(worker.acknowledged, message.version);
      this.#checkAcknowledged();
    } else if (message.type === 'namedPeers') {
      this.#namedPeers = message.addresses;
    }
    this.#events.onMessage(worker.info.id, message);
  }

  #exited(slot: Slot, worker: Worker, how: string, clean: boolean): void {
    this.#workers.delete(worker.info.id);
    const expected = this.#stopping || (worker.info.state === 'retiring' && clean);
    if (!expected) {
      this.deaths++;
      this.#log.error({ worker: worker.info.id, workerPid: worker.info.pid, how }, 'worker died');
    }
    if (slot.current === worker) {
      slot.current = null;
      if (!this.#stopping) slot.respawn.schedule(() => this.#spawn(slot));
    }
    this.#checkAcknowledged();
    this.#events.onWorkers();
  }

  #checkAcknowledged(): void {
    const { version } = this.#route;
    if (this.#reported >= version) return;
    const late = [...this.#workers.values()].filter((worker) => this.#open && worker.acknowledged < version);
    if (late.length === 0) {
      this.#reported = version;
      if (this.#ackTimer) clearTimeout(this.#ackTimer);
      this.#ackTimer = null;
      this.#events.onRouted(version);
    } else {
      this.#ackTimer ??= setTimeout(() => this.#killLate(), ACK_TIMEOUT);
    }
  }

  #killLate(): void {
    this.#ackTimer = null;
    for (const worker of this.#workers.values()) {
      if (worker.acknowledged >= this.#route.version) continue;
      this.#log.error({ worker: worker.info.id, workerPid: worker.info.pid }, 'worker hangs: it is killed');
      worker.child.kill();
    }
  }
}
