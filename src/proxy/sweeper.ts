import { Crowd, type Place } from './crowd.ts';

/** Something that may have waited too long. */
export interface Watched {
  /** `now` is `performance.now()`: no setting of the clock ends what still has time, or keeps what has none. */
  checkDeadline(now: number): void;
}

/**
 * One timer for all deadlines of a worker. A deadline that moves with every byte costs nothing but an assignment; it is
 * noticed with a delay of up to the interval.
 */
export class Sweeper {
  readonly #watched = new Crowd<Watched>();
  readonly #timer: NodeJS.Timeout;

  /** @param interval in ms */
  constructor(interval: number) {
    this.#timer = setInterval(() => this.#sweep(), interval);
    this.#timer.unref();
  }

  /** Returned is what `forget` wants. */
  watch(watched: Watched): Place<Watched> {
    return this.#watched.join(watched);
  }

  forget(place: Place<Watched> | null): void {
    this.#watched.leave(place);
  }

  #sweep(): void {
    const now = performance.now();
    for (const watched of this.#watched) watched.checkDeadline(now);
  }
}
