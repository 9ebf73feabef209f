import { type ChildProcess, fork } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import * as net from 'node:net';
import type { TestContext } from 'node:test';
import { parseCommandLine } from '../../../src/config.ts';
import type {
  DrainingTarget,
  FromWorker,
  Route,
  RouteTarget,
  ToWorker,
  WorkerConfig,
  WorkerStats,
} from '../../../src/messages.ts';
import { workerSettings } from '../../../src/traffic-options.ts';

const MODULE = new URL('../../../src/proxy/worker.ts', import.meta.url);
/** stdin, stdout, stderr and the message channel come first. */
const INHERITED_FD = 4;

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
}

/** A real worker process behind a stand-in for the primary that speaks the real messages. */
export class TestWorker {
  readonly port: number;
  readonly process: ChildProcess;
  readonly socket: net.BoundSocket;
  /** Resolves with how it ended. */
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  readonly messages: FromWorker[] = [];
  /** What it wrote to stdout and stderr. */
  output = '';
  stats: WorkerStats | null = null;
  readonly #events = new EventEmitter();
  readonly #ownsSocket: boolean;
  #version = 0;
  #active: RouteTarget | null;
  #draining: DrainingTarget[];

  private constructor(options: WorkerOptions) {
    this.#events.setMaxListeners(0);
    this.#ownsSocket = options.socket === undefined;
    this.socket = options.socket ?? new net.BoundSocket({ host: '127.0.0.1', port: 0, reusePort: true });
    this.port = this.socket.address().port;
    this.#active = options.route?.active ?? null;
    this.#draining = options.route?.draining ?? [];
    this.process = fork(MODULE, [], {
      env: { PATH: process.env['PATH'] ?? '', ...options.env },
      execArgv: ['--import', 'tsx'],
      stdio: [
        'ignore',
        'pipe',
        'pipe',
        'ipc',
        this.socket.fd(),
        ...(options.accessLog === undefined ? [] : [options.accessLog]),
      ],
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
      this.#events.emit('message', message);
    });
  }

  /** A worker that listens. With a test it ends with the test, else `stop` must be called. */
  static async start(t: TestContext | null, options: WorkerOptions = {}): Promise<TestWorker> {
    const worker = new TestWorker(options);
    t?.after(() => worker.stop());
    const { flags = [], user = null } = options;
    const settings = workerSettings(parseCommandLine([...flags, 'file:///bucket', 'test', 'app'], '0'), 1);
    const accessLog =
      options.accessLog === undefined ? null : { fd: INHERITED_FD + 1, query: options.logQuery ?? true };
    const config: WorkerConfig = { slot: 1, proxyFd: INHERITED_FD, user, accessLog, ...settings };
    worker.send({ type: 'start', config, route: worker.#route() });
    try {
      await worker.message('listening');
    } catch (error) {
      await worker.stop();
      throw error;
    }
    return worker;
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

  /** The first stats, from now on, that satisfy a condition. */
  async statsWhen(condition: (stats: WorkerStats) => boolean): Promise<WorkerStats> {
    return (await this.message('stats', ({ stats }) => condition(stats))).stats;
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
    if (this.#ownsSocket) this.socket.close();
  }
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

  static async connect(t: TestContext, port: number, options: { allowHalfOpen?: boolean } = {}): Promise<RawClient> {
    const socket = net.connect({ port, host: '127.0.0.1', noDelay: true, ...options });
    t.after(() => socket.destroy());
    await once(socket, 'connect');
    return new RawClient(socket);
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
