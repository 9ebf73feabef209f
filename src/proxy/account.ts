import { type ErrorCode, messageOf, WunderproxyError } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { SinceSwitch, WorkerStats } from '../worker-stats.ts';
import { Allowance } from './allowance.ts';
import type { Client, Exchange } from './exchange.ts';
import { Latency } from './latency.ts';
import type { AccessLog } from './access-log.ts';
import { Counts, type Tallies } from './tally.ts';

/** At most so many failures are logged in a second, so that an attack or an outage does not fill the disk. */
const LOGGED_PER_SECOND = 20;

/** What is counted when a worker's last connection has closed takes a moment, not so long (ms). */
const LAST_COUNTS = 1_000;

/** What a worker counts of requests. Each exchange is counted once, when it is over, however it ended. */
export class Account {
  readonly #log: Logger;
  readonly #tallies: Tallies;
  readonly #accessLog: AccessLog | null;
  /** Requests that are not over yet. */
  #open = 0;
  #onNoneOpen: (() => void) | null = null;
  #requests = 0;
  #seconds = 0;
  #retries = 0;
  readonly #statusCodes = new Counts<number>();
  readonly #errors = new Counts<ErrorCode>();
  readonly #latency = new Latency();
  #sinceSwitch: SinceSwitch;
  readonly #cutOffs = new Allowance(LOGGED_PER_SECOND, 1);
  #second = 0;
  #logged = 0;
  #unlogged = 0;

  constructor(log: Logger, accessLog: AccessLog | null, tallies: Tallies, activeSince: number | null) {
    this.#log = log;
    this.#accessLog = accessLog;
    this.#tallies = tallies;
    this.#sinceSwitch = { activeSince, requests: 0, seconds: 0 };
  }

  /** Each exchange is to be announced when it begins. */
  open(): void {
    this.#open++;
  }

  /** Calls back once every exchange that was announced is counted; after LAST_COUNTS in any case. */
  whenNoneOpen(callback: () => void): void {
    if (this.#open === 0) return callback();
    this.#onNoneOpen = callback;
    setTimeout(callback, LAST_COUNTS);
  }

  /** `failure` is what kept it from being answered by the application, or null. */
  count(exchange: Exchange, failure: unknown): void {
    const { status, trace } = exchange;
    const now = performance.now();
    const elapsed = now - trace.begunAt;
    this.#requests++;
    this.#seconds += elapsed / 1_000;
    this.#latency.record(elapsed);
    this.#statusCodes.add(status);
    (trace.tally ?? this.#tallies.none).statusCodes.add(status);
    this.#sinceSwitch.requests++;
    this.#sinceSwitch.seconds += elapsed / 1_000;
    this.#retries += trace.retries;
    const code = codeOf(exchange, failure);
    if (code !== null) {
      this.#errors.add(code);
      this.#note(exchange, code, failure);
    }
    // A tunnel has just begun.
    if (code !== null || status !== 101) this.#accessLog?.add(exchange, code, now);
    this.leaveOut();
  }

  /** An exchange that was announced is over, and is nothing to count. */
  leaveOut(): void {
    this.#open--;
    if (this.#open === 0) this.#onNoneOpen?.();
  }

  /** A tunnel is over, that was counted when it began. */
  endTunnel(exchange: Exchange): void {
    const code = exchange.trace.failure;
    if (code !== null) this.#errors.add(code);
    this.#accessLog?.add(exchange, code, performance.now());
  }

  #note(exchange: Exchange, code: ErrorCode, failure: unknown): void {
    if (code === 'internal_error') {
      this.#log.error({ err: failure, request: exchange.id }, 'request failed in the proxy');
      return;
    }
    // Going away is the client's right.
    if (code === 'client_closed' || !this.#mayLog(Date.now())) return;
    const known = failure instanceof WunderproxyError;
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

  /** Another container has come into service, at this time. */
  onSwitch(activeSince: number | null): void {
    if (activeSince === this.#sinceSwitch.activeSince) return;
    this.#sinceSwitch = { activeSince, requests: 0, seconds: 0 };
  }

  snapshot(): Counted {
    const { requests, seconds, latency } = this.#tallies.all.snapshot();
    return {
      requests: this.#requests,
      seconds: this.#seconds,
      statusCodes: this.#statusCodes.snapshot(),
      latency: this.#latency.snapshot(),
      upstream: { requests, seconds, latency },
      errors: this.#errors.snapshot(),
      retries: this.#retries,
      accessLog: this.#accessLog?.counts ?? { lines: 0, lost: 0 },
      sinceSwitch: this.#sinceSwitch,
    };
  }
}

type Counted = Pick<
  WorkerStats,
  'requests' | 'seconds' | 'statusCodes' | 'latency' | 'upstream' | 'errors' | 'retries' | 'accessLog' | 'sinceSwitch'
>;

/** Why a request was not answered by the application, or not to its end; null when it was. */
function codeOf(exchange: Exchange, failure: unknown): ErrorCode | null {
  const known = failure instanceof WunderproxyError;
  // A mistake of ours must not hide behind what it led to.
  if (failure !== null && (!known || failure.code === 'internal_error')) return 'internal_error';
  return exchange.failure ?? (known ? failure.code : null);
}
