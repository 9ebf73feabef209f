import * as net from 'node:net';
import { unmapped } from '../cidr.ts';
import type { ErrorCode } from '../errors.ts';
import type { ConnectionStates, WorkerLimits } from '../messages.ts';
import type { Exchange } from './exchange.ts';
import { type ClientTimeouts, type ConnectionState, Http1Connection, type Http1Host } from './http1.ts';
import type { Sweeper } from './sweeper.ts';

/** What a listener lets in. */
export type ConnectionLimits = Pick<WorkerLimits, 'connections' | 'connectionsPerAddress'>;

/** What becomes of the requests. */
export interface ListenerEvents {
  serve(exchange: Exchange): void;
  refuse(exchange: Exchange, code: ErrorCode): void;
  /** A retiring listener has no connection left. */
  onEmpty(): void;
}

/** Connections may wait in the kernel until they are accepted; more than this is cut down by net.core.somaxconn. */
const BACKLOG = 4_096;

/** The inherited listening socket and all client connections with their states. */
export class Listener implements Http1Host {
  readonly timeouts: ClientTimeouts;
  readonly states: ConnectionStates = { new: 0, active: 0, idle: 0, hijacked: 0 };
  accepted = 0;
  closed = 0;
  retiring = false;
  readonly #limits: ConnectionLimits;
  readonly #sweeper: Sweeper;
  readonly #events: ListenerEvents;
  readonly #server: net.Server;
  readonly #connections = new Set<Http1Connection>();
  readonly #byAddress = new Map<string, number>();

  constructor(timeouts: ClientTimeouts, limits: ConnectionLimits, sweeper: Sweeper, events: ListenerEvents) {
    this.timeouts = timeouts;
    this.#limits = limits;
    this.#sweeper = sweeper;
    this.#events = events;
    // Half-open: a client that closes its side gets no automatic end before its answer was dealt with.
    this.#server = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#onSocket(socket));
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

  /** All connections, or only those that are not idle. */
  connectionsLeft(butIdle: boolean): Http1Connection[] {
    return [...this.#connections].filter((connection) => !butIdle || connection.state !== 'idle');
  }

  #onSocket(socket: net.Socket): void {
    const address = socket.remoteAddress === undefined ? null : unmapped(socket.remoteAddress);
    this.accepted++;
    if (!this.#admit(address)) {
      // Without an answer: whoever opens too many would only make us work for it.
      this.closed++;
      socket.destroy();
      return;
    }
    const connection = new Http1Connection(socket, address, 'http', this);
    this.#connections.add(connection);
    this.#sweeper.watch(connection);
  }

  /** Counts a connection, unless there are too many. Behind a unix socket clients have no address. */
  #admit(address: string | null): boolean {
    if (this.#connections.size >= this.#limits.connections) return false;
    if (this.#limits.connectionsPerAddress === null || address === null) return true;
    const count = this.#byAddress.get(address) ?? 0;
    if (count >= this.#limits.connectionsPerAddress) return false;
    this.#byAddress.set(address, count + 1);
    return true;
  }

  #discharge(address: string | null): void {
    if (address === null) return;
    const count = this.#byAddress.get(address) ?? 0;
    if (count > 1) this.#byAddress.set(address, count - 1);
    else this.#byAddress.delete(address);
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
    this.#sweeper.forget(connection);
    this.#discharge(connection.client.address);
    if (this.retiring && this.#connections.size === 0) this.#events.onEmpty();
  }
}
