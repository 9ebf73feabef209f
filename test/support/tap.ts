import { once } from 'node:events';
import {
  type ClientRequest,
  createServer,
  type IncomingMessage,
  request,
  type Server,
  type ServerResponse,
} from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Cleanup } from './processes.ts';

/** Where a tap sends what it gets: a URL's `http://host:port` or the path of a unix socket. */
export type Upstream = { url: string } | { socketPath: string };

/** A request that went through. */
export interface TappedRequest {
  method: string;
  /** Path and query. */
  path: string;
  headers: IncomingMessage['headers'];
}

/** Called with each request; what follows waits for it. */
export type Hook = (request: TappedRequest) => Promise<void> | void;

type Listen = { host: string; port: number } | { path: string };

type State = 'open' | 'hanging' | 'cut' | { status: number };

/**
 * A proxy that a test puts in front of S3 or of Docker to see each request, and to take the service away at a moment of
 * its choosing. It forwards everything as it is: streams, upgraded connections (Docker's attach), unix sockets.
 */
export class Tap {
  /** Before a request is forwarded. It is not if the tap has been cut or hangs when the hook is done. */
  before: Hook = () => {};
  /** When the head of the response has come, before the client gets it. */
  after: Hook = () => {};
  /** Header names in lower case that are not forwarded. */
  dropHeaders: string[] = [];
  /** Every request that arrived, in order. */
  readonly seen: TappedRequest[] = [];

  readonly #target: { host: string; port: number } | { path: string };
  readonly #listen: Listen;
  readonly #sockets = new Set<Socket>();
  /** Calls that end what is under way upstream. */
  readonly #upstream = new Set<() => void>();
  #server: Server;
  #state: State = 'open';
  #restored = Promise.withResolvers<void>();

  /** Listens on a free port of 127.0.0.1, or on the unix socket `path`, until the test ends. */
  static async start(t: Cleanup, upstream: Upstream, path?: string): Promise<Tap> {
    const tap = new Tap(upstream, path === undefined ? { host: '127.0.0.1', port: 0 } : { path });
    await tap.#open();
    t.after(() => {
      tap.cut();
      // What still hangs would keep the test's process alive.
      for (const end of tap.#upstream) end();
    });
    return tap;
  }

  private constructor(upstream: Upstream, listen: Listen) {
    if ('url' in upstream) {
      const { hostname, port } = new URL(upstream.url);
      this.#target = { host: hostname, port: Number(port) };
    } else {
      this.#target = { path: upstream.socketPath };
    }
    this.#listen = listen;
    this.#server = createServer();
  }

  /** `http://127.0.0.1:port`. */
  get url(): string {
    return `http://127.0.0.1:${'port' in this.#listen ? this.#listen.port : 0}`;
  }

  /** New connections are refused, open ones are reset. */
  cut(): void {
    this.#state = 'cut';
    this.#server.close();
    for (const socket of this.#sockets) reset(socket);
    for (const end of this.#upstream) end();
  }

  /** Connections are accepted and requests are read, but nothing is answered or forwarded any more. */
  hang(): void {
    this.#state = 'hanging';
  }

  /** Every request is answered with this status and an empty body. */
  answer(status: number): void {
    this.#state = { status };
  }

  /** Everything is forwarded again, also what hangs. */
  async restore(): Promise<void> {
    const wasCut = this.#state === 'cut';
    this.#state = 'open';
    this.#restored.resolve();
    this.#restored = Promise.withResolvers();
    if (wasCut) await this.#open();
  }

  async #open(): Promise<void> {
    this.#server = createServer({ requestTimeout: 0, keepAliveTimeout: 60_000 });
    this.#server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
      socket.on('error', () => {});
    });
    this.#server.on('request', (incoming, outgoing) => void this.#forward(incoming, outgoing));
    this.#server.on('upgrade', (incoming, socket, head) => void this.#tunnel(incoming, socket as Socket, head));
    this.#server.listen(this.#listen);
    await once(this.#server, 'listening');
    if ('port' in this.#listen) this.#listen.port = (this.#server.address() as AddressInfo).port;
  }

  /** Waits out a hang. False: the request goes no further. */
  async #passes(client: Socket): Promise<boolean> {
    while (this.#state === 'hanging' && !client.destroyed) {
      const gone = Promise.withResolvers<void>();
      client.once('close', gone.resolve);
      await Promise.race([this.#restored.promise, gone.promise]);
      client.off('close', gone.resolve);
    }
    return this.#state !== 'cut' && !client.destroyed;
  }

  async #ask(incoming: IncomingMessage, client: Socket): Promise<TappedRequest | null> {
    const asked = { method: incoming.method ?? '', path: incoming.url ?? '', headers: incoming.headers };
    this.seen.push(asked);
    if (!(await this.#passes(client))) return null;
    await this.before(asked);
    return (await this.#passes(client)) ? asked : null;
  }

  async #forward(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const client = incoming.socket;
    const asked = await this.#ask(incoming, client);
    if (!asked) return;
    if (typeof this.#state === 'object') {
      incoming.resume();
      outgoing.writeHead(this.#state.status, { 'content-length': 0 }).end();
      return;
    }
    const forwarded = request({
      ...('path' in this.#target ? { socketPath: this.#target.path } : this.#target),
      agent: false,
      setHost: false,
      method: asked.method,
      path: asked.path,
      headers: this.#headers(incoming).flat(),
    });
    this.#remember(forwarded);
    const abandon = () => void forwarded.destroy();
    client.once('close', abandon);
    forwarded.once('close', () => client.off('close', abandon));
    forwarded.on('error', () => reset(client));
    try {
      await sendBody(incoming, forwarded);
      const [response] = (await once(forwarded, 'response')) as [IncomingMessage];
      response.on('error', () => reset(client));
      await this.after(asked);
      if (!(await this.#passes(client))) return;
      outgoing.writeHead(response.statusCode ?? 502, response.statusMessage, rawHeaders(response).flat());
      outgoing.flushHeaders();
      await pipeline(this.#gated(response, client), outgoing);
    } catch {
      reset(client);
    }
  }

  /** An upgraded connection is no HTTP any more: its bytes go through as they are, the answer's head included. */
  async #tunnel(incoming: IncomingMessage, client: Socket, head: Buffer): Promise<void> {
    const asked = await this.#ask(incoming, client);
    if (!asked) return;
    const upstream = connect(this.#target);
    this.#remember(upstream);
    const lines = this.#headers(incoming).map(([name, value]) => `${name}: ${value}\r\n`);
    upstream.write(`${asked.method} ${asked.path} HTTP/1.1\r\n${lines.join('')}\r\n`);
    upstream.write(head);
    const answers = async (source: AsyncIterable<Buffer>) => {
      await once(upstream, 'readable');
      await this.after(asked);
      return this.#gated(source, client);
    };
    await Promise.all([
      pipeline(this.#gated(client, client), upstream),
      pipeline(await answers(upstream), client),
    ]).catch(() => {
      reset(client);
      upstream.destroy();
    });
  }

  async *#gated(source: AsyncIterable<Buffer>, client: Socket): AsyncGenerator<Buffer> {
    for await (const chunk of source) {
      if (!(await this.#passes(client))) return;
      yield chunk;
    }
  }

  #remember(upstream: Duplex | ClientRequest): void {
    const end = () => void upstream.destroy();
    this.#upstream.add(end);
    upstream.once('close', () => this.#upstream.delete(end));
  }

  #headers(incoming: IncomingMessage): [string, string][] {
    return rawHeaders(incoming).filter(([name]) => !this.dropHeaders.includes(name.toLowerCase()));
  }
}

/** Above this size, in bytes, a request's body is passed on as it comes. */
const WHOLE_BODY = 65_536;

/**
 * A small body goes out in one piece with the head, as a client itself would send it: a service that answers without
 * reading the body (Docker does) closes the connection, and a piece that came later would break off its answer.
 */
async function sendBody(incoming: IncomingMessage, forwarded: ClientRequest): Promise<void> {
  if (Number(incoming.headers['content-length'] ?? Number.POSITIVE_INFINITY) > WHOLE_BODY) incoming.pipe(forwarded);
  else forwarded.end(Buffer.concat((await incoming.toArray()) as Buffer[]));
}

/** A unix socket knows no reset: its peer sees the end. */
function reset(socket: Socket): void {
  if (socket.remoteAddress === undefined) socket.destroy();
  else socket.resetAndDestroy();
}

function rawHeaders(message: IncomingMessage): [string, string][] {
  const pairs: [string, string][] = [];
  for (let at = 0; at < message.rawHeaders.length; at += 2) {
    pairs.push([message.rawHeaders[at] ?? '', message.rawHeaders[at + 1] ?? '']);
  }
  return pairs;
}
