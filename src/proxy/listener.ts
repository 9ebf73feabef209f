import * as net from 'node:net';
import type { TLSSocket } from 'node:tls';
import { networkOf, unmapped } from '../cidr.ts';
import type { ErrorCode } from '../errors.ts';
import type { TlsMaterial, WorkerLimits } from '../worker-config.ts';
import type { ConnectionStates } from '../worker-stats.ts';
import type { Client, Exchange } from './exchange.ts';
import { Crowd } from './crowd.ts';
import { Handshake } from './handshake.ts';
import {
  type ClientConnection,
  type ClientTimeouts,
  type ConnectionState,
  Http1Connection,
  type Http1Host,
} from './http1.ts';
import { Http2Connection, type Http2Host } from './http2.ts';
import type { Sweeper, Watched } from './sweeper.ts';
import { TlsTerminator } from './tls.ts';

/** What a listener lets in. */
export type ConnectionLimits = Pick<WorkerLimits, 'connections' | 'connectionsPerAddress'>;

/** What becomes of the requests. */
export interface ListenerEvents {
  serve(exchange: Exchange): void;
  refuse(exchange: Exchange, code: ErrorCode): void;
  /** A client is cut off because it makes work without end. */
  onAbuse(client: Client, reason: string): void;
  /** A retiring listener has no connection left. */
  onEmpty(): void;
}

/** Connections may wait in the kernel until they are accepted; more than this is cut down by net.core.somaxconn. */
const BACKLOG = 4_096;

/** What a client gets that speaks plain HTTP where TLS is spoken: most often a person who has mistyped the address. */
const PLAIN_ON_TLS =
  'HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 32\r\nConnection: close\r\n\r\n' +
  'This port speaks TLS: https://.\n';

/** The inherited listening sockets and all client connections with their states. */
export class Listener implements Http1Host, Http2Host, Watched {
  readonly timeouts: ClientTimeouts;
  readonly states: ConnectionStates = { new: 0, active: 0, idle: 0, hijacked: 0 };
  accepted = 0;
  closed = 0;
  /** Connections and streams that there were too many of, by the option that decided. */
  readonly turnedAway: Record<string, number> = {};
  /** Clients that were cut off. */
  cutOff = 0;
  retiring = false;
  readonly #limits: ConnectionLimits;
  readonly #events: ListenerEvents;
  readonly #servers: net.Server[] = [];
  readonly #connections = new Crowd<ClientConnection>();
  readonly #handshakes = new WeakMap<net.Socket, Handshake>();
  readonly #terminator: TlsTerminator | null;
  readonly #byNetwork = new Map<string, number>();
  /** Requests by HTTP/2 that are open. */
  #streams = 0;

  /** @param tls null when only plain HTTP is served */
  constructor(
    timeouts: ClientTimeouts,
    limits: ConnectionLimits,
    sweeper: Sweeper,
    events: ListenerEvents,
    tls: TlsMaterial | null = null,
  ) {
    this.timeouts = timeouts;
    this.#limits = limits;
    sweeper.watch(this);
    this.#events = events;
    this.#terminator =
      tls &&
      new TlsTerminator(
        tls,
        (secured, accepted) => this.#onSecure(secured, accepted),
        (error, accepted) => this.#onHandshakeFailure(error, accepted),
      );
  }

  /**
   * Accepts on inherited sockets from now on. Rejects when they can't be listened on. Connections on which requests are
   * read are half-open: a client that closes its side gets no automatic end before its answer was dealt with.
   */
  async listen(proxyFd: number, tlsFd: number | null = null): Promise<void> {
    const listening = [this.#listen(proxyFd, true, (socket) => this.#onPlain(socket))];
    // Who closes its side before the handshake is done wants nothing any more.
    if (tlsFd !== null) listening.push(this.#listen(tlsFd, false, (socket) => this.#onTls(socket)));
    await Promise.all(listening);
  }

  async #listen(fd: number, allowHalfOpen: boolean, onSocket: (socket: net.Socket) => void): Promise<void> {
    const server = net.createServer({ allowHalfOpen, noDelay: true }, onSocket);
    this.#servers.push(server);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ fd, backlog: BACKLOG }, () => {
        server.off('error', reject);
        resolve();
      });
    });
  }

  /** For handshakes from now on. */
  setTls(material: TlsMaterial): void {
    this.#terminator?.update(material);
  }

  /**
   * Stops accepting; every connection closes after its next response. With `keepIdle` idle ones wait for that (or for
   * their idle timeout), without it they are closed at once.
   */
  retire(keepIdle: boolean): void {
    if (!this.retiring) {
      this.retiring = true;
      for (const server of this.#servers) server.close();
    }
    for (const connection of this.#connections) {
      // HTTP/2 can ask clients to go without losing a request: they need not be waited for.
      if (!keepIdle || connection instanceof Http2Connection) connection.retire();
    }
    if (this.#connections.size === 0) this.#events.onEmpty();
  }

  /** All connections, or only those that are not idle. */
  connectionsLeft(butIdle: boolean): ClientConnection[] {
    return [...this.#connections].filter((connection) => !butIdle || connection.state !== 'idle');
  }

  #onPlain(socket: net.Socket): void {
    const address = this.#accept(socket);
    if (address === undefined) return;
    this.#add(new Http1Connection(socket, socket, address, 'http', this));
  }

  #onTls(socket: net.Socket): void {
    const address = this.#accept(socket);
    if (address === undefined || this.#terminator === null) return;
    const handshake = new Handshake(socket, address, this);
    this.#handshakes.set(socket, handshake);
    this.#add(handshake);
    this.#terminator.accept(socket);
  }

  #onSecure(secured: TLSSocket, accepted: net.Socket): void {
    const handshake = this.#handshakes.get(accepted);
    if (handshake?.finish() !== true) return void accepted.destroy();
    this.#remove(handshake);
    secured.allowHalfOpen = true;
    this.#add(this.#speak(secured, accepted, handshake.client.address));
  }

  /** The protocol that was agreed on by ALPN; a client without ALPN speaks HTTP/1. */
  #speak(secured: TLSSocket, accepted: net.Socket, address: string | null): ClientConnection {
    if (secured.alpnProtocol === 'h2') return new Http2Connection(secured, address, 'https', this);
    return new Http1Connection(secured, accepted, address, 'https', this);
  }

  /** Not a word in the log: scanners do nothing else. */
  #onHandshakeFailure(error: NodeJS.ErrnoException, accepted: net.Socket): void {
    if (error.code === 'ERR_SSL_HTTP_REQUEST' && accepted.writable) accepted.write(PLAIN_ON_TLS, 'latin1');
    accepted.destroy();
  }

  /** The client's address, null behind a unix socket; undefined when it is not let in. */
  #accept(socket: net.Socket): string | null | undefined {
    const address = socket.remoteAddress === undefined ? null : unmapped(socket.remoteAddress);
    this.accepted++;
    if (this.#admit(address)) return address;
    // Without an answer: whoever opens too many would only make us work for it.
    this.closed++;
    socket.destroy();
    return undefined;
  }

  #add(connection: ClientConnection): void {
    connection.place = this.#connections.join(connection);
  }

  #remove(connection: ClientConnection): void {
    this.#connections.leave(connection.place);
  }

  /** Counts a connection, unless there are too many. Behind a unix socket clients have no address. */
  #admit(address: string | null): boolean {
    if (this.#connections.size >= this.#limits.connections) return this.#turnAway('--max-connections');
    if (this.#limits.connectionsPerAddress === null || address === null) return true;
    const network = networkOf(address);
    const count = this.#byNetwork.get(network) ?? 0;
    if (count >= this.#limits.connectionsPerAddress) return this.#turnAway('--max-connections-per-ip');
    this.#byNetwork.set(network, count + 1);
    return true;
  }

  #turnAway(option: string): false {
    this.turnedAway[option] = (this.turnedAway[option] ?? 0) + 1;
    return false;
  }

  #discharge(address: string | null): void {
    if (this.#limits.connectionsPerAddress === null || address === null) return;
    const network = networkOf(address);
    const count = this.#byNetwork.get(network) ?? 0;
    if (count > 1) this.#byNetwork.set(network, count - 1);
    else this.#byNetwork.delete(network);
  }

  checkDeadline(now: number): void {
    for (const connection of this.#connections) connection.checkDeadline(now);
  }

  serve(exchange: Exchange): void {
    this.#events.serve(exchange);
  }

  refuse(exchange: Exchange, code: ErrorCode): void {
    this.#events.refuse(exchange, code);
  }

  /**
   * One connection may carry many requests by HTTP/2: a worker takes as many at once as it would take connections. More
   * are refused in a way that tells the client that it can try again.
   */
  admitStream(): boolean {
    return this.#streams < this.#limits.connections || this.#turnAway('--max-connections');
  }

  onStream(): void {
    this.#streams++;
  }

  onStreamEnd(): void {
    this.#streams--;
  }

  onAbuse(client: Client, reason: string): void {
    this.cutOff++;
    this.#events.onAbuse(client, reason);
  }

  onState(from: ConnectionState | null, to: ConnectionState | null): void {
    if (from !== null) this.states[from]--;
    if (to !== null) this.states[to]++;
  }

  onClosed(connection: ClientConnection): void {
    this.closed++;
    this.#remove(connection);
    this.#discharge(connection.client.address);
    if (this.retiring && this.#connections.size === 0) this.#events.onEmpty();
  }
}
