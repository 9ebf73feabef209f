import type { Coding } from '../worker-config.ts';
import {
  codingFor,
  compressedHead,
  compressedTrailers,
  type CompressionRules,
  notModifiedHead,
  plainHead,
} from './compress-headers.ts';
import { CompressedStream } from './compress-stream.ts';
import { type Encoders, encodeWhole } from './encoders.ts';
import type { Exchange } from './exchange.ts';
import { UpstreamResponse } from './response-body.ts';
import type { Spool } from './spool.ts';

/** Bodies whose length is known and no more than this (bytes) are compressed in one go, and keep a Content-Length. */
const WHOLE = 64 * 1024;

/** What the stage works with. */
export interface CompressContext {
  readonly compression: CompressionRules;
  readonly encoders: Encoders;
  readonly spool: Spool;
}

/**
 * Gives a container's response the coding that its client prefers, if it is one that gains by it. What comes back takes the
 * place of the response; a promise only where there is something to wait for. Rejects with what the response failed with.
 */
export function compress(
  exchange: Exchange,
  response: UpstreamResponse,
  context: CompressContext,
): UpstreamResponse | Promise<UpstreamResponse> {
  const { compression } = context;
  const { head } = response;
  if (head.status === 304) response.head = notModifiedHead(exchange.head, head, compression);
  const coding = codingFor(exchange.head, head, compression);
  if (coding === undefined || response.failure !== null || exchange.over) return response;
  if (coding !== null && exchange.head.method === 'HEAD') {
    response.head = compressedHead(head, coding);
    return response;
  }
  return (coding === null ? null : compressBody(response, coding, context)) ?? plain(response);
}

/** Null: there is no memory for it, or no time. */
function compressBody(
  response: UpstreamResponse,
  coding: Coding,
  context: CompressContext,
): UpstreamResponse | Promise<UpstreamResponse> | null {
  const { encoders, spool } = context;
  const length = response.ended ? lengthOf(response.chunks) : response.head.length;
  if (length !== null && length <= WHOLE) {
    if (response.ended) return compressWhole(response, coding);
    if (!response.live && spool.takeMemory(0, length)) {
      return untilEnded(response)
        .then(() => compressWhole(response, coding))
        .finally(() => spool.releaseMemory(length));
    }
  }
  return encoders.overloaded ? null : compressStream(response, coding, context);
}

function plain(response: UpstreamResponse): UpstreamResponse {
  response.head = plainHead(response.head);
  return response;
}

function lengthOf(chunks: readonly Buffer[]): number {
  return chunks.reduce((sum, chunk) => sum + chunk.length, 0);
}

function compressWhole(response: UpstreamResponse, coding: Coding): UpstreamResponse {
  // It is to be refused as a whole.
  if (response.source.overran) return response;
  const body = encodeWhole(coding, response.takeBody());
  const trailers = compressedTrailers(response.trailers);
  // HTTP/1.1 has trailers only where the length is not told beforehand.
  const length = trailers.length === 0 ? body.length : null;
  const compressed = new UpstreamResponse({ ...compressedHead(response.head, coding), length }, false, response.source);
  compressed.push(body);
  compressed.end(trailers);
  return compressed;
}

function untilEnded(response: UpstreamResponse): Promise<void> {
  return new Promise((resolve, reject) => {
    response.delivery = {
      onData(chunk) {
        response.chunks.push(chunk);
        return false;
      },
      onEnd: resolve,
      onFailure: reject,
    };
  });
}

function compressStream(
  response: UpstreamResponse,
  coding: Coding,
  { encoders, spool }: CompressContext,
): UpstreamResponse | null {
  const encoder = encoders.open(coding, response.live);
  if (encoder === null) return null;
  const stream = new CompressedStream(response, compressedHead(response.head, coding), { encoder, encoders, spool });
  stream.start();
  return stream.output;
}
