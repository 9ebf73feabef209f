import type { Socket } from 'node:net';
import { type ErrorCode, WunderproxyError } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { Upgraded } from './dispatch.ts';
import type { Place } from './crowd.ts';
import type { Exchange } from './exchange.ts';
import type { Account } from './account.ts';
import type { Sweeper, Watched } from './sweeper.ts';
import type { Occupant, Target } from './target.ts';

/** What tunnels share. */
export interface TunnelContext {
  readonly sweeper: Sweeper;
  readonly log: Logger;
  readonly account: Account;
  /** Without traffic, in ms. */
  readonly tunnelTimeout: number;
}

/**
 * Connects a client and a container that have changed protocols: bytes flow both ways with backpressure, and each side
 * may end its direction before the other does. Throws `client_closed` when the client has gone meanwhile.
 */
export function tunnel(exchange: Exchange, upgraded: Upgraded, context: TunnelContext): void {
  const { target, socket, reason, fields } = upgraded;
  try {
    if (exchange.over) {
      socket.destroy();
      throw new WunderproxyError('client_closed');
    }
    new Tunnel(exchange, target, exchange.switchProtocols(reason, fields), socket, context).start();
  } finally {
    upgraded.release();
  }
}

class Tunnel implements Occupant, Watched {
  readonly #exchange: Exchange;
  readonly #context: TunnelContext;
  readonly #target: Target;
  readonly #client: Socket;
  readonly #upstream: Socket;
  /** At the target. */
  #place: Place<Occupant> | null = null;
  #watch: Place<Watched> | null = null;
  #bytes = 0;
  #noted = false;
  /** What the two sockets had read before they became a tunnel. */
  readonly #readBefore: number;
  readonly #answeredBefore: number;
  #lastAt = performance.now();

  constructor(exchange: Exchange, target: Target, client: Socket, upstream: Socket, context: TunnelContext) {
    this.#exchange = exchange;
    this.#context = context;
    this.#target = target;
    this.#client = client;
    this.#upstream = upstream;
    this.#readBefore = client.bytesRead - client.readableLength;
    this.#answeredBefore = upstream.bytesRead - upstream.readableLength;
  }

  start(): void {
    this.#place = this.#target.claimTunnel(this);
    this.#watch = this.#context.sweeper.watch(this);
    for (const end of [this.#client, this.#upstream]) {
      end.on('error', () => {});
      end.once('close', () => this.#onClose());
    }
    this.#client.pipe(this.#upstream);
    this.#upstream.pipe(this.#client);
    if (this.#client.destroyed || this.#upstream.destroyed) this.#break();
  }

  /** One side is gone for good: the other gets what is on its way to it, then it ends. */
  #onClose(): void {
    if (this.#client.destroyed && this.#upstream.destroyed) {
      this.#context.sweeper.forget(this.#watch);
      this.#target.releaseTunnel(this.#place);
      return this.#note();
    }
    const rest = this.#client.destroyed ? this.#upstream : this.#client;
    if (rest.writableFinished || !rest.writable) rest.destroy();
    else rest.end(() => rest.destroy());
  }

  #note(): void {
    if (this.#noted) return;
    this.#noted = true;
    const { trace } = this.#exchange;
    trace.bodyIn += this.#client.bytesRead - this.#readBefore;
    trace.bytesIn += this.#client.bytesRead - this.#readBefore;
    trace.bodyOut += this.#upstream.bytesRead - this.#answeredBefore;
    trace.bytesOut += this.#upstream.bytesRead - this.#answeredBefore;
    this.#context.account.endTunnel(this.#exchange);
  }

  checkDeadline(now: number): void {
    const bytes = this.#client.bytesRead + this.#upstream.bytesRead;
    if (bytes !== this.#bytes) {
      this.#bytes = bytes;
      this.#lastAt = now;
    } else if (now - this.#lastAt >= this.#context.tunnelTimeout) {
      this.#context.log.info(
        { code: 'tunnel_timeout' satisfies ErrorCode, request: this.#exchange.id },
        'tunnel closed',
      );
      this.#exchange.trace.failure = 'tunnel_timeout';
      this.#break();
    }
  }

  /** A tunnel never drains by itself within a deadline, so the drain timeout ends it. */
  onRetired(): void {}

  cut(): void {
    this.#exchange.trace.failure ??= 'drain_timeout';
    this.#break();
  }

  #break(): void {
    this.#client.destroy();
    this.#upstream.destroy();
  }
}
