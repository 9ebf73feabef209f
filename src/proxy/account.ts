import type { WorkerStats } from '../messages.ts';
import type { Exchange } from './exchange.ts';

/** What a worker counts of requests. Each exchange is counted once, when it is over, however it ended. */
export class Account {
  #requests = 0;
  readonly #statusCodes = new Map<number, number>();
  #sinceSwitch = { requests: 0, seconds: 0 };

  count(exchange: Exchange, now: number): void {
    this.#requests++;
    this.#statusCodes.set(exchange.status, (this.#statusCodes.get(exchange.status) ?? 0) + 1);
    this.#sinceSwitch.requests++;
    // The clock may have been set back meanwhile.
    this.#sinceSwitch.seconds += Math.max(0, now - exchange.startedAt) / 1_000;
  }

  /** Another container has come into service. */
  onSwitch(): void {
    this.#sinceSwitch = { requests: 0, seconds: 0 };
  }

  snapshot(): Pick<WorkerStats, 'requests' | 'statusCodes' | 'sinceSwitch'> {
    return {
      requests: this.#requests,
      statusCodes: Object.fromEntries(this.#statusCodes),
      sinceSwitch: this.#sinceSwitch,
    };
  }
}
