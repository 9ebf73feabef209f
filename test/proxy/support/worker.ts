import { type ChildProcess, fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import * as net from 'node:net';
import * as tls from 'node:tls';
import type { TestContext } from 'node:test';
import { parseCommandLine } from '../../../src/config.ts';
import type { DrainingTarget, FromWorker, Route, RouteTarget, ToWorker } from '../../../src/messages.ts';
import type { PeerMaterial } from '../../../src/peer-messages.ts';
import type { TlsMaterial, WorkerConfig } from '../../../src/worker-config.ts';
import type { WorkerStats } from '../../../src/worker-stats.ts';
import { Nonces } from '../../../src/nonces.ts';
import { workerSettings } from '../../../src/traffic-options.ts';
import { WORKER_ENVIRONMENT, WORKER_FLAGS } from '../../../src/worker-pool.ts';
import { compileCache } from '../../support/processes.ts';
import { overTls, TEST_HOST, testMaterial } from './transport.ts';

const MODULE = new URL('../../../src/proxy/worker.ts', import.meta.url);
/** stdin, stdout, stderr and the message channel come first. */
const INHERITED_FD = 4;
/** How often (ms) a worker is asked whether a condition holds. */
const ASK_INTERVAL = 200;

export interface WorkerOptions {
  route?: Pick<Route, 'active'> & { draining?: DrainingTarget[] };
  /** Options of the program that differ from their defaults. */
  flags?: string[];
  user?: WorkerConfig['user'];
  env?: Record<string, string>;
  /** An already bound socket, as a replacement of a worker inherits it. */
  socket?: net.BoundSocket;
  /** Descriptor of an access log, open in this process. */
  accessLog?: number;
  logQuery?: boolean;
  /** Those that were taken, when several workers are to be of one machine. */
  nonces?: Nonces;
  /** What it shares with its peers. */
  peerMaterial?: PeerMaterial;
  /** This machine's id. */
  machine?: string;
  /** Opens a TLS listener too, to which plain requests are sent. */
  tls?: TlsMaterial;
}

function bindSocket(): net.BoundSocket {
  return new net.BoundSocket({ host: '127.0.0.1', port: 0, reusePort: true });
}

/** A real worker process behind a stand-in for the primary that speaks the real messages. */
export class TestWorker {
  /** Where RawClient connects to: plain, or TLS when the tests run over TLS. */
  readonly port: number;
  readonly plainPort: number;
  /** 0 without TLS. */
  readonly tlsPort: number;
  readonly process: ChildProcess;
  /** The one at `port`. */
  readonly socket: net.BoundSocket;
  /** Resolves with how it ended. */
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  readonly messages: FromWorker[] = [];
  /** What it wrote to stdout and stderr. */
  output = '';
  stats: WorkerStats | null = null;
  /** Those that it has taken: the stand-in for the primary's. */
  readonly nonces: Nonces;
  readonly #events = new EventEmitter();
  /** Those that end with this worker. */
  readonly #sockets: net.BoundSocket[];
  #version = 0;
  #active: RouteTarget | null;
  #draining: DrainingTarget[];

  private constructor(options: WorkerOptions) {
    this.#events.setMaxListeners(0);
    this.socket = options.socket ?? bindSocket();
    this.port = this.socket.address().port;
    const withTls = overTls || options.tls !== undefined;
    const other = withTls ? bindSocket() : null;
    const [plain, secure] = overTls && other !== null ? [other, this.socket] : [this.socket, other];
    this.plainPort = plain.address().port;
    this.tlsPort = secure?.address().port ?? 0;
    this.#sockets = [...(options.socket === undefined ? [this.socket] : []), ...(other === null ? [] : [other])];
    this.nonces = options.nonces ?? new Nonces();
    this.#active = options.route?.active ?? null;
    this.#draining = options.route?.draining ?? [];
    const log = options.accessLog === undefined ? [] : [options.accessLog];
    this.process = fork(MODULE, [], {
      env: { PATH: process.env['PATH'] ?? '', ...compileCache(), ...WORKER_ENVIRONMENT, ...options.env },
      execArgv: [...WORKER_FLAGS],
      stdio: ['ignore', 'pipe', 'pipe', 'ipc', plain.fd(), ...(secure === null ? [] : [secure.fd()]), ...log],
    });
    for (const stream of [this.process.stdout, this.process.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => (this.output += text));
    }
    this.exited = new Promise((resolve) => {
      this.process.once('exit', (code, signal) => resolve({ code, signal }));
    });
    void this.exited.then(() => this.#events.emit('exited'));
    this.process.on('message', (message: FromWorker) => {
      this.messages.push(message);
      if (message.type === 'stats') this.stats = message.stats;
      if (message.type === 'nonce') this.#answerNonce(message.nonce, message.until);
      this.#events.emit('message', message);
    });
  }

  /** A worker that listens. With a test it ends with the test, else `stop` must be called. */
  static async start(t: TestContext | null, options: WorkerOptions = {}): Promise<TestWorker> {
    const worker = new TestWorker(options);
    t?.after(() => worker.stop());
    const { flags = [], user = null } = options;
    const tlsAddress = options.tls === undefined ? null : `127.0.0.1:${worker.tlsPort}`;
    const settings = workerSettings(parseCommandLine([...flags, 'file:///bucket', 'test', 'app'], '0'), 1, tlsAddress);
    const withTls = worker.tlsPort !== 0;
    const logFd = INHERITED_FD + (withTls ? 2 : 1);
    const accessLog = options.accessLog === undefined ? null : { fd: logFd, query: options.logQuery ?? true };
    const config: WorkerConfig = {
      slot: 1,
      machine: options.machine ?? 'test-01234567',
      instance: randomBytes(8).toString('hex'),
      proxyFd: INHERITED_FD,
      tlsFd: withTls ? INHERITED_FD + 1 : null,
      tls: withTls ? (options.tls ?? testMaterial()) : null,
      user,
      accessLog,
      peerMaterial: options.peerMaterial ?? null,
      namedPeers: null,
      ...settings,
    };
    worker.send({ type: 'start', config, route: worker.#route() });
    try {
      await worker.message('listening');
    } catch (error) {
      await worker.stop();
      throw error;
    }
    return worker;
  }

  #answerNonce(nonce: string, until: number): void {
    this.send({ type: 'nonce', nonce, fresh: this.nonces.use(nonce, until, Date.now()) });
  }

  send(message: ToWorker): void {
    this.process.send(message);
  }

  /** The next message of this type. Rejects when the worker ends before. */
  message<T extends FromWorker['type']>(
    type: T,
    accept: (message: Extract<FromWorker, { type: T }>) => boolean = () => true,
  ): Promise<Extract<FromWorker, { type: T }>> {
    return new Promise((resolve, reject) => {
      const onMessage = (message: FromWorker) => {
        if (message.type !== type || !accept(message as Extract<FromWorker, { type: T }>)) return;
        this.#events.off('message', onMessage).off('exited', onExit);
        resolve(message as Extract<FromWorker, { type: T }>);
      };
      const onExit = () => reject(new Error(`the worker ended before it said ${type}:\n${this.output}`));
      this.#events.on('message', onMessage).once('exited', onExit);
    });
  }

  /** Makes a container the active one; resolves when the worker has acknowledged it. */
  async switchTo(active: RouteTarget | null, options: { draining?: boolean } = {}): Promise<void> {
    const before = this.#active;
    this.#draining = this.#draining.filter(({ target }) => target.id !== active?.id);
    if (before && before.id !== active?.id && options.draining !== false) {
      this.#draining.push({ target: before, since: Date.now(), deadline: Date.now() + 30_000 });
    }
    this.#active = active;
    const route = this.#route();
    const routed = this.message('routed', ({ version }) => version === route.version);
    this.send({ type: 'route', route });
    await routed;
  }

  #route(): Route {
    this.#version++;
    return { version: this.#version, active: this.#active, activeSince: Date.now(), draining: this.#draining };
  }

  /** The first stats, from now on, that satisfy a condition. What the worker logged before them has been read then. */
  async statsWhen(condition: (stats: WorkerStats) => boolean): Promise<WorkerStats> {
    const asking = setInterval(() => this.#askForStats(), ASK_INTERVAL);
    try {
      const { stats } = await this.message('stats', (each) => condition(each.stats));
      // The log has a pipe of its own, which may come second in this turn.
      await new Promise((resolve) => setImmediate(resolve));
      return stats;
    } finally {
      clearInterval(asking);
    }
  }

  /** Sooner than it reports by itself: it does so after each cut, also of a container that it does not know. */
  #askForStats(): void {
    if (this.process.connected) this.process.send({ type: 'cut', id: 'no container' } satisfies ToWorker, () => {});
  }

  /** Waits until nothing is left of what clients did: no connection is active, nothing in flight, no body kept. */
  async quiet(): Promise<WorkerStats> {
    return this.statsWhen(
      ({ targets, states, buffers }) =>
        targets.every(({ inFlight, upgraded }) => inFlight === 0 && upgraded === 0) &&
        states.active === 0 &&
        states.hijacked === 0 &&
        Object.values(buffers).every((use) => use === 0),
    );
  }

  /** In-flight and upgraded counts of a container in the newest stats; zero when it is not in them. */
  runningOn(target: RouteTarget, stats = this.stats): { inFlight: number; upgraded: number } {
    const { inFlight = 0, upgraded = 0 } = stats?.targets.find(({ id }) => id === target.id) ?? {};
    return { inFlight, upgraded };
  }

  async stop(): Promise<void> {
    this.process.kill('SIGKILL');
    await this.exited;
    for (const socket of this.#sockets) socket.close();
  }
}

interface SocketOptions {
  allowHalfOpen?: boolean;
}

/** TCP sockets below TLS sockets. */
const accepted = new WeakMap<net.Socket, net.Socket>();

/** A connection on which nothing was read yet: over TLS when the tests run over TLS. */
export async function openSocket(t: TestContext, port: number, options: SocketOptions = {}): Promise<net.Socket> {
  if (overTls) return openSecurely(t, port, options, {});
  const socket = dial(port, options);
  t.after(() => socket.destroy());
  await once(socket, 'connect');
  return socket;
}

/** A connection that is just being made, for the caller to end: over TLS when the tests run over TLS. */
export function dial(port: number, options: SocketOptions = {}): net.Socket {
  const below = net.connect({ port, host: '127.0.0.1', noDelay: true, ...options });
  return overTls ? secure(below, {}) : below;
}

function secure(below: net.Socket, options: tls.ConnectionOptions): tls.TLSSocket {
  const ca = testMaterial().certificates.map(({ cert }) => cert);
  const socket = tls.connect({ socket: below, servername: TEST_HOST, ca, ...options });
  accepted.set(socket, below);
  return socket;
}

/** Breaks a connection that was made here with a reset. */
export function reset(socket: net.Socket): void {
  (accepted.get(socket) ?? socket).resetAndDestroy();
}

async function openSecurely(
  t: TestContext,
  port: number,
  options: SocketOptions,
  more: tls.ConnectionOptions,
): Promise<tls.TLSSocket> {
  const below = net.connect({ port, host: '127.0.0.1', noDelay: true, ...options });
  const socket = secure(below, more);
  t.after(() => socket.destroy());
  await once(socket, 'secureConnect');
  return socket;
}

/** A client connection on which tests write and read bytes. */
export class RawClient {
  readonly socket: net.Socket;
  /** Resolves when the connection is closed, however. */
  readonly closed: Promise<void>;
  error: NodeJS.ErrnoException | null = null;
  #chunks: Buffer[] = [];
  #length = 0;

  private constructor(socket: net.Socket) {
    this.socket = socket;
    socket.on('error', (error) => (this.error = error));
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()));
    socket.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#length += chunk.length;
    });
  }

  /** Everything received so far, since it was last set. */
  get received(): Buffer {
    if (this.#chunks.length !== 1) this.#chunks = [Buffer.concat(this.#chunks)];
    return this.#chunks[0] ?? Buffer.alloc(0);
  }

  set received(bytes: Buffer) {
    this.#chunks = [bytes];
    this.#length = bytes.length;
  }

  static async connect(t: TestContext, port: number, options: SocketOptions = {}): Promise<RawClient> {
    return new RawClient(await openSocket(t, port, options));
  }

  /** Over TLS; `options` can say more than that the certificate is to be for TEST_HOST. */
  static async connectSecurely(t: TestContext, port: number, options: tls.ConnectionOptions = {}): Promise<RawClient> {
    return new RawClient(await openSecurely(t, port, {}, options));
  }

  /** Breaks the connection with a reset. */
  reset(): void {
    reset(this.socket);
  }

  send(text: string | Buffer): void {
    if (typeof text === 'string') this.socket.write(text, 'latin1');
    else this.socket.write(text);
  }

  get text(): string {
    return this.received.toString('latin1');
  }

  /** Waits until what was received matches. Rejects when the connection closes before. */
  async until(pattern: RegExp): Promise<string> {
    while (!pattern.test(this.text)) {
      if (this.socket.destroyed) throw new Error(`closed before ${pattern}: ${JSON.stringify(this.text)}`);
      await Promise.race([once(this.socket, 'data'), this.closed]);
    }
    return this.text;
  }

  /** Waits for a response whose body has at least so many bytes. Rejects when the connection closes before. */
  async length(bytes: number): Promise<void> {
    await this.until(/\r\n\r\n/);
    const head = this.received.indexOf('\r\n\r\n') + 4;
    while (this.#length < head + bytes) {
      if (this.socket.destroyed) throw new Error(`closed after ${this.#length - head} of ${bytes} bytes`);
      await Promise.race([once(this.socket, 'data'), this.closed]);
    }
  }

  /** Everything up to the end of the connection. */
  async all(): Promise<string> {
    await this.closed;
    return this.text;
  }
}
