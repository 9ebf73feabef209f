import type { WorkerStats } from '../messages.ts';
import type { Exchange } from './exchange.ts';
import { Latency } from './latency.ts';

/** What a worker counts of requests. Each exchange is counted once, when it is over, however it ended. */
export class Account {
  #requests = 0;
  readonly #statusCodes = new Map<number, number>();
  readonly #latency = new Latency();
  #sinceSwitch = { requests: 0, seconds: 0 };

  count(exchange: Exchange): void {
    this.#requests++;
    this.#statusCodes.set(exchange.status, (this.#statusCodes.get(exchange.status) ?? 0) + 1);
    this.#sinceSwitch.requests++;
    const elapsed = performance.now() - exchange.begunAt;
    this.#sinceSwitch.seconds += elapsed / 1_000;
    this.#latency.record(elapsed);
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
