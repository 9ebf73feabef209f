import type { Http2Exchange } from './http2-exchange.ts';

/** The open streams of a connection, in the order of their numbers. Why they are not in a Map: see crowd.ts. */
export class OpenStreams {
  readonly #streams: Http2Exchange[] = [];

  get size(): number {
    return this.#streams.length;
  }

  get(streamId: number): Http2Exchange | undefined {
    const found = this.#streams[this.#firstFrom(streamId)];
    return found?.streamId === streamId ? found : undefined;
  }

  add(exchange: Http2Exchange): void {
    this.#streams.splice(this.#firstFrom(exchange.streamId), 0, exchange);
  }

  /** Returns whether it was there. */
  delete(streamId: number): boolean {
    const at = this.#firstFrom(streamId);
    if (this.#streams[at]?.streamId !== streamId) return false;
    this.#streams.splice(at, 1);
    return true;
  }

  /** A list of its own: it stays as it is. */
  all(): Http2Exchange[] {
    return this.#streams.slice();
  }

  /** Where the first stream with this number, or a higher one, stands. */
  #firstFrom(streamId: number): number {
    let low = 0;
    for (let high = this.#streams.length; low < high;) {
      const middle = (low + high) >>> 1;
      if ((this.#streams[middle]?.streamId ?? 0) < streamId) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
