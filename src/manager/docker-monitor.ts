import { type Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { openEvents, ping } from './docker-api.ts';
import { type DockerClient, unlessAborted } from './docker-client.ts';
import { jsonMessages } from './docker-stream.ts';

/** An engine that leaves two pings unanswered for so long hangs. In ms. */
const PING_LIMIT = 2_500;
const PING_INTERVAL = 2_000;
/** Pauses between attempts to reach an engine that is gone, in ms. */
const BACK_OFF = [100, 200, 500, 1_000, 2_000] as const;

/** An engine that stayed for so long counts as one that works, in ms. */
const STABLE = 5_000;

/** Events after which a container's state or address may differ (Docker API, `GET /events`). */
const EVENTS = [
  'create',
  'start',
  'die',
  'oom',
  'kill',
  'destroy',
  'rename',
  'pause',
  'unpause',
  'update',
  'connect',
  'disconnect',
] as const;

/** What a monitor reports. */
export interface MonitorListener {
  /** A container's event, such as `die`; `labels` is empty for an event of a network, which does not carry them. */
  changed(id: string, action: string, labels: Record<string, string>): void;
  /** The engine answers and from now on every event is seen; whatever happened before was missed. */
  connected(): void;
}

/**
 * Keeps the client's `problem` up to date: follows the engine's events and pings it besides, because an engine that
 * hangs accepts connections and keeps old ones open.
 */
export class DockerMonitor {
  readonly #client: DockerClient;
  readonly #listener: MonitorListener;
  readonly #closed = new AbortController();
  #hurry = new AbortController();

  constructor(client: DockerClient, listener: MonitorListener) {
    this.#client = client;
    this.#listener = listener;
    client.onSuspicion = () => {
      this.#hurry.abort();
    };
  }

  start(): void {
    void this.#run();
  }

  close(): void {
    this.#closed.abort();
  }

  async #run(): Promise<void> {
    const closed = this.#closed.signal;
    let attempt = 0;
    while (!closed.aborted) {
      const session = new AbortController();
      const begun = performance.now();
      try {
        await this.#session(AbortSignal.any([closed, session.signal]));
      } catch (error) {
        if (!closed.aborted) this.#client.setProblem(this.#why(error));
      } finally {
        session.abort();
      }
      // One that loses everybody at once is not to be asked ten times a second.
      if (performance.now() - begun > STABLE) attempt = 0;
      const pause = BACK_OFF[Math.min(attempt++, BACK_OFF.length - 1)];
      await delay(pause, undefined, { signal: closed }).catch(() => {});
    }
  }

  /** Follows the engine until it is lost, then throws why. */
  async #session(signal: AbortSignal): Promise<void> {
    await this.#ping(signal);
    const filters = { type: ['container', 'network'], event: [...EVENTS] };
    const limit = AbortSignal.timeout(PING_LIMIT);
    const stream = await unlessAborted(
      AbortSignal.any([signal, limit]),
      openEvents(this.#client.docker, filters, signal),
    );
    this.#client.setProblem(null);
    this.#tell(() => {
      this.#listener.connected();
    });
    await Promise.race([this.#follow(stream), this.#pingForEver(signal)]);
  }

  async #follow(stream: Readable): Promise<never> {
    for await (const event of jsonMessages(stream)) {
      const { Type, Action, Actor } = event as {
        Type?: string;
        Action?: string;
        Actor?: { ID?: string; Attributes?: Record<string, string> };
      };
      const attributes = Actor?.Attributes ?? {};
      const id = Type === 'network' ? attributes['container'] : Actor?.ID;
      if (id === undefined || id === '') continue;
      this.#tell(() => {
        this.#listener.changed(id, Action ?? '', Type === 'network' ? {} : attributes);
      });
    }
    throw Object.assign(new Error('the events ended'), { code: 'ECONNRESET' });
  }

  async #pingForEver(signal: AbortSignal): Promise<never> {
    for (;;) {
      this.#hurry = new AbortController();
      await delay(PING_INTERVAL, undefined, { signal: AbortSignal.any([signal, this.#hurry.signal]) }).catch(() => {});
      signal.throwIfAborted();
      await this.#ping(signal).catch(async (error: unknown) => {
        // It may have been this process that got no time to read the answer.
        if (!isTimeout(error)) throw error;
        await this.#ping(signal);
      });
    }
  }

  async #ping(signal: AbortSignal): Promise<void> {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(PING_LIMIT)]);
    await unlessAborted(limited, ping(this.#client.docker, limited));
  }

  /** A listener's own failure is no outage of the engine: it is to end the process, as any other does. */
  #tell(listener: () => void): void {
    queueMicrotask(() => {
      if (!this.#closed.signal.aborted) listener();
    });
  }

  #why(error: unknown): string {
    return isTimeout(error) ? `Docker at ${this.#client.host} does not answer.` : this.#client.explain(error);
  }
}

function isTimeout(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'TimeoutError';
}
