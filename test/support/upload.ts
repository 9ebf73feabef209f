import assert from 'node:assert/strict';
import { once } from 'node:events';
import * as net from 'node:net';
import type { ListenText } from './http.ts';
import type { Cleanup } from './processes.ts';

/** What the test application says of a request. */
export interface Echo {
  bytes: number;
  sha256: string;
  version: string;
}

/** A client that sends its body piece by piece, whenever it is told to. */
export class Upload {
  readonly #socket: net.Socket;
  readonly #body: Buffer;
  readonly #answer: Promise<string>;
  #sent = 0;

  private constructor(socket: net.Socket, body: Buffer) {
    this.#socket = socket;
    this.#body = body;
    let text = '';
    socket.on('data', (chunk: Buffer) => (text += chunk.toString()));
    // That the connection is reset shows in an answer that is not whole.
    socket.on('error', () => {});
    this.#answer = new Promise((resolve) => socket.once('close', () => resolve(text)));
  }

  /** Resolves once it is connected; its request's head is on the way then. */
  static async begin(t: Cleanup, address: ListenText, body: Buffer): Promise<Upload> {
    const socket = net.connect({ port: Number(new URL(`http://${address}`).port), host: '127.0.0.1', noDelay: true });
    t.after(() => {
      socket.destroy();
    });
    await once(socket, 'connect');
    socket.write(`POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n`);
    return new Upload(socket, body);
  }

  /** Resolves when the kernel has these bytes. Rejects when the connection breaks. */
  async send(bytes: number): Promise<void> {
    const piece = this.#body.subarray(this.#sent, this.#sent + bytes);
    this.#sent += piece.length;
    await new Promise<void>((resolve, reject) => {
      this.#socket.write(piece, (error) => (error ? reject(error) : resolve()));
    });
  }

  /** What the application said, once the connection is closed. */
  async answer(): Promise<Echo> {
    const text = await this.#answer;
    assert.match(text, /^HTTP\/1\.1 200 /, text.slice(0, 300) || 'no answer');
    return JSON.parse(text.slice(text.indexOf('\r\n\r\n') + 4)) as Echo;
  }
}
