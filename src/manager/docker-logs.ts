import { type Readable } from 'node:stream';
import { LogTail, OutputLines } from '../log-tail.ts';

/** More of a container's log than this is not read, in bytes. */
const MAX_BYTES = 16 * 2 ** 20;

/** A piece of a container's output. */
interface Piece {
  source: 'stdout' | 'stderr';
  bytes: Buffer;
}

/** The last lines of an answer to `GET /containers/{id}/logs`, which Docker's `tail` has already cut. */
export async function readLogs(stream: Readable, tty: boolean, lines: number): Promise<string[]> {
  const tail = new LogTail(lines);
  let size = 0;
  for await (const { source, bytes } of pieces(stream, tty)) {
    size += bytes.length;
    if (size > MAX_BYTES) break;
    tail.write(source, bytes);
  }
  return tail.last(lines);
}

/** The lines of such an answer as they end: with `follow` it goes on for as long as the container runs. */
export async function* followLogs(stream: Readable, tty: boolean): AsyncGenerator<string> {
  const output = new OutputLines();
  for await (const { source, bytes } of pieces(stream, tty)) yield* output.write(source, bytes);
}

/**
 * Without a TTY an answer is made of frames: one byte for the stream, three zeros, four for the length (Docker API,
 * "Stream format"). What of a frame is there is given away at once: nobody says how long one may be.
 */
async function* pieces(stream: Readable, tty: boolean): AsyncGenerator<Piece> {
  let head: Buffer = Buffer.alloc(0);
  let source: Piece['source'] = 'stdout';
  let left = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    if (tty) {
      yield { source, bytes: chunk };
      continue;
    }
    let rest = chunk;
    while (rest.length > 0) {
      if (left === 0) {
        const missing = 8 - head.length;
        head = Buffer.concat([head, rest.subarray(0, missing)]);
        rest = rest.subarray(missing);
        if (head.length < 8) break;
        source = head[0] === 2 ? 'stderr' : 'stdout';
        left = head.readUInt32BE(4);
        head = Buffer.alloc(0);
      }
      const bytes = rest.subarray(0, left);
      if (bytes.length > 0) yield { source, bytes };
      left -= bytes.length;
      rest = rest.subarray(bytes.length);
    }
  }
}
