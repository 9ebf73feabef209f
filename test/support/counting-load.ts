import { Client } from 'undici';
import type { Cleanup } from './processes.ts';

/** An answer that came whole. */
export interface Counted {
  line: number;
  code: number;
  /** By `performance.now()`. */
  at: number;
}

/** A client that counts: requests one after the other on each of some kept-alive connections. */
export class CountingLoad {
  readonly answers: Counted[] = [];
  /** Requests whose answer did not come whole. */
  failed = 0;
  readonly #clients: Client[];
  /** When each connection was last lost, by `performance.now()`. */
  readonly lostAt: number[];
  #sent = 0;

  constructor(t: Cleanup, address: string, connections: number) {
    this.lostAt = Array.from({ length: connections }, () => -Infinity);
    this.#clients = this.lostAt.map((_, line) => {
      const client = new Client(`http://${address}`);
      client.on('disconnect', () => (this.lostAt[line] = performance.now()));
      return client;
    });
    t.after(async () => this.close());
  }

  /** Sends so many requests, for the paths in turn; `onSent` is told of each. */
  async send(count: number, paths: string[], onSent: (sent: number) => void = () => {}): Promise<void> {
    let left = count;
    const work = async (client: Client, line: number) => {
      while (left > 0) {
        left--;
        const path = paths[this.#sent % paths.length] ?? '/';
        onSent(++this.#sent);
        try {
          const { statusCode, body } = await client.request({ method: 'GET', path });
          await body.dump();
          this.answers.push({ line, code: statusCode, at: performance.now() });
        } catch {
          this.failed++;
        }
      }
    };
    await Promise.all(this.#clients.map(work));
  }

  /** Answers by status code. */
  get codes(): Record<string, number> {
    const codes: Record<string, number> = {};
    for (const { code } of this.answers) codes[code] = (codes[code] ?? 0) + 1;
    return codes;
  }

  async close(): Promise<void> {
    await Promise.all(this.#clients.map(async (client) => client.destroy()));
  }
}
