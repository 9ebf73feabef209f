import { once } from 'node:events';
import * as http2 from 'node:http2';
import type { TestContext } from 'node:test';
import { TEST_HOST, testMaterial } from './transport.ts';
import type { TestWorker } from './worker.ts';

/** In MB: large enough for bodies that are written in one go. */
const CLIENT_MEMORY = 1_000;

/** An answer as Node's client reads it. */
export interface Http2Answer {
  status: number;
  headers: http2.IncomingHttpHeaders;
  /** Name, value, name, value, … as they came. */
  raw: string[];
  body: Buffer;
  trailers: http2.IncomingHttpHeaders;
  /** Of interim responses. */
  informed: http2.IncomingHttpHeaders[];
}

/** Node's own HTTP/2 client (nghttp2) on one connection. */
export async function connectHttp2(
  t: TestContext,
  worker: TestWorker,
  options: http2.SecureClientSessionOptions = {},
): Promise<http2.ClientHttp2Session> {
  const ca = testMaterial().certificates.map(({ cert }) => cert);
  const session = http2.connect(`https://${TEST_HOST}:${worker.tlsPort}`, {
    ca,
    maxSessionMemory: CLIENT_MEMORY,
    ...options,
  });
  // What tests are to see of it they see on the streams.
  session.on('error', () => {});
  t.after(() => session.destroy());
  await once(session, 'connect');
  return session;
}

/** One request and its whole answer. Rejects when the stream is reset. */
export async function ask(
  session: http2.ClientHttp2Session,
  headers: http2.OutgoingHttpHeaders,
  body: Buffer | string | null = null,
): Promise<Http2Answer> {
  const stream = session.request(headers, { endStream: body === null });
  if (body !== null) stream.end(body);
  return read(stream);
}

/** Waits for the end of a stream, whatever it is; `rstCode` tells. */
export async function closed(stream: http2.ClientHttp2Stream): Promise<void> {
  stream.on('error', () => {});
  await new Promise((resolve) => stream.once('close', resolve));
}

/** The answer to a request that was begun. Rejects when the stream is reset. */
export async function read(stream: http2.ClientHttp2Stream): Promise<Http2Answer> {
  const answer: Http2Answer = { status: 0, headers: {}, raw: [], body: Buffer.alloc(0), trailers: {}, informed: [] };
  stream.on('headers', (headers) => answer.informed.push(headers));
  stream.on('trailers', (trailers) => (answer.trailers = trailers));
  stream.on('response', (headers, _flags, raw) => {
    answer.status = headers[':status'] ?? 0;
    answer.headers = headers;
    answer.raw = raw;
  });
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  // Not 'end': trailers come with it, and a reset without an error comes as nothing else.
  await closed(stream);
  answer.body = Buffer.concat(chunks);
  if (stream.rstCode !== 0) throw new Error(`reset with ${stream.rstCode}`);
  return answer;
}
