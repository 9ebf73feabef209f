import { spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import * as http from 'node:http';
import * as net from 'node:net';
import type { TestContext } from 'node:test';
import type { RouteTarget } from '../../../src/messages.ts';

let count = 0;

/** A container as a route names it. */
export function targetAt(port: number, id = `container-${++count}`): RouteTarget {
  return { id, hash: 'd41d8cd98f00b204e9800998ecf8427e', revision: `v${count}`, address: { host: '127.0.0.1', port } };
}

export type Handler = (request: http.IncomingMessage, response: http.ServerResponse) => void;

/** An application: a real node:http server. */
export class Upstream {
  readonly server: http.Server;
  readonly target: RouteTarget;
  /** Requests begun, with the time by the monotonic clock (ns). */
  readonly begun: { at: bigint; method: string; url: string }[] = [];

  private constructor(server: http.Server, port: number) {
    this.server = server;
    this.target = targetAt(port);
    server.prependListener('request', ({ method = '', url = '' }) =>
      this.begun.push({ at: process.hrtime.bigint(), method, url }),
    );
  }

  static async start(t: TestContext | null, handler: Handler, options: http.ServerOptions = {}): Promise<Upstream> {
    const server = http.createServer(options, handler);
    server.keepAliveTimeout = 5_000;
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const upstream = new Upstream(server, (server.address() as net.AddressInfo).port);
    t?.after(() => upstream.stop());
    return upstream;
  }

  async stop(): Promise<void> {
    if (!this.server.listening) return;
    const closed = once(this.server, 'close');
    this.server.close();
    this.server.closeAllConnections();
    await closed;
  }
}

/** An application that speaks bytes: every connection is given to `handler`. */
export class RawUpstream {
  readonly server: net.Server;
  readonly target: RouteTarget;
  readonly sockets = new Set<net.Socket>();
  /** `data`, `end` and `close` of any connection. */
  readonly events = new EventEmitter();
  /** Connections that wunderproxy has not ended. */
  readonly #live = new Set<net.Socket>();
  /** Everything received, on all connections. */
  received = '';
  connections = 0;

  private constructor(server: net.Server, port: number) {
    this.server = server;
    this.target = targetAt(port);
  }

  /** `handler` is called for each piece of data with all that has come on that connection since it last answered true. */
  static async start(
    t: TestContext | null,
    handler: (socket: net.Socket, text: string, connection: number) => boolean | void,
  ): Promise<RawUpstream> {
    const server = net.createServer({ allowHalfOpen: true, noDelay: true });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const upstream = new RawUpstream(server, (server.address() as net.AddressInfo).port);
    server.on('connection', (socket) => {
      const number = ++upstream.connections;
      upstream.sockets.add(socket);
      upstream.#live.add(socket);
      socket.on('close', () => {
        upstream.sockets.delete(socket);
        upstream.#live.delete(socket);
        upstream.events.emit('close', number);
      });
      socket.on('error', () => {});
      let text = '';
      socket.on('data', (chunk) => {
        upstream.received += chunk.toString('latin1');
        text += chunk.toString('latin1');
        upstream.events.emit('data');
        if (handler(socket, text, number) === true) text = '';
      });
      socket.on('end', () => {
        upstream.#live.delete(socket);
        upstream.events.emit('end', number);
      });
    });
    t?.after(() => upstream.stop());
    return upstream;
  }

  /** Answers every complete head with these bytes. */
  static answering(t: TestContext, answer: string): Promise<RawUpstream> {
    return RawUpstream.start(t, (socket, text) => {
      if (!text.includes('\r\n\r\n')) return false;
      socket.write(answer, 'latin1');
      return true;
    });
  }

  /** Waits until wunderproxy has ended all its connections. */
  async abandoned(): Promise<void> {
    while (this.#live.size > 0) await Promise.race([once(this.events, 'end'), once(this.events, 'close')]);
  }

  async stop(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    if (!this.server.listening) return;
    const closed = once(this.server, 'close');
    this.server.close();
    await closed;
  }
}

const NEVER_ACCEPTS = `
  const server = require('node:net').createServer();
  server.listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => process.send(server.address().port));
`;

/**
 * A container that accepts nobody: its process is stopped and the kernel's queue for it is full, so that a connection to
 * it stays in its handshake.
 */
export async function unreachable(t: TestContext): Promise<RouteTarget> {
  const child = spawn(process.execPath, ['-e', NEVER_ACCEPTS], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const exited = once(child, 'exit');
  t.after(async () => {
    child.kill('SIGKILL');
    await exited;
  });
  const [port] = (await once(child, 'message')) as [number];
  child.kill('SIGSTOP');
  // The queue takes two; those after them are never answered.
  const sockets = Array.from({ length: 4 }, () => net.connect({ port, host: '127.0.0.1' }).on('error', () => {}));
  t.after(() => sockets.forEach((socket) => socket.destroy()));
  await Promise.all(sockets.slice(0, 2).map((socket) => once(socket, 'connect')));
  return targetAt(port);
}
