import * as net from 'node:net';
import * as tls from 'node:tls';
import { Client, type buildConnector } from 'undici';
import type { RouteTarget, WorkerTimeouts } from '../messages.ts';
import { formatHostPort } from '../units.ts';
import type { Tally } from './tally.ts';

/** How long to wait for a container. */
export type UpstreamTimeouts = Pick<WorkerTimeouts, 'connect' | 'response' | 'responseIdle'>;

/** Something that runs on a target and can be told to leave it. */
export interface Occupant {
  /** The target is not current any more: what was not written to it yet must go elsewhere, at once. */
  onRetired(): void;
  /** The drain deadline has passed: break off. */
  cut(): void;
}

/**
 * Idle connections without a hint from the container live so long (ms): some servers close theirs after 2 s, and a
 * request that meets a closing connection may be lost.
 */
const IDLE_WITHOUT_HINT = 1_000;
/** A `Keep-Alive: timeout=N` is used up to this margin (ms). */
const HINT_MARGIN = 1_000;
const IDLE_AT_MOST = 60_000;
/** A response's head may be so large (bytes). */
const MAX_RESPONSE_HEAD = 64 * 1024;

const noop = (): void => {};

/** One connection to a container: an undici client that is given one request at a time. */
export class UpstreamConnection {
  readonly client: Client;
  readonly #target: Target;
  #socket: net.Socket | null = null;
  /** Whether a request has been written to the present socket. */
  used = false;

  constructor(target: Target, timeouts: UpstreamTimeouts) {
    this.#target = target;
    const { host, port } = target.address;
    this.client = new Client(`http://${formatHostPort(host, port)}`, {
      pipelining: 1,
      allowH2: false,
      headersTimeout: timeouts.response,
      bodyTimeout: timeouts.responseIdle,
      keepAliveTimeout: IDLE_WITHOUT_HINT,
      keepAliveTimeoutThreshold: HINT_MARGIN,
      keepAliveMaxTimeout: IDLE_AT_MOST,
      maxHeaderSize: MAX_RESPONSE_HEAD,
      connect: (_options, callback) => this.#connect(host, port, timeouts.connect, callback),
    });
  }

  /** Whether the present socket could take a request. */
  get alive(): boolean {
    return this.#socket !== null && !this.#socket.destroyed;
  }

  /** Whether it ended in another way than by an orderly close. */
  get broken(): boolean {
    return this.#socket !== null && this.#socket.errored !== null && !this.overran;
  }

  /** Whether bytes came that belong to no response: the last one may not have been what it seemed. */
  get overran(): boolean {
    return this.#socket?.errored?.message === 'bad response';
  }

  #connect(host: string, port: number, timeout: number, callback: buildConnector.Callback): void {
    // Half-open, so that a tunnel's two directions can end one after the other.
    const { secure } = this.#target;
    const options = { host, port, noDelay: true, allowHalfOpen: true };
    const socket = secure === null ? net.connect(options) : tls.connect({ ...options, ...nameIn(host), ...secure });
    this.#socket = socket;
    this.used = false;
    const timer = setTimeout(() => {
      socket.destroy(Object.assign(new Error('connect timeout'), { code: 'ETIMEDOUT' }));
    }, timeout);
    let answered = false;
    socket.once(secure === null ? 'connect' : 'secureConnect', () => {
      clearTimeout(timer);
      answered = true;
      callback(null, socket);
    });
    socket.on('error', (error) => {
      clearTimeout(timer);
      if (answered) return;
      answered = true;
      callback(error, null);
    });
    socket.once('close', () => {
      clearTimeout(timer);
      this.#target.forget(this);
    });
  }

  /** Ends it once the request that is just ending has left it. */
  close(): void {
    this.client.close(noop);
  }

  /** Ends it at once; a request that waits on it fails with `reason`. */
  destroy(reason: Error | null): void {
    // undici does not close a socket that is still connecting.
    if (this.#socket?.connecting === true) this.#socket.destroy();
    this.client.destroy(reason, noop);
  }
}

/** The name that a server's certificate is chosen by, which no address is (RFC 6066 section 3). */
function nameIn(host: string): { servername?: string } {
  return net.isIP(host) === 0 ? { servername: host } : {};
}

/** A container, or a peer, at an address: its connections, what runs on it, its counters. Dropping it drops all of that. */
export class Target {
  readonly id: string;
  readonly address: RouteTarget['address'];
  readonly tally: Tally;
  readonly timeouts: UpstreamTimeouts;
  /** How its certificate is checked; null: plain HTTP. */
  readonly secure: tls.ConnectionOptions | null;
  readonly #inFlight = new Set<Occupant>();
  readonly #tunnels = new Set<Occupant>();
  /** Idle connections, the most recently used last. */
  readonly #free: UpstreamConnection[] = [];
  readonly #onIdle: () => void;
  #retired = false;

  /** `onIdle` is called when the last of what ran on a retired target has ended. */
  constructor(
    route: RouteTarget,
    tally: Tally,
    timeouts: UpstreamTimeouts,
    onIdle: () => void,
    secure: tls.ConnectionOptions | null = null,
  ) {
    this.id = route.id;
    this.address = route.address;
    this.tally = tally;
    this.timeouts = timeouts;
    this.secure = secure;
    this.#onIdle = onIdle;
  }

  get inFlight(): number {
    return this.#inFlight.size;
  }

  get upgraded(): number {
    return this.#tunnels.size;
  }

  get idle(): boolean {
    return this.#inFlight.size === 0 && this.#tunnels.size === 0;
  }

  /** Whether it takes no new requests. */
  get retired(): boolean {
    return this.#retired;
  }

  claim(occupant: Occupant): void {
    this.#inFlight.add(occupant);
  }

  release(occupant: Occupant): void {
    if (this.#inFlight.delete(occupant)) this.#checkIdle();
  }

  /** A request has become a tunnel, or a tunnel has ended. */
  claimTunnel(tunnel: Occupant): void {
    this.#tunnels.add(tunnel);
  }

  releaseTunnel(tunnel: Occupant): void {
    if (this.#tunnels.delete(tunnel)) this.#checkIdle();
  }

  #checkIdle(): void {
    if (this.#retired && this.idle) this.#onIdle();
  }

  /** The most recently used idle connection, or a new one. */
  takeConnection(fresh: boolean): UpstreamConnection {
    if (!fresh) {
      for (let i = this.#free.length; i > 0; i--) {
        const connection = this.#free.pop();
        if (connection?.alive === true) return connection;
      }
    }
    return new UpstreamConnection(this, this.timeouts);
  }

  /** Takes back a connection whose request has ended. */
  returnConnection(connection: UpstreamConnection): void {
    if (!connection.alive) return;
    if (this.#retired) connection.close();
    else this.#free.push(connection);
  }

  /** A connection's socket has closed. */
  forget(connection: UpstreamConnection): void {
    const at = this.#free.indexOf(connection);
    if (at !== -1) this.#free.splice(at, 1);
  }

  /** No new request may reach it. What was written goes on; what was not is sent elsewhere before this returns. */
  retire(): void {
    if (this.#retired) return;
    this.#retired = true;
    for (const connection of this.#free.splice(0)) connection.destroy(null);
    for (const occupant of [...this.#inFlight]) occupant.onRetired();
  }

  /** Takes new requests again. */
  reinstate(): void {
    this.#retired = false;
  }

  /** Breaks off everything that runs on it. */
  cut(): void {
    for (const occupant of [...this.#inFlight, ...this.#tunnels]) occupant.cut();
  }
}
