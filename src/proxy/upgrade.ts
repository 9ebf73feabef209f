import type { Duplex } from 'node:stream';
import { WunderproxyError } from '../errors.ts';
import type { Upgraded } from './dispatch.ts';
import type { Exchange } from './exchange.ts';
import type { Occupant, Target } from './target.ts';

/**
 * Connects a client and a container that have changed protocols: bytes flow both ways with backpressure, and each side
 * may end its direction before the other does. Throws `client_closed` when the client has gone meanwhile.
 */
export function tunnel(exchange: Exchange, upgraded: Upgraded): void {
  const { target, socket, reason, fields } = upgraded;
  try {
    if (exchange.over) {
      socket.destroy();
      throw new WunderproxyError('client_closed');
    }
    new Tunnel(target, exchange.switchProtocols(reason, fields), socket).start();
  } finally {
    upgraded.release();
  }
}

class Tunnel implements Occupant {
  readonly #target: Target;
  readonly #client: Duplex;
  readonly #upstream: Duplex;

  constructor(target: Target, client: Duplex, upstream: Duplex) {
    this.#target = target;
    this.#client = client;
    this.#upstream = upstream;
  }

  start(): void {
    this.#target.claimTunnel(this);
    for (const end of [this.#client, this.#upstream]) {
      end.on('error', () => {});
      end.once('close', () => this.#onClose());
    }
    this.#client.pipe(this.#upstream);
    this.#upstream.pipe(this.#client);
    if (this.#client.destroyed || this.#upstream.destroyed) this.cut();
  }

  /** One side is gone for good: the other gets what is on its way to it, then it ends. */
  #onClose(): void {
    if (this.#client.destroyed && this.#upstream.destroyed) return this.#target.releaseTunnel(this);
    const rest = this.#client.destroyed ? this.#upstream : this.#client;
    if (rest.writableFinished || !rest.writable) rest.destroy();
    else rest.end(() => rest.destroy());
  }

  /** A tunnel never drains by itself within a deadline, so the drain timeout ends it. */
  onRetired(): void {}

  cut(): void {
    this.#client.destroy();
    this.#upstream.destroy();
  }
}
