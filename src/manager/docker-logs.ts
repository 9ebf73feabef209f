import { type Readable } from 'node:stream';
import { LogTail } from '../log-tail.ts';

/** More of a container's log than this is not read, in bytes. */
const MAX_BYTES = 16 * 2 ** 20;

/**
 * The last lines of an answer to `GET /containers/{id}/logs`, which Docker's `tail` has already cut. Without a TTY it is
 * made of frames: one byte for the stream, three zeros, four for the length (Docker API, "Stream format").
 */
export async function readLogs(stream: Readable, tty: boolean, lines: number): Promise<string[]> {
  const tail = new LogTail(lines);
  let size = 0;
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BYTES) break;
    if (tty) {
      tail.write('stdout', chunk);
      continue;
    }
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    while (rest.length >= 8) {
      const end = 8 + rest.readUInt32BE(4);
      if (rest.length < end) break;
      tail.write(rest[0] === 2 ? 'stderr' : 'stdout', rest.subarray(8, end));
      rest = rest.subarray(end);
    }
  }
  return tail.last(lines);
}
