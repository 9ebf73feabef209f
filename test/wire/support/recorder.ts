import type * as net from 'node:net';
import type { TestContext } from 'node:test';
import { RawUpstream } from '../../proxy/support/upstream.ts';

/** A request as the application's own bytes show it. */
export interface Recorded {
  requestLine: string;
  /** `name: value`, in order, names in lower case; without what wunderproxy adds to every request. */
  fields: string[];
  body: string;
  connection: number;
}

const ADDED =
  /^(?:connection|x-forwarded-for|x-forwarded-proto|x-forwarded-host|x-real-ip|x-request-id|x-request-start):/;

/**
 * An application that takes its connections apart by itself, in the strictest way: a head that ends with an empty line, a
 * body as long as its one Content-Length. Anything else is recorded as garbage.
 */
export class Recorder {
  readonly requests: Recorded[] = [];
  readonly garbage: string[] = [];
  upstream!: RawUpstream;

  static async start(t: TestContext | null): Promise<Recorder> {
    const recorder = new Recorder();
    const rests = new Map<number, string>();
    recorder.upstream = await RawUpstream.start(t, (socket, text, connection) => {
      rests.set(connection, recorder.#take((rests.get(connection) ?? '') + text, socket, connection));
      return true;
    });
    return recorder;
  }

  clear(): void {
    this.requests.length = 0;
    this.garbage.length = 0;
  }

  /** Returns what is not complete yet. */
  #take(text: string, socket: net.Socket, connection: number): string {
    let rest = text;
    for (;;) {
      const end = rest.indexOf('\r\n\r\n');
      if (end === -1) return rest;
      const [requestLine = '', ...lines] = rest.slice(0, end).split('\r\n');
      if (
        !/^[!-~]+ [!-~\x80-\xff]+ HTTP\/1\.1$/.test(requestLine) ||
        lines.some((line) => !/^[!-9;-~]+: /.test(line))
      ) {
        this.garbage.push(rest);
        socket.destroy();
        return '';
      }
      const fields = lines.map((line) => line.replace(/^[^:]+/, (name) => name.toLowerCase()));
      const lengths = fields.filter((field) => field.startsWith('content-length:'));
      if (lengths.length > 1 || fields.some((field) => field.startsWith('transfer-encoding:'))) this.garbage.push(rest);
      const length = Number(lengths[0]?.slice('content-length: '.length) ?? 0);
      if (rest.length < end + 4 + length) return rest;
      const body = rest.slice(end + 4, end + 4 + length);
      this.requests.push({ requestLine, fields: fields.filter((field) => !ADDED.test(field)), body, connection });
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
      rest = rest.slice(end + 4 + length);
    }
  }
}
