import { randomInt } from 'node:crypto';
import type { TestContext } from 'node:test';
import { RawUpstream } from './upstream.ts';

/** A body of which every word tells whose it is and how long it must be. */
export function bodyFor(number: number, length: number): Buffer {
  return Buffer.alloc(length, `${number}/${length},`);
}

/** An application that answers `GET /NUMBER/LENGTH/WAY`. */
export async function startMarking(t: TestContext): Promise<RawUpstream> {
  return RawUpstream.start(t, (socket, text) => {
    const [, number, length, way] = /^GET \/(\d+)\/(\d+)\/(\w+) [^]*\r\n\r\n$/.exec(text) ?? [];
    if (way === undefined) return false;
    const body = bodyFor(Number(number), Number(length));
    const type = 'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n';
    if (way === 'chunked') {
      socket.cork();
      socket.write(`${type}Transfer-Encoding: chunked\r\n\r\n`);
      for (let at = 0; at < body.length; at += 6_000) {
        const piece = body.subarray(at, at + 6_000);
        socket.write(`${piece.length.toString(16)}\r\n${piece.toString('latin1')}\r\n`);
      }
      socket.write('0\r\n\r\n');
      socket.uncork();
    } else if (way === 'late') {
      socket.write(`${type}Content-Length: ${body.length}\r\n\r\n`);
      setImmediate(() => socket.write(body));
    } else if (way === 'halves') {
      // As much as fills half of what is read at a time, and a byte more or less.
      socket.write(`${type}Content-Length: ${body.length}\r\n\r\n`);
      const at = 32_768 + randomInt(-1, 2);
      setImmediate(() => socket.write(body.subarray(0, at), () => socket.write(body.subarray(at))));
    } else {
      socket.write(`${type}Content-Length: ${body.length}\r\n\r\n${body.toString('latin1')}`, 'latin1');
    }
    return true;
  });
}

export const LENGTHS = [100, 4_096, 4_097, 9_000, 16_000, 16_384, 16_385, 40_000, 65_536, 150_000];
export const WAYS = ['whole', 'late', 'halves', 'chunked'];

export function oneOf<T>(values: readonly T[]): T {
  return values[randomInt(values.length)] as T;
}
