import { once } from 'node:events';
import { type Agent, type IncomingHttpHeaders, type IncomingMessage, request as plainRequest } from 'node:http';
import { request as secureRequest, type RequestOptions } from 'node:https';

/** Where a server listens: `host:port`, `[v6]:port` or `unix:/path`, as the program writes it. */
export type ListenText = string;

export interface Call {
  method?: string;
  headers?: Record<string, string>;
  body?: string | Buffer;
  /** Default: a connection of its own, closed afterwards. */
  agent?: Agent;
  /** How long nothing may happen on the connection, in ms. */
  idleTimeout?: number;
  /** Over TLS, with these options. The agent is to be one of node:https then. */
  tls?: Pick<RequestOptions, 'ca' | 'servername' | 'rejectUnauthorized'>;
}

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  bytes: Buffer;
  text: string;
  /** The body as JSON. Throws a SyntaxError that shows it. */
  json<T>(): T;
}

/** One request and its whole answer. Rejects when the connection fails, also inside the body. */
export async function send(address: ListenText, path: string, call: Call = {}): Promise<Answer> {
  const { method = 'GET', headers = {}, body, agent, idleTimeout = 60_000, tls } = call;
  const request = tls === undefined ? plainRequest : secureRequest;
  const asked = request({
    ...tls,
    ...connectionTo(address),
    method,
    path,
    headers: body === undefined ? headers : { 'content-length': Buffer.byteLength(body), ...headers },
    agent: agent ?? false,
    timeout: idleTimeout,
  });
  asked.on('timeout', () => asked.destroy(new Error(`no answer from ${address}${path} within ${idleTimeout} ms`)));
  asked.end(body);
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  const bytes = Buffer.concat((await response.toArray()) as Buffer[]);
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    bytes,
    text: bytes.toString(),
    json<T>(): T {
      try {
        return JSON.parse(bytes.toString()) as T;
      } catch {
        throw new SyntaxError(`not JSON: ${bytes.toString().slice(0, 200)}`);
      }
    },
  };
}

/** What node:http needs to know of an address. */
export function connectionTo(address: ListenText): { host: string; port: number } | { socketPath: string } {
  if (address.startsWith('unix:')) return { socketPath: address.slice(5) };
  const at = address.lastIndexOf(':');
  return { host: address.slice(0, at).replace(/^\[|\]$/g, ''), port: Number(address.slice(at + 1)) };
}
