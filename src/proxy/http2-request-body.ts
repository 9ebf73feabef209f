import type { BodySink, BodySource } from './exchange.ts';

/** Who must know what becomes of a body: its stream. */
export interface BodyOwner {
  /** Somebody has begun to read it. */
  onWanted(): void;
  /** So many bytes have been used: the client may send as many more. */
  onConsumed(bytes: number): void;
}

/** The body of a request by HTTP/2 (RFC 9113 section 8.1), as far as it has come. */
export class Http2RequestBody implements BodySource {
  /** See BodySource. */
  readonly length: number | null;
  /** The client has sent all of it. */
  ended = false;
  readonly #owner: BodyOwner;
  #sink: BodySink | null = null;
  #paused = true;
  /** Pieces that nobody has wanted yet. */
  #held: Buffer[] = [];
  #received = 0;
  #failed = false;
  /** Nobody is to have it any more. */
  #dropped = false;

  constructor(announced: number | null, owner: BodyOwner) {
    this.length = announced;
    this.#owner = owner;
  }

  receive(data: Buffer, ended: boolean): void {
    this.ended = ended;
    this.#received += data.length;
    // RFC 9113 section 8.1.1: what was announced and what comes must agree.
    const wrong = this.length !== null && (ended ? this.#received !== this.length : this.#received > this.length);
    if (wrong) this.#fail();
    if (this.#dropped) return this.#owner.onConsumed(data.length);
    if (data.length > 0) this.#held.push(data);
    this.#deliver();
  }

  /** What comes after it is not valid. */
  onBadTrailers(): void {
    this.ended = true;
    this.#fail();
  }

  read(sink: BodySink): void {
    if (this.#failed) return sink.onBodyError('bad_request');
    this.#sink = sink;
    this.#paused = false;
    this.#owner.onWanted();
    this.#deliver();
  }

  resume(): void {
    this.#paused = false;
    this.#deliver();
  }

  /** Nobody is to have what has come and what comes. Returns who was reading. */
  drop(): BodySink | null {
    this.#dropped = true;
    for (const data of this.#held.splice(0)) this.#owner.onConsumed(data.length);
    const sink = this.#sink;
    this.#sink = null;
    return sink;
  }

  #fail(): void {
    if (this.#failed) return;
    this.#failed = true;
    this.drop()?.onBodyError('bad_request');
  }

  #deliver(): void {
    while (this.#sink !== null && !this.#paused) {
      const data = this.#held.shift();
      if (data === undefined) break;
      this.#paused = !this.#sink.onBodyData(data);
      this.#owner.onConsumed(data.length);
    }
    if (this.#sink === null || this.#held.length > 0 || !this.ended) return;
    const sink = this.#sink;
    this.#sink = null;
    sink.onBodyEnd();
  }
}
