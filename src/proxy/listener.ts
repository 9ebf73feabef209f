import * as net from 'node:net';
import type { ErrorCode } from '../errors.ts';
import type { ConnectionStates, WorkerTimeouts } from '../messages.ts';
import type { Exchange } from './exchange.ts';
import { type ConnectionState, Http1Connection, type Http1Host } from './http1.ts';

/** How long clients may take. */
export type ClientTimeouts = Pick<WorkerTimeouts, 'header' | 'keepAlive'>;

/** What becomes of the requests. */
export interface ListenerEvents {
  serve(exchange: Exchange): void;
  refuse(exchange: Exchange, code: ErrorCode): void;
  /** A retiring listener has no connection left. */
  onEmpty(): void;
}

/** Connections may wait in the kernel until they are accepted; more than this is cut down by net.core.somaxconn. */
const BACKLOG = 4_096;
/** Deadlines are looked at this often (ms), or four times within the shortest one. */
const SWEEP_INTERVAL = 1_000;

/** The inherited listening socket and all client connections with their states. */
export class Listener implements Http1Host {
  readonly headerTimeout: number;
  readonly keepAliveTimeout: number;
  readonly states: ConnectionStates = { new: 0, active: 0, idle: 0, hijacked: 0 };
  accepted = 0;
  closed = 0;
  retiring = false;
  readonly #events: ListenerEvents;
  readonly #server: net.Server;
  readonly #connections = new Set<Http1Connection>();
  readonly #sweeper: NodeJS.Timeout;

  constructor(timeouts: ClientTimeouts, events: ListenerEvents) {
    this.headerTimeout = timeouts.header;
    this.keepAliveTimeout = timeouts.keepAlive;
    this.#events = events;
    // Half-open: a client that closes its side gets no automatic end before its answer was dealt with.
    this.#server = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#onSocket(socket));
    const interval = Math.min(SWEEP_INTERVAL, Math.ceil(Math.min(timeouts.header, timeouts.keepAlive) / 4));
    this.#sweeper = setInterval(() => this.#sweep(), interval);
    this.#sweeper.unref();
  }

  /** Accepts on an inherited socket from now on. Rejects when that can't be listened on. */
  async listen(fd: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen({ fd, backlog: BACKLOG }, () => {
        this.#server.off('error', reject);
        resolve();
      });
    });
  }

  get connections(): number {
    return this.#connections.size;
  }

  /**
   * Stops accepting; every connection closes after its next response. With `keepIdle` idle ones wait for that (or for
   * their idle timeout), without it they are closed at once.
   */
  retire(keepIdle: boolean): void {
    if (!this.retiring) {
      this.retiring = true;
      this.#server.close();
    }
    if (!keepIdle) for (const connection of this.#connections) connection.retire();
    if (this.#connections.size === 0) this.#events.onEmpty();
  }

  /** Breaks off whatever is left. */
  destroyAll(): void {
    for (const connection of this.#connections) connection.destroy();
  }

  #onSocket(socket: net.Socket): void {
    this.accepted++;
    this.#connections.add(new Http1Connection(socket, 'http', this));
  }

  #sweep(): void {
    const now = Date.now();
    for (const connection of this.#connections) connection.checkDeadline(now);
  }

  serve(exchange: Exchange): void {
    this.#events.serve(exchange);
  }

  refuse(exchange: Exchange, code: ErrorCode): void {
    this.#events.refuse(exchange, code);
  }

  onState(from: ConnectionState | null, to: ConnectionState | null): void {
    if (from !== null) this.states[from]--;
    if (to !== null) this.states[to]++;
  }

  onClosed(connection: Http1Connection): void {
    this.closed++;
    this.#connections.delete(connection);
    if (this.retiring && this.#connections.size === 0) this.#events.onEmpty();
  }
}
