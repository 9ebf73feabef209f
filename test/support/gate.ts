import { once } from 'node:events';
import {
  createServer,
  connect,
  type AddressInfo,
  type ListenOptions,
  type NetConnectOpts,
  type Server,
  type Socket,
} from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { Cleanup } from './processes.ts';

const IDLE_LIMIT_MS = 20_000;

/** Passes connections on until it is told otherwise: the faults that a network has, between two real parts. */
export class Gate {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /**
   * Asked for every piece that the far side sends, with what the near side said and how many bytes were passed on before:
   * `hold` keeps back this piece and all further ones, `cut` ends the connection.
   */
  answer: (asked: string, passed: number) => 'pass' | 'hold' | 'cut' = () => 'pass';

  private constructor(target: NetConnectOpts) {
    this.#server = createServer((near) => {
      this.#join(near, connect(target));
    });
  }

  /** From a free port of 127.0.0.1 to another of its ports. */
  static async toPort(t: Cleanup, port: number): Promise<Gate> {
    return Gate.#open(t, { host: '127.0.0.1', port }, { host: '127.0.0.1', port: 0 });
  }

  /** From a unix socket, or from a free port of 127.0.0.1, to a unix socket. */
  static async toSocket(t: Cleanup, target: string, path?: string): Promise<Gate> {
    return Gate.#open(t, { path: target }, path === undefined ? { host: '127.0.0.1', port: 0 } : { path });
  }

  static async #open(t: Cleanup, target: NetConnectOpts, listen: ListenOptions): Promise<Gate> {
    const gate = new Gate(target);
    gate.#server.listen(listen);
    await once(gate.#server, 'listening');
    t.after(() => gate.close());
    return gate;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Resolves once no connection is open, however they ended. */
  async idle(): Promise<void> {
    for (const deadline = Date.now() + IDLE_LIMIT_MS; this.#sockets.size > 0; await delay(10)) {
      if (Date.now() > deadline) throw new Error(`${this.#sockets.size} connections stay open`);
    }
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #join(near: Socket, far: Socket): void {
    let asked = '';
    let passed = 0;
    let held = false;
    for (const socket of [near, far]) {
      this.#sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => this.#sockets.delete(socket));
    }
    near.on('data', (piece: Buffer) => {
      asked = (asked + piece.toString('latin1')).slice(0, 4_096);
      far.write(piece);
    });
    near.on('end', () => far.end());
    near.on('close', () => far.destroy());
    far.on('data', (piece: Buffer) => {
      const verdict = this.answer(asked, passed);
      held ||= verdict === 'hold';
      if (verdict === 'cut') near.destroy();
      if (held || verdict === 'cut') return;
      passed += piece.length;
      near.write(piece);
    });
    // Of an answer that is held back nobody learns the end either.
    far.on('end', () => held || near.end());
    far.on('close', () => held || near.destroy());
  }
}
