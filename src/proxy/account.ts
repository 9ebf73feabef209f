import { type ErrorCode, messageOf, WunderproxyError } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { WorkerStats } from '../messages.ts';
import { Allowance } from './allowance.ts';
import type { Client, Exchange } from './exchange.ts';
import { Latency } from './latency.ts';

/** At most so many failures are logged in a second, so that an attack or an outage does not fill the disk. */
const LOGGED_PER_SECOND = 20;

/** What a worker counts of requests. Each exchange is counted once, when it is over, however it ended. */
export class Account {
  readonly #log: Logger;
  #requests = 0;
  readonly #statusCodes = new Map<number, number>();
  readonly #latency = new Latency();
  #sinceSwitch = { requests: 0, seconds: 0 };
  readonly #cutOffs = new Allowance(LOGGED_PER_SECOND, 1);
  #second = 0;
  #logged = 0;
  #unlogged = 0;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** `failure` is what kept it from being answered by the application, or null. */
  count(exchange: Exchange, failure: unknown): void {
    this.#requests++;
    this.#statusCodes.set(exchange.status, (this.#statusCodes.get(exchange.status) ?? 0) + 1);
    this.#sinceSwitch.requests++;
    const elapsed = performance.now() - exchange.begunAt;
    this.#sinceSwitch.seconds += elapsed / 1_000;
    this.#latency.record(elapsed);
    if (failure !== null || exchange.failure !== null) this.#note(exchange, failure, Date.now());
  }

  #note(exchange: Exchange, failure: unknown, now: number): void {
    const known = failure instanceof WunderproxyError;
    if (failure !== null && (!known || failure.code === 'internal_error')) {
      this.#log.error({ err: failure, request: exchange.id }, 'request failed in the proxy');
      return;
    }
    const code: ErrorCode = exchange.failure ?? (known ? failure.code : 'internal_error');
    // Going away is the client's right.
    if (code === 'client_closed' || !this.#mayLog(now)) return;
    const cause = known && failure.cause !== undefined ? messageOf(failure.cause) : undefined;
    const { id: request, status, client } = exchange;
    this.#log.warn({ code, status, request, client: client.address, cause }, 'request failed');
  }

  /** A client is cut off, with all of its requests, because it makes work without end. */
  noteAbuse(client: Client, reason: string): void {
    if (this.#cutOffs.spend(1)) this.#log.warn({ client: client.address, reason }, 'client cut off');
  }

  #mayLog(now: number): boolean {
    const second = Math.floor(now / 1_000);
    if (second !== this.#second) {
      if (this.#unlogged > 0) this.#log.warn({ requests: this.#unlogged }, 'more requests failed than are logged');
      this.#second = second;
      this.#logged = 0;
      this.#unlogged = 0;
    }
    this.#logged++;
    if (this.#logged <= LOGGED_PER_SECOND) return true;
    this.#unlogged++;
    return false;
  }

  /** Another container has come into service. */
  onSwitch(): void {
    this.#sinceSwitch = { requests: 0, seconds: 0 };
  }

  snapshot(): Pick<WorkerStats, 'requests' | 'statusCodes' | 'latency' | 'sinceSwitch'> {
    return {
      requests: this.#requests,
      statusCodes: Object.fromEntries(this.#statusCodes),
      latency: this.#latency.snapshot(),
      sinceSwitch: this.#sinceSwitch,
    };
  }
}
