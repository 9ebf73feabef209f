import { once } from 'node:events';
import { createServer, connect, type AddressInfo, type NetConnectOpts, type Server, type Socket } from 'node:net';
import type { Cleanup } from './processes.ts';

/** Passes connections on until it is told otherwise: the faults that a network has, between two real parts. */
export class Gate {
  readonly #server: Server;
  readonly #open = new Set<Socket>();
  /** Looked at for every piece that the far side sends: `hold` keeps it back for ever, `cut` ends the connection. */
  answer: (asked: string) => 'pass' | 'hold' | 'cut' = () => 'pass';

  private constructor(target: NetConnectOpts) {
    this.#server = createServer((near) => {
      this.#join(near, connect(target));
    });
  }

  static async toPort(t: Cleanup, port: number): Promise<Gate> {
    const gate = new Gate({ host: '127.0.0.1', port });
    gate.#server.listen(0, '127.0.0.1');
    await once(gate.#server, 'listening');
    t.after(() => gate.close());
    return gate;
  }

  static async toSocket(t: Cleanup, target: string, path: string): Promise<Gate> {
    const gate = new Gate({ path: target });
    gate.#server.listen(path);
    await once(gate.#server, 'listening');
    t.after(() => gate.close());
    return gate;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Connections that are open now, counting both sides. */
  get connections(): number {
    return this.#open.size;
  }

  /** Resolves once no connection is open. */
  async idle(): Promise<void> {
    while (this.#open.size > 0) await Promise.all([...this.#open].map((socket) => once(socket, 'close')));
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#open) socket.destroy();
  }

  #join(near: Socket, far: Socket): void {
    let asked = '';
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#open.add(socket);
      socket.on('error', () => {});
      socket.on('end', () => other.end());
      socket.on('close', () => {
        this.#open.delete(socket);
        other.destroy();
      });
    }
    near.on('data', (piece: Buffer) => {
      asked = (asked + piece.toString('latin1')).slice(0, 4_096);
      far.write(piece);
    });
    far.on('data', (piece: Buffer) => {
      const verdict = this.answer(asked);
      if (verdict === 'pass') near.write(piece);
      if (verdict === 'cut') near.destroy();
    });
  }
}
