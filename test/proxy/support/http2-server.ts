import { once } from 'node:events';
import * as net from 'node:net';
import type { TestContext } from 'node:test';
import { parseCommandLine } from '../../../src/config.ts';
import { createLogger } from '../../../src/log.ts';
import type { ConnectionStates, RouteTarget, WorkerConfig } from '../../../src/messages.ts';
import { Account } from '../../../src/proxy/account.ts';
import type { Exchange } from '../../../src/proxy/exchange.ts';
import { trustIn } from '../../../src/proxy/headers.ts';
import { Http2Connection, type Http2Host } from '../../../src/proxy/http2.ts';
import { type PipelineContext, refuse, serve } from '../../../src/proxy/pipeline.ts';
import { Router } from '../../../src/proxy/router.ts';
import { Spool } from '../../../src/proxy/spool.ts';
import { Sweeper } from '../../../src/proxy/sweeper.ts';
import { workerSettings } from '../../../src/traffic-options.ts';

const SWEEP_INTERVAL = 50;

/** HTTP/2 without TLS in front of the real pipeline, in the process of the test, so that every count can be looked at. */
export class Http2Server implements Http2Host {
  readonly timeouts: WorkerConfig['timeouts'];
  readonly states: ConnectionStates = { new: 0, active: 0, idle: 0, hijacked: 0 };
  readonly connections = new Set<Http2Connection>();
  readonly account = new Account(createLogger('worker'));
  readonly spool: Spool;
  readonly router: Router;
  /** Requests that were given to the pipeline, or refused. */
  readonly exchanges: Exchange[] = [];
  readonly #context: PipelineContext;
  readonly #sweeper = new Sweeper(SWEEP_INTERVAL);
  readonly #server: net.Server;
  #version = 1;

  private constructor(flags: string[]) {
    const settings = workerSettings(parseCommandLine([...flags, 'file:///bucket', 'test', 'app'], '0'), 1);
    const { timeouts, limits } = settings;
    this.timeouts = timeouts;
    this.spool = new Spool(settings.spool);
    this.router = new Router(timeouts, () => {});
    this.#context = {
      router: this.router,
      account: this.account,
      spool: this.spool,
      sweeper: this.#sweeper,
      limits: {
        body: limits.body,
        bodyRate: limits.bodyRate,
        bodyTimeout: timeouts.body,
        hosts: settings.hosts.length === 0 ? null : new Set(settings.hosts),
      },
      tunnelTimeout: timeouts.tunnel,
      trust: trustIn(settings.trustedProxies),
      log: createLogger('worker'),
    };
    this.#server = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      const connection = new Http2Connection(socket, socket.remoteAddress ?? null, 'http', this);
      this.connections.add(connection);
      this.#sweeper.watch(connection);
    });
  }

  static async start(t: TestContext | null, active: RouteTarget | null, flags: string[] = []): Promise<Http2Server> {
    const server = new Http2Server(flags);
    server.switchTo(active);
    server.#server.listen(0, '127.0.0.1');
    await once(server.#server, 'listening');
    t?.after(() => server.stop());
    return server;
  }

  get port(): number {
    return (this.#server.address() as net.AddressInfo).port;
  }

  switchTo(active: RouteTarget | null): void {
    this.#version++;
    this.router.update({ version: this.#version, active, activeSince: Date.now(), draining: [] });
  }

  serve(exchange: Exchange): void {
    this.exchanges.push(exchange);
    void serve(exchange, this.#context);
  }

  refuse(exchange: Exchange, code: Parameters<Http2Host['refuse']>[1]): void {
    this.exchanges.push(exchange);
    void refuse(exchange, code, this.#context);
  }

  onState(from: keyof ConnectionStates | null, to: keyof ConnectionStates | null): void {
    if (from !== null) this.states[from]--;
    if (to !== null) this.states[to]++;
  }

  onClosed(connection: Http2Connection): void {
    this.connections.delete(connection);
    this.#sweeper.forget(connection);
  }

  async stop(): Promise<void> {
    for (const connection of this.connections) connection.destroy();
    if (!this.#server.listening) return;
    this.#server.close();
    this.switchTo(null);
    if (this.connections.size > 0) await once(this.#server, 'close');
  }
}
