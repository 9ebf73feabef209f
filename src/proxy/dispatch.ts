import type { Socket } from 'node:net';
import { type ErrorCode, WunderproxyError } from '../errors.ts';
import type { Exchange, ExchangeOwner, Fields } from './exchange.ts';
import { interimFields, reasonPhrase, responseFields, trailerFields, upgradeFields } from './headers.ts';
import type { Http1ResponseHead } from './http1-response.ts';
import type { StoredBody } from './request-body.ts';
import { type ResponseSource, UpstreamResponse } from './response-body.ts';
import type { Router } from './router.ts';
import type { Occupant, Target } from './target.ts';
import type { Trace } from './trace.ts';
import type { OutgoingRequest, ResponseHandler, UpstreamConnection, UpstreamFailure } from './upstream-connection.ts';

/** A container that has changed protocols: from here on its connection is a tunnel. */
export interface Upgraded {
  readonly target: Target;
  /** To be called once the tunnel is counted: until then the request counts as in flight. */
  readonly release: () => void;
  readonly socket: Socket;
  readonly reason: string;
  readonly fields: string[];
}

export type Answer = UpstreamResponse | Upgraded;

/**
 * Sends a request to the container in service. Resolves when the head of the response is there. Rejects with
 * `no_active_container`, `upstream_refused`, `upstream_connect_timeout`, `upstream_broken`, `upstream_malformed`,
 * `upstream_timeout`, `drain_timeout` or `client_closed`.
 *
 * @param fields what the container gets (see headers.ts)
 * @param body released as soon as it is not needed any more
 */
export function dispatch(
  exchange: Exchange,
  fields: string[],
  body: StoredBody | null,
  router: Router,
): Promise<Answer> {
  return new Promise((resolve, reject) => new Dispatch(exchange, fields, body, router, resolve, reject).start());
}

/** Methods whose requests may be sent twice (RFC 9110 section 9.2.2). */
const IDEMPOTENT = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE']);

/**
 * How far a request has come:
 *
 *     waiting ─▶ written ─▶ answered ─▶ over          (waiting ─▶ waiting when its target is retired)
 *
 * `waiting`: connecting or queued, nothing of it was written. `written`: the container may have read it. `answered`: the
 * head of the response is here.
 */
type Phase = 'waiting' | 'written' | 'answered' | 'over';

class Dispatch implements ResponseHandler, ExchangeOwner, Occupant, ResponseSource {
  readonly #exchange: Exchange;
  readonly #trace: Trace;
  readonly #router: Router;
  readonly #request: OutgoingRequest;
  readonly #resolve: (answer: Answer) => void;
  readonly #reject: (error: WunderproxyError) => void;
  #phase: Phase = 'waiting';
  #target: Target | null = null;
  #connection: UpstreamConnection | null = null;
  #response: UpstreamResponse | null = null;
  /** Whether the present target may have read the request. */
  #written = false;
  /** Whether the connection had carried a request before this one. */
  #reused = false;
  #retried = false;
  overran = false;

  constructor(
    exchange: Exchange,
    fields: string[],
    body: StoredBody | null,
    router: Router,
    resolve: (answer: Answer) => void,
    reject: (error: WunderproxyError) => void,
  ) {
    this.#exchange = exchange;
    this.#trace = exchange.trace;
    this.#router = router;
    this.#resolve = resolve;
    this.#reject = reject;
    const { method, target, upgrade } = exchange.head;
    this.#request = { method, target, fields, body, upgrade };
  }

  start(): void {
    this.#exchange.owner = this;
    this.#choose();
  }

  #choose(): void {
    this.#phase = 'waiting';
    this.#written = false;
    const target = this.#router.current;
    if (target === null) return this.#fail('no_active_container');
    this.#target = target;
    this.#trace.dispatch(target.tally);
    target.claim(this);
    const tunnel = this.#request.upgrade !== null;
    const connection = tunnel || this.#retried ? target.newConnection(tunnel) : target.takeConnection();
    this.#connection = connection;
    this.#reused = connection.used;
    connection.send(this.#request, this);
  }

  // What the connection tells ----------------------------------------------------------------------------------------

  onWrite(): void {
    this.#phase = 'written';
    this.#written = true;
    this.#trace.writtenAt = performance.now();
  }

  onHead(head: Http1ResponseHead): void {
    const { status, length } = head;
    this.#phase = 'answered';
    this.#trace.answeredAt = performance.now();
    const { fields, live } = responseFields(head, Date.now());
    this.#response = new UpstreamResponse(
      { status, reason: reasonPhrase(status, head.reason), fields, length },
      live,
      this,
    );
    this.#resolve(this.#response);
  }

  onInterim(head: Http1ResponseHead): void {
    this.#exchange.inform(head.status, reasonPhrase(head.status, head.reason), interimFields(head));
  }

  onData(chunk: Buffer): boolean {
    return this.#response?.push(chunk) ?? true;
  }

  onEnd(trailers: Fields, overran: boolean): void {
    this.overran = overran;
    this.#leave();
    this.#end();
    this.#response?.end(trailers.length === 0 ? trailers : trailerFields(trailers));
  }

  onUpgrade(head: Http1ResponseHead, socket: Socket): void {
    const target = this.#target;
    const fields = upgradeFields(head, this.#exchange.head.upgrade ?? '');
    if (target === null || fields === null) {
      socket.destroy();
      this.#leave();
      return this.#fail('upstream_malformed');
    }
    this.#end();
    this.#resolve({ target, socket, reason: reasonPhrase(101), fields, release: () => this.#leave() });
  }

  onFailure(code: UpstreamFailure, heard: boolean, cause?: Error): void {
    const again = this.#mayRetry(code, heard);
    this.#leave();
    if (!again) return this.#fail(code, cause);
    this.#retried = true;
    this.#trace.retries++;
    this.#choose();
  }

  /**
   * The one retry rule: once, on a new connection, when a kept-alive one turns out to be closed before any byte of an
   * answer came, and only if the request may be sent twice.
   */
  #mayRetry(code: UpstreamFailure, heard: boolean): boolean {
    if (this.#retried || heard || code !== 'upstream_broken') return false;
    return this.#reused && IDEMPOTENT.has(this.#exchange.head.method);
  }

  // Ends -------------------------------------------------------------------------------------------------------------

  /** Releases the target. */
  #leave(): void {
    const target = this.#target;
    if (target === null) return;
    this.#target = null;
    this.#connection = null;
    this.#trace.releasedAt = performance.now();
    if (this.#written) target.tally.finish(this.#trace.releasedAt - this.#trace.dispatchedAt);
    target.release(this);
  }

  #end(): void {
    this.#phase = 'over';
    this.#request.body?.release();
  }

  #fail(code: ErrorCode, cause?: Error): void {
    const answered = this.#phase === 'answered';
    this.#end();
    if (answered) this.#response?.fail(code);
    else this.#reject(new WunderproxyError(code, { cause }));
  }

  /** Ends the request at the container and the wait for it. */
  #abort(code: ErrorCode): void {
    if (this.#phase === 'over') return;
    this.#connection?.destroy();
    this.#leave();
    this.#fail(code);
  }

  // What others tell -------------------------------------------------------------------------------------------------

  /** What was not written goes to the container that is in service now. */
  onRetired(): void {
    if (this.#phase !== 'waiting') return;
    this.#connection?.destroy();
    this.#leave();
    this.#choose();
  }

  cut(): void {
    if (this.#phase === 'answered' && this.#exchange.status !== 0) this.#exchange.abort();
    this.#abort('drain_timeout');
  }

  onClientGone(): void {
    this.#abort('client_closed');
  }

  onDrain(): void {}

  pause(): void {
    this.#connection?.pause();
  }

  resume(): void {
    this.#connection?.resume();
  }

  abort(): void {
    this.#abort('client_closed');
  }
}
