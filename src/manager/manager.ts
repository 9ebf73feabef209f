import { createServer, type Server } from 'node:http';
import { hostname } from 'node:os';
import type { Config } from '../config.ts';
import { messageOf } from '../errors.ts';
import type { ProcessUse } from '../process-use.ts';
import { createLogger, dieLoudly } from '../log.ts';
import type { CertificateInfo, Deaths, FromManager, ToManager } from '../messages.ts';
import { isoTime } from '../units.ts';
import { Acme } from './acme.ts';
import { Adoption } from './adoption.ts';
import { createApi, type ExtendApi } from './api.ts';
import { ApiTokens } from './api-tokens.ts';
import { Containers } from './containers.ts';
import type { Control } from './control.ts';
import { DeployCounts } from './deploy-counts.ts';
import { DeployLock } from './deploy-lock.ts';
import { Deployments } from './deployments.ts';
import { Environment } from './environment.ts';
import { Fleet } from './fleet.ts';
import { Journal } from './journal.ts';
import { countsOf, standingOf } from './machine-state.ts';
import { openStore } from './open-store.ts';
import { OptionFiles } from './option-files.ts';
import { urlOfListener } from './own-addresses.ts';
import { ProcessRuntime } from './process-runtime.ts';
import { Recent, SLICE } from './recent.ts';
import { RecentFile } from './recent-file.ts';
import { Recovery } from './recovery.ts';
import type { ContainerRuntime } from './runtime.ts';
import { StateCopies } from './state-copies.ts';
import type { ConfigStore } from './store.ts';
import { Traffic } from './traffic.ts';

/** How often (ms) journal entries that the store did not take are offered to it again. */
const JOURNAL_RETRY = 10_000;

const log = createLogger('manager');

function send(message: FromManager): void {
  process.send?.(message, undefined, undefined, () => {});
}

/** The control plane: everything that the primary's `start` message brings to life. */
class Manager {
  readonly #control: Control;
  readonly #deployments: Deployments;
  readonly #traffic: Traffic;
  readonly #runtime: ContainerRuntime;
  readonly #store: ConfigStore;
  readonly #files: OptionFiles;
  readonly #api: Server;
  readonly #stopping = new AbortController();
  #primary: { use: ProcessUse; deaths: Deaths } = {
    use: { heapUsed: 0, residentBytes: 0, cpuSeconds: 0 },
    deaths: { workers: 0, managers: 0 },
  };
  #certificates: CertificateInfo[] = [];
  readonly #acme: Acme | null;
  readonly #fleet: Fleet;

  static async start(message: Extract<ToManager, { type: 'start' }>, extend: ExtendApi): Promise<Manager> {
    const store = await openStore(message.config, log);
    return new Manager(message, store, await createRuntime(message.config, store), extend);
  }

  private constructor(
    start: Extract<ToManager, { type: 'start' }>,
    store: ConfigStore,
    runtime: ContainerRuntime,
    extend: ExtendApi,
  ) {
    const { config } = start;
    this.#store = store;
    this.#files = new OptionFiles(config, log);
    this.#traffic = new Traffic(start.route, start.workers, start.ledger, send);
    this.#runtime = runtime;
    const copies = new StateCopies(config.stateDir, { store: store.name, app: config.app }, log);
    this.#control = {
      app: config.app,
      drainTimeout: config.drainTimeout,
      launchTimeout: config.launchTimeout,
      environmentForContainers: () => this.#files.environment,
      containers: new Containers(log),
      runtime: this.#runtime,
      environment: new Environment(store, copies, log),
      journal: new Journal(store, hostname(), log),
      traffic: this.#traffic,
      recent: new Recent(start.mark ?? start.startedAt, new RecentFile(copies, log)),
      counts: new DeployCounts(start.deployCounts, (counts) => send({ type: 'deploy-counts', counts })),
      lock: new DeployLock(store, hostname(), log),
      log,
      stopping: this.#stopping.signal,
    };
    this.#deployments = new Deployments(this.#control);
    this.#acme = createAcme(start, store, copies, this.#control.counts);
    this.#fleet = createFleet(start, store, this.#control, this.#deployments);
    const about = {
      version: start.version,
      startedAt: start.startedAt,
      store: store.name,
      primary: () => this.#primary,
      certificates: () => this.#certificates,
      acme: () => this.#acme?.status() ?? null,
      fleet: this.#fleet,
    };
    const api = createApi(
      {
        control: this.#control,
        deployments: this.#deployments,
        about,
        tokens: new ApiTokens(() => this.#files.tokens),
      },
      extend,
    );
    const handle = api.callback();
    this.#api = createServer({ requestTimeout: 30_000 }, (request, response) => void handle(request, response));
    this.#api.listen({ fd: start.apiFd }, () => send({ type: 'listening' }));
    setInterval(() => void this.#control.journal.flush(), JOURNAL_RETRY).unref();
    void this.#control.recent.load(new Date());
    this.#takeSlices();
    this.#fleet.start();
    void this.#takeUp();
  }

  /** At every full ten seconds, so that the slices of managers, and of machines, fit together. */
  #takeSlices(): void {
    setTimeout(
      () => {
        send({ type: 'mark', mark: this.#control.recent.take(this.#traffic.totals(), new Date()) });
        this.#takeSlices();
      },
      SLICE - (Date.now() % SLICE),
    ).unref();
  }

  /** What runs is taken up first; only then do changes of containers mean anything. */
  async #takeUp(): Promise<void> {
    const recovery = new Recovery(this.#control, this.#deployments);
    const adoption = new Adoption(this.#control, this.#deployments);
    this.#runtime.watch((id) => {
      if (id === null) adoption.hurry();
      void recovery.look(id);
    });
    void this.#readHistory();
    // Before the first route, with which workers begin to listen.
    await this.#acme?.load();
    void this.#startAcme();
    await adoption.run();
    await recovery.look(null);
  }

  async #readHistory(): Promise<void> {
    try {
      await this.#control.environment.history();
    } catch (error) {
      log.warn({ why: messageOf(error) }, 'the history is not known at the moment');
    }
  }

  receive(message: Exclude<ToManager, { type: 'start' }>): void {
    switch (message.type) {
      case 'routed':
        return this.#traffic.receiveRouted(message.version);
      case 'workers':
        return this.#traffic.receiveWorkers(message.workers);
      case 'stats':
        return this.#traffic.receiveStats(message.worker, message.stats);
      case 'certificates':
        this.#certificates = message.certificates;
        return;
      case 'pulse':
        this.#primary = message;
        return;
      case 'engine':
        if (this.#runtime instanceof ProcessRuntime) this.#runtime.receive(message.message);
        return;
      case 'reload':
        this.#files.read();
        return this.#acme?.hurry();
      case 'challenge':
        void this.#answerChallenge(message.worker, message.token);
        return;
      case 'retire':
        void this.#retire();
        return;
    }
  }

  /** An authority that is called before a worker can answer its questions would refuse. */
  async #startAcme(): Promise<void> {
    await this.#traffic.whenServing(this.#stopping.signal);
    if (!this.#stopping.signal.aborted) this.#acme?.start();
  }

  async #answerChallenge(worker: number, token: string): Promise<void> {
    send({ type: 'challenge', worker, token, answer: (await this.#acme?.answer(token)) ?? null });
  }

  /** Launches are broken off, drains end with the workers' last requests; then this process ends. */
  async #retire(): Promise<void> {
    this.#stopping.abort();
    this.#api.close();
    this.#api.closeIdleConnections();
    await this.#acme?.stop();
    await this.#traffic.whenNoWorkers();
    await this.#deployments.whenQuiet();
    await this.#control.journal.flush();
    await this.#fleet.stop();
    this.#runtime.close();
    this.#store.close();
    process.exit(0);
  }
}

function createAcme(
  { config, startedAt }: Extract<ToManager, { type: 'start' }>,
  store: ConfigStore,
  copies: StateCopies,
  counts: DeployCounts,
): Acme | null {
  if (config.acmeDomain.length === 0) return null;
  return new Acme({
    domains: config.acmeDomain,
    email: config.acmeEmail,
    directory: config.acmeDirectory,
    store,
    copies,
    // The next manager of the same primary is this one's successor.
    holder: `${hostname()} ${process.ppid} ${startedAt}`,
    log,
    onCertificates: (certificates) => send({ type: 'certificates', certificates }),
    onOrder: (outcome) => counts.add('certificate', outcome),
  });
}

function createFleet(
  { machine, instance, config, version, startedAt, addresses }: Extract<ToManager, { type: 'start' }>,
  store: ConfigStore,
  control: Control,
  deployments: Deployments,
): Fleet {
  return new Fleet({
    machine,
    instance,
    store,
    every: config.heartbeat,
    about: { Name: hostname(), App: config.app, Version: version, StartedAt: isoTime(startedAt) },
    addresses: () => ({
      Api: config.apiUrl ?? urlOfListener('http', addresses.api),
      Proxy: urlOfListener('http', addresses.proxy),
      Tls: addresses.tls === null ? null : urlOfListener('https', addresses.tls),
    }),
    standing: () => standingOf(control, deployments),
    counts: () => countsOf(control),
    log,
  });
}

async function createRuntime(config: Config, store: ConfigStore): Promise<ContainerRuntime> {
  if (config.runtime === 'process') {
    return new ProcessRuntime({ send: (message) => send({ type: 'engine', message }) });
  }
  // Only here: the client of Docker's API costs a manager of child processes time and memory for nothing.
  const { DockerRuntime } = await import('./docker-runtime.ts');
  return new DockerRuntime({
    app: config.app,
    environment: store.name,
    registryPort: config.registryPort,
    openArtifact: (bucket, key, signal) => store.openArtifact(bucket, key, signal),
    log,
    dockerHost: process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock',
  });
}

/** Makes this process the manager; `extend` hangs pages into its API. */
export function runManager(extend: ExtendApi): void {
  process.title = 'wunderproxy: manager';
  dieLoudly(log);
  // A terminal and systemd signal the whole group: when to stop, the primary says.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
  process.on('disconnect', () => {
    log.warn('the primary is gone');
    process.exit(1);
  });

  let manager: Manager | null = null;
  const early: Exclude<ToManager, { type: 'start' }>[] = [];
  const begin = (started: Manager) => {
    manager = started;
    for (const message of early.splice(0)) started.receive(message);
  };
  process.on('message', (message: ToManager) => {
    if (message.type === 'start') void Manager.start(message, extend).then(begin);
    else if (manager) manager.receive(message);
    else early.push(message);
  });
}
