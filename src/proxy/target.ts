import type { ConnectionOptions } from 'node:tls';
import type { RouteTarget } from '../messages.ts';
import { Crowd, type Place } from './crowd.ts';
import type { Sweeper } from './sweeper.ts';
import type { Tally } from './tally.ts';
import { type ConnectionKeeper, UpstreamConnection } from './upstream-connection.ts';
import type { UpstreamTimeouts } from './upstream-request.ts';

/** Something that runs on a target and can be told to leave it. */
export interface Occupant {
  /** The target is not current any more: what was not written to it yet must go elsewhere, at once. */
  onRetired(): void;
  /** The drain deadline has passed: break off. */
  cut(): void;
}

/** A container, or a peer, at an address: its connections, what runs on it, its counters. Dropping it drops all of that. */
export class Target implements ConnectionKeeper {
  readonly id: string;
  readonly address: RouteTarget['address'];
  readonly tally: Tally;
  readonly #timeouts: UpstreamTimeouts;
  readonly #sweeper: Sweeper;
  /** How its certificate is checked; null: plain HTTP. */
  readonly #secure: ConnectionOptions | null;
  readonly #inFlight = new Crowd<Occupant>();
  readonly #tunnels = new Crowd<Occupant>();
  /** Idle connections, the most recently used last. */
  readonly #free: UpstreamConnection[] = [];
  readonly #onIdle: () => void;
  #retired = false;

  /** `onIdle` is called when the last of what ran on a retired target has ended. */
  constructor(
    route: RouteTarget,
    tally: Tally,
    timeouts: UpstreamTimeouts,
    sweeper: Sweeper,
    onIdle: () => void,
    secure: ConnectionOptions | null = null,
  ) {
    this.id = route.id;
    this.address = route.address;
    this.tally = tally;
    this.#timeouts = timeouts;
    this.#sweeper = sweeper;
    this.#secure = secure;
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

  /** A request that is sent to it; returned is what `release` wants. */
  claim(request: Occupant): Place<Occupant> {
    return this.#inFlight.join(request);
  }

  release(place: Place<Occupant> | null): void {
    if (this.#inFlight.leave(place)) this.#checkIdle();
  }

  /** A request that has become a tunnel; returned is what `releaseTunnel` wants. */
  claimTunnel(tunnel: Occupant): Place<Occupant> {
    return this.#tunnels.join(tunnel);
  }

  releaseTunnel(place: Place<Occupant> | null): void {
    if (this.#tunnels.leave(place)) this.#checkIdle();
  }

  #checkIdle(): void {
    if (this.#retired && this.idle) this.#onIdle();
  }

  /** The most recently used idle connection, or a new one. */
  takeConnection(): UpstreamConnection {
    for (let i = this.#free.length; i > 0; i--) {
      const connection = this.#free.pop();
      if (connection?.free === true) return connection;
      // It has waited too long, or is being closed.
      connection?.destroy();
    }
    return this.newConnection(false);
  }

  /** @param tunnel whether it may become a tunnel */
  newConnection(tunnel: boolean): UpstreamConnection {
    return new UpstreamConnection(this.address, this.#secure, tunnel, this.#timeouts, this.#sweeper, this);
  }

  onFree(connection: UpstreamConnection): void {
    if (this.#retired) connection.destroy();
    else this.#free.push(connection);
  }

  onGone(connection: UpstreamConnection): void {
    const at = this.#free.indexOf(connection);
    if (at !== -1) this.#free.splice(at, 1);
  }

  /** No new request may reach it. What was written goes on; what was not is sent elsewhere before this returns. */
  retire(): void {
    if (this.#retired) return;
    this.#retired = true;
    for (const connection of this.#free.splice(0)) connection.destroy();
    for (const occupant of this.#inFlight) occupant.onRetired();
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
