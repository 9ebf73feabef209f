import type { Socket } from 'node:net';
import type { Place } from './crowd.ts';
import type { Client } from './exchange.ts';
import type { ClientConnection, ConnectionState, Http1Host } from './http1.ts';

/** When the worker retires, a handshake and a first request may take so long (ms). */
const RETIRE_GRACE = 1_000;

/** A connection whose TLS handshake is under way: counted and timed like any other. */
export class Handshake implements ClientConnection {
  readonly client: Client;
  place: Place<ClientConnection> | null = null;
  readonly #socket: Socket;
  readonly #host: Http1Host;
  #state: ConnectionState | null = 'new';
  #deadline: number;

  /** @param address the client's, without an IPv4-mapped prefix; null behind a unix socket */
  constructor(socket: Socket, address: string | null, host: Http1Host) {
    this.#socket = socket;
    this.#host = host;
    this.client = { address, localAddress: null, scheme: 'https' };
    this.#deadline = performance.now() + host.timeouts.header;
    host.onState(null, 'new');
    socket.on('error', () => {});
    socket.once('close', () => {
      if (this.finish()) host.onClosed(this);
    });
  }

  get state(): ConnectionState | null {
    return this.#state;
  }

  checkDeadline(now: number): void {
    if (now >= this.#deadline) this.#socket.destroy();
  }

  retire(): void {
    this.#deadline = Math.min(this.#deadline, performance.now() + RETIRE_GRACE);
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** It is done or has failed: what comes is not its business. Returns false when it was finished before. */
  finish(): boolean {
    if (this.#state === null) return false;
    this.#host.onState(this.#state, null);
    this.#state = null;
    return true;
  }
}
