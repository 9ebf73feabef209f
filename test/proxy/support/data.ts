import type { StoredBody } from '../../../src/proxy/request-body.ts';
import { createHash } from 'node:crypto';
import type * as http from 'node:http';

/** Bytes that differ at every place, so that anything lost, doubled or swapped shows. */
export function testData(length: number): Buffer {
  const data = Buffer.alloc(length);
  let word = 0x9e37_79b9;
  for (let i = 0; i + 4 <= length; i += 4) {
    word = (Math.imul(word, 1_664_525) + 1_013_904_223) >>> 0;
    data.writeUInt32LE(word, i);
  }
  return data;
}

export function digest(data: Buffer | string): string {
  return createHash('sha256').update(data).digest('hex');
}

/** An application that answers with the SHA-256 of what it got. */
export function digester(request: http.IncomingMessage, response: http.ServerResponse): void {
  const hash = createHash('sha256');
  request.on('data', (chunk: Buffer) => hash.update(chunk));
  request.on('end', () => response.end(hash.digest('hex')));
}

/** What follows the head of a response. */
export function bodyOf(received: Buffer): Buffer {
  return received.subarray(received.indexOf('\r\n\r\n') + 4);
}

/** The whole of a stored body. */
export async function contentOf(body: StoredBody): Promise<Buffer> {
  if (body.memory !== null) return Buffer.concat(body.memory.pieces());
  const chunks: Buffer[] = [];
  for (let at = 0; at < body.length; at += chunks.at(-1)?.length ?? 0) chunks.push(await body.read(at));
  return Buffer.concat(chunks);
}
