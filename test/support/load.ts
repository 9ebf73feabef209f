import { createHash, randomBytes } from 'node:crypto';
import { Agent } from 'node:http';
import { Agent as SecureAgent } from 'node:https';
import { setTimeout as delay } from 'node:timers/promises';
import { type Answer, type Call, type ListenText, send } from './http.ts';
import type { Cleanup } from './processes.ts';

export interface LoadOptions {
  /** Requests under way at any time; each line sends its next one when the last is answered. */
  connections: number;
  /** Every how many-th line opens a new connection for each request; 0: all keep theirs. */
  closeEvery?: number;
  /** Every how many-th request is answered slowly by the application; 0: none. */
  slowEvery?: number;
  /** How slowly, in ms. */
  slowFor?: number;
  /** Pause of a line between two requests, in ms. */
  pause?: number;
  /** The most requests that are sent; the load then ends by itself. */
  limit?: number;
  /** Asks with these headers too. */
  headers?: Record<string, string>;
  /** Over TLS, with these options. */
  tls?: Call['tls'];
}

/** What became of a request. */
export interface LoadRecord {
  id: string;
  method: 'GET' | 'POST';
  /** `ok`, `status 502`, `ECONNRESET`, `wrong id`, `wrong body`, … */
  outcome: string;
  /** Which version of the application answered, when it did. */
  version: string | null;
  /** In ms since the epoch. */
  sentAt: number;
  answeredAt: number;
}

export interface LoadResult {
  records: LoadRecord[];
  outcomes: Record<string, number>;
  versions: Record<string, number>;
}

/** What the test application (app/server.js) says of a request. */
interface Echo {
  version: string;
  url: string;
  sha256: string;
}

const BODY_SIZES = [0, 1, 1_000, 16_384, 70_000];

/**
 * Constant load on a proxy in front of the test application: GET and POST with bodies, on kept-alive and on new
 * connections, some answered slowly. Each request carries an id and a body that must come back as its own.
 */
export class Load {
  readonly #address: ListenText;
  readonly #options: Required<Omit<LoadOptions, 'tls'>> & Pick<LoadOptions, 'tls'>;
  readonly #keepAlive: Agent;
  readonly #records: LoadRecord[] = [];
  readonly #lines: Promise<void>[];
  readonly #waiting: { count: number; reached: () => void }[] = [];
  readonly #run = randomBytes(4).toString('hex');
  #sent = 0;
  #stopped = false;

  /** Begins at once, and ends with the test. */
  constructor(t: Cleanup, address: ListenText, options: LoadOptions) {
    this.#address = address;
    this.#options = { closeEvery: 4, slowEvery: 20, slowFor: 300, pause: 2, limit: 200_000, headers: {}, ...options };
    const agentOptions = { keepAlive: true, maxSockets: options.connections, scheduling: 'lifo' } as const;
    this.#keepAlive = options.tls ? new SecureAgent(agentOptions) : new Agent(agentOptions);
    this.#lines = Array.from({ length: options.connections }, (_, line) => this.#line(line));
    t.after(async () => {
      await this.stop();
    });
  }

  /** Answered so far. */
  get count(): number {
    return this.#records.length;
  }

  /** Resolves when `more` further requests have been answered, or the load has ended. */
  async answered(more: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.push({ count: this.count + more, reached: resolve });
    await Promise.race([promise, Promise.all(this.#lines)]);
  }

  /** Sends no more, waits for the answers that are due, and resolves to everything that happened. */
  async stop(): Promise<LoadResult> {
    this.#stopped = true;
    await Promise.all(this.#lines);
    this.#keepAlive.destroy();
    return {
      records: this.#records,
      outcomes: countBy(this.#records.map(({ outcome }) => outcome)),
      versions: countBy(this.#records.flatMap(({ version }) => version ?? [])),
    };
  }

  async #line(line: number): Promise<void> {
    const { closeEvery, limit, pause } = this.#options;
    const agent = closeEvery > 0 && line % closeEvery === 0 ? undefined : this.#keepAlive;
    while (!this.#stopped && this.#sent < limit) {
      await this.#request(this.#sent++, agent);
      await delay(pause);
    }
  }

  async #request(number: number, agent: Agent | undefined): Promise<void> {
    const { slowEvery, slowFor, headers, tls } = this.#options;
    const id = `${this.#run}-${number}`;
    const slow = slowEvery > 0 && number % slowEvery === 0;
    const path = slow ? `/slow?ms=${slowFor}&load=${id}` : `/load?load=${id}`;
    const body = number % 3 === 0 ? undefined : randomBytes(BODY_SIZES[number % BODY_SIZES.length] ?? 0);
    const sentAt = Date.now();
    const method = body ? 'POST' : 'GET';
    const { outcome, version } = await send(this.#address, path, {
      method,
      headers: { ...headers, 'x-request-id': id },
      ...(body && { body }),
      ...(agent && { agent }),
      ...(tls && { tls }),
    }).then(
      (answer) => judge(answer, path, body),
      (error: NodeJS.ErrnoException) => ({ outcome: error.code ?? error.message, version: null }),
    );
    this.#records.push({ id, method, outcome, version, sentAt, answeredAt: Date.now() });
    for (const { count, reached } of this.#waiting) if (this.count >= count) reached();
  }
}

function judge(answer: Answer, path: string, body: Buffer | undefined): Pick<LoadRecord, 'outcome' | 'version'> {
  if (answer.status !== 200) return { outcome: `status ${answer.status}`, version: null };
  let echo: Echo;
  try {
    echo = answer.json<Echo>();
  } catch {
    return { outcome: 'no echo', version: null };
  }
  const digest = createHash('sha256')
    .update(body ?? '')
    .digest('hex');
  const outcome = echo.url !== path ? 'wrong id' : echo.sha256 !== digest ? 'wrong body' : 'ok';
  return { outcome, version: echo.version };
}

function countBy(names: string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}
