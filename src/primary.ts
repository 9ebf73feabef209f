import { AccessLogFile } from './access-log-file.ts';
import { Child, FIRST_INHERITED_FD } from './child.ts';
import type { Config } from './config.ts';
import { createLogger, type Logger } from './log.ts';
import type { FromEngine, ToEngine } from './engine-messages.ts';
import type { DeployTally, FromManager, FromWorker, Mark, ToManager } from './messages.ts';
import type { WorkerConfig } from './worker-config.ts';
import { messageOf } from './errors.ts';
import { Ledger } from './ledger.ts';
import { type Machine, newInstance } from './machine.ts';
import { Nonces } from './nonces.ts';
import { PeerKeeper } from './peer-keeper.ts';
import { processUse } from './process-use.ts';
import { Respawn } from './respawn.ts';
import { bind, type BoundListener } from './sockets.ts';
import { TlsKeeper } from './tls-keeper.ts';
import { servesTls } from './tls-options.ts';
import { workerSettings } from './traffic-options.ts';
import type { ListenAddress } from './units.ts';
import { WorkerPool } from './worker-pool.ts';

/** Workers wait so long (ms) for the first word of the manager, then they serve what they have: 503. */
const FIRST_ROUTE_TIMEOUT = 15_000;
/** After the drain timeout, what still lives gets so long (ms) before it is killed. */
const STOP_MARGIN = 10_000;

/** One Ctrl-C arrives twice below npm and npx, which pass on what the terminal has sent already; ms. */
const SAME_SIGNAL = 300;

/** What stands open before anything else is started. */
interface Opened {
  log: Logger;
  /** Null when there is no certificate. */
  keeper: TlsKeeper | null;
  proxy: BoundListener;
  tls: BoundListener | null;
  api: BoundListener;
}

/** Environment that a worker or an engine may see: nothing that is worth stealing. */
const HARMLESS = ['PATH', 'HOME', 'LANG', 'LC_ALL', 'TZ', 'NODE_OPTIONS', 'NODE_EXTRA_CA_CERTS', 'TMPDIR'];

/**
 * The process that people start: it binds the sockets, starts the others, passes their messages on and replaces what
 * dies. It parses nothing and talks to nobody outside, because a throw in it would close the ports.
 */
export class Primary {
  readonly #config: Config;
  readonly #machine: string;
  readonly #instance = newInstance();
  readonly #version: string;
  readonly #log: Logger;
  readonly #keeper: TlsKeeper | null;
  readonly #peers: PeerKeeper;
  readonly #nonces = new Nonces();
  readonly #proxy: BoundListener;
  readonly #tls: BoundListener | null;
  readonly #api: BoundListener;
  readonly #accessLog: AccessLogFile;
  readonly #pool: WorkerPool;
  readonly #managerRespawn = new Respawn();
  readonly #startedAt = Date.now();
  /** For the next manager. */
  readonly #ledger = new Ledger();
  #mark: Mark | null = null;
  #deployCounts: DeployTally = {};
  #managerDeaths = 0;
  #manager: Child<ToManager, FromManager> | null = null;
  #managerListens = false;
  #engine: Child<ToEngine, FromEngine> | null = null;
  #announced = false;
  #stopping = false;
  #stoppingSince = 0;

  /** Opens the listeners and starts everything. Throws CertificateError and ListenError, with nothing left open. */
  static async start(config: Config, user: WorkerConfig['user'], machine: Machine, version: string): Promise<Primary> {
    process.title = 'wunderproxy: primary';
    const log = createLogger('primary');
    const keeper = servesTls(config) ? await TlsKeeper.open(config, log) : null;
    const open: BoundListener[] = [];
    const bound = async (option: string, address: ListenAddress, shares: number) => {
      const listener = await bind(option, address, shares);
      open.push(listener);
      return listener;
    };
    try {
      const proxy = await bound('--proxy', config.proxy, config.workers);
      const tls = keeper && (await bound('--tls', config.tls, config.workers));
      const api = await bound('--api', config.api, 1);
      return new Primary(config, user, machine, version, { log, keeper, proxy, tls, api });
    } catch (error) {
      for (const listener of open) listener.close();
      throw error;
    }
  }

  private constructor(config: Config, user: WorkerConfig['user'], machine: Machine, version: string, opened: Opened) {
    const { log, keeper, proxy, tls, api } = opened;
    this.#config = config;
    this.#machine = machine.id;
    this.#version = version;
    this.#log = log;
    this.#keeper = keeper;
    this.#peers = new PeerKeeper(config, log);
    this.#proxy = proxy;
    this.#tls = tls;
    this.#api = api;
    this.#accessLog = new AccessLogFile(config.accessLog);
    this.#pool = new WorkerPool(
      {
        fds: proxy.fds,
        accessLog: { fd: () => this.#accessLog.fd, query: config.logQuery },
        tlsFds: tls && tls.fds,
        tls: keeper && keeper.material,
        peerMaterial: this.#peers.material,
        env: harmlessEnvironment(),
        config: {
          user,
          machine: machine.id,
          instance: this.#instance,
          ...workerSettings(config, config.workers, tls && tls.address),
        },
        retireTimeout: config.drainTimeout,
      },
      {
        onWorkers: () => this.#workersChanged(),
        onMessage: (worker, message) => this.#fromWorker(worker, message),
        onRouted: (version) => this.#manager?.send({ type: 'routed', version }),
      },
      this.#log,
    );
    if (machine.problem !== null) {
      this.#log.warn({ machine: machine.id, why: machine.problem }, 'the id of this machine can not be kept');
    }
    process.on('SIGTERM', () => this.#stop('SIGTERM'));
    process.on('SIGINT', () => this.#stop('SIGINT'));
    process.on('SIGHUP', () => this.#reload());
    keeper?.watch({
      onMaterial: (material) => this.#pool.setTls(material),
      onCertificates: (certificates) => this.#manager?.send({ type: 'certificates', certificates }),
    });
    if (config.runtime === 'process') this.#spawnEngine();
    this.#spawnManager();
    this.#pool.spawnAll();
    setTimeout(() => this.#pool.open(), FIRST_ROUTE_TIMEOUT).unref();
    setInterval(() => this.#pulse(), 1_000).unref();
  }

  #spawnManager(): void {
    this.#managerRespawn.started();
    this.#managerListens = false;
    const manager = new Child<ToManager, FromManager>(
      './manager.js',
      { env: definedOnly(process.env), fds: this.#api.fds },
      (message) => this.#fromManager(message),
      (how) => {
        this.#manager = null;
        if (this.#stopping) return this.#exitWhenAllGone();
        this.#managerDeaths++;
        this.#log.error({ managerPid: manager.pid, how }, 'manager died: traffic goes on');
        this.#managerRespawn.schedule(() => this.#spawnManager());
      },
    );
    this.#manager = manager;
    manager.send({
      type: 'start',
      version: this.#version,
      machine: this.#machine,
      instance: this.#instance,
      config: this.#config,
      addresses: this.#addresses(),
      apiFd: FIRST_INHERITED_FD,
      route: this.#pool.route,
      workers: this.#pool.workers,
      startedAt: this.#startedAt,
      ledger: this.#ledger.state,
      mark: this.#mark,
      deployCounts: this.#deployCounts,
    });
    if (this.#keeper) manager.send({ type: 'certificates', certificates: this.#keeper.infos });
  }

  #spawnEngine(): void {
    this.#engine = new Child<ToEngine, FromEngine>(
      './engine.js',
      { env: harmlessEnvironment(), fds: [] },
      (message) => this.#manager?.send({ type: 'engine', message }),
      (how) => {
        this.#engine = null;
        if (this.#stopping) return this.#exitWhenAllGone();
        this.#log.error({ how }, 'engine died, and the processes that it ran with it');
        this.#spawnEngine();
        // What the manager knows of containers is void: it takes up from nothing.
        this.#manager?.kill();
      },
    );
  }

  #fromManager(message: FromManager): void {
    switch (message.type) {
      case 'listening':
        this.#managerListens = true;
        return this.#announce();
      case 'route':
        this.#pool.setRoute(message.route);
        return this.#pool.open();
      case 'cut':
        return this.#pool.broadcast({ type: 'cut', id: message.id });
      case 'mark':
        this.#mark = message.mark;
        return;
      case 'deploy-counts':
        this.#deployCounts = message.counts;
        return;
      case 'engine':
        return this.#engine?.send(message.message);
      case 'certificates':
        return this.#keeper?.setObtained(message.certificates);
      case 'challenge':
        return this.#pool.send(message.worker, { type: 'challenge', token: message.token, answer: message.answer });
    }
  }

  #fromWorker(worker: number, message: FromWorker): void {
    if (message.type === 'challenge') this.#manager?.send({ type: 'challenge', worker, token: message.token });
    if (message.type === 'nonce') {
      const fresh = this.#nonces.use(message.nonce, message.until, Date.now());
      return this.#pool.send(worker, { type: 'nonce', nonce: message.nonce, fresh });
    }
    if (message.type !== 'stats') return;
    this.#ledger.receive(worker, message.stats);
    this.#manager?.send({ type: 'stats', worker, stats: message.stats });
  }

  #workersChanged(): void {
    this.#ledger.keep(this.#pool.workers.map(({ id }) => id));
    this.#manager?.send({ type: 'workers', workers: this.#pool.workers });
    this.#announce();
    if (this.#stopping) this.#exitWhenAllGone();
  }

  /** Says once that every listener is open. */
  #announce(): void {
    if (this.#announced || !this.#managerListens || !this.#pool.serving) return;
    this.#announced = true;
    this.#log.info(this.#addresses(), 'ready');
  }

  #addresses(): { proxy: string; tls: string | null; api: string } {
    return { proxy: this.#proxy.address, tls: this.#tls && this.#tls.address, api: this.#api.address };
  }

  #pulse(): void {
    const deaths = { workers: this.#pool.deaths, managers: this.#managerDeaths };
    this.#manager?.send({ type: 'pulse', use: processUse(), deaths });
  }

  #reload(): void {
    if (this.#stopping) return;
    this.#log.info('reload: new workers take over');
    this.#reopenAccessLog();
    this.#manager?.send({ type: 'reload' });
    // With what the files hold now, or else with what they held: new workers come in any case.
    this.#keeper?.reload();
    const peerMaterial = this.#peers.reload();
    if (peerMaterial !== null) this.#pool.setPeerMaterial(peerMaterial);
    this.#pool.replaceAll();
  }

  #reopenAccessLog(): void {
    try {
      this.#accessLog.reopen();
    } catch (error) {
      this.#log.error({ why: messageOf(error) }, 'the access log can not be opened anew: lines go to the old file');
    }
  }

  #stop(signal: 'SIGTERM' | 'SIGINT'): void {
    if (this.#stopping) {
      if (performance.now() - this.#stoppingSince > SAME_SIGNAL) this.#killAll(signal === 'SIGINT' ? 130 : 143);
      return;
    }
    this.#stopping = true;
    this.#stoppingSince = performance.now();
    this.#log.info({ signal }, 'stopping: requests in flight are finished');
    const timeoutMs = this.#config.drainTimeout;
    this.#managerRespawn.cancel();
    this.#proxy.close();
    this.#tls?.close();
    this.#api.close();
    this.#pool.retireAll(timeoutMs);
    this.#manager?.send({ type: 'retire', timeoutMs });
    setTimeout(() => {
      this.#log.warn('what did not stop in time is killed');
      this.#killAll(0);
    }, timeoutMs + STOP_MARGIN).unref();
    this.#exitWhenAllGone();
  }

  #exitWhenAllGone(): void {
    if (this.#pool.workers.length > 0 || this.#manager) return;
    if (this.#engine) return this.#engine.disconnect();
    this.#log.info('stopped');
    process.exit(0);
  }

  #killAll(status: number): void {
    this.#pool.killAll();
    this.#manager?.kill();
    // The engine must live long enough to end the processes that it runs: it does so when its channel closes.
    this.#engine?.disconnect();
    process.exit(status);
  }
}

function harmlessEnvironment(): Record<string, string> {
  const all = definedOnly(process.env);
  return Object.fromEntries(HARMLESS.flatMap((name) => (all[name] === undefined ? [] : [[name, all[name]]])));
}

function definedOnly(env: NodeJS.ProcessEnv): Record<string, string> {
  return Object.fromEntries(Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined));
}
