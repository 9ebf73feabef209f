import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import type { Readable, Transform } from 'node:stream';
import type { TestContext } from 'node:test';
import * as zlib from 'node:zlib';
import type { Coding } from '../../../src/worker-config.ts';

export const CODINGS: readonly Coding[] = ['zstd', 'br', 'gzip'];

/** Undoes a coding; throws unless it is complete. */
export function decode(coding: string | undefined, data: Buffer): Buffer {
  if (coding === undefined) return data;
  const decoders: Record<string, (data: Buffer) => Buffer> = {
    gzip: zlib.gunzipSync,
    br: zlib.brotliDecompressSync,
    zstd: zlib.zstdDecompressSync,
  };
  const decoder = decoders[coding];
  if (decoder === undefined) throw new Error(`unknown coding ${coding}`);
  return decoder(data);
}

function decoderOf(coding: Coding): Transform {
  switch (coding) {
    case 'gzip':
      return zlib.createGunzip();
    case 'br':
      return zlib.createBrotliDecompress();
    case 'zstd':
      return zlib.createZstdDecompress();
  }
}

/** A response whose head has come and whose body waits to be read. */
export async function openResponse(t: TestContext, port: number, coding: string, path = '/'): Promise<IncomingMessage> {
  const headers = { 'accept-encoding': coding };
  const asked = request({ host: '127.0.0.1', port, path, headers, agent: false });
  t.after(() => asked.destroy());
  // What breaks a response off is told by the response itself.
  asked.on('error', () => {});
  asked.end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  response.on('error', () => {});
  return response;
}

/** Reads a response's content as it comes. */
export class DecodedReader {
  text = '';
  readonly #decoder: Transform;
  readonly #closed: Promise<unknown>;

  constructor(response: Readable, coding: Coding) {
    this.#decoder = decoderOf(coding);
    this.#decoder.on('data', (chunk: Buffer) => (this.text += chunk.toString('latin1')));
    this.#decoder.on('error', () => {});
    this.#closed = once(this.#decoder, 'close').catch(() => {});
    response.on('close', () => response.readableEnded || this.#decoder.destroy());
    response.pipe(this.#decoder);
  }

  /** Waits until the content so far ends with this. Rejects when there is no more to come. */
  async until(end: string): Promise<void> {
    while (!this.text.endsWith(end)) {
      if (this.#decoder.closed) throw new Error(`ended before ${end}: ${JSON.stringify(this.text.slice(-200))}`);
      await Promise.race([once(this.#decoder, 'data'), this.#closed]);
    }
  }
}
