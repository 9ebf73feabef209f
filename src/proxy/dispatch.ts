import type { Socket } from 'node:net';
import { type ErrorCode, WunderproxyError } from '../errors.ts';
import type { Place } from './crowd.ts';
import type { Exchange, ExchangeOwner, Fields } from './exchange.ts';
import { Fallback, type FallbackAttempt } from './fallback.ts';
import { interimFields, reasonPhrase, responseFields, trailerFields, upgradeFields } from './headers.ts';
import type { Http1ResponseHead } from './http1-response.ts';
import type { Peers } from './peers.ts';
import type { StoredBody } from './request-body.ts';
import { type ResponseSource, UpstreamResponse } from './response-body.ts';
import { isIdempotent, mayGoElsewhere } from './retry-rule.ts';
import type { Router } from './router.ts';
import type { Tally } from './tally.ts';
import type { Occupant, Target } from './target.ts';
import type { Trace } from './trace.ts';
import type { UpstreamConnection } from './upstream-connection.ts';
import type { OutgoingRequest, ResponseHandler, UpstreamFailure } from './upstream-request.ts';

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
 * Sends a request to the container in service, or else to a peer. Resolves when the head of the response is there. Rejects
 * with `no_active_container`, `upstream_refused`, `upstream_connect_timeout`, `upstream_broken`, `upstream_malformed`,
 * `upstream_bad_gateway`, `upstream_timeout`, `drain_timeout` or `client_closed`.
 *
 * @param fields what the container gets (see headers.ts)
 * @param body released as soon as it is not needed any more
 * @param peers null: the request may not be passed on
 */
export function dispatch(
  exchange: Exchange,
  fields: string[],
  body: StoredBody | null,
  router: Router,
  peers: Peers | null,
): Promise<Answer> {
  return new Promise((resolve, reject) => new Dispatch(exchange, fields, body, router, peers, resolve, reject).start());
}

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
  readonly #peers: Peers | null;
  readonly #request: OutgoingRequest;
  readonly #resolve: (answer: Answer) => void;
  readonly #reject: (error: WunderproxyError) => void;
  #phase: Phase = 'waiting';
  #target: Target | null = null;
  /** At the target. */
  #place: Place<Occupant> | null = null;
  #connection: UpstreamConnection | null = null;
  #response: UpstreamResponse | null = null;
  /** Whether the present target may have read the request. */
  #written = false;
  /** Whether the connection had carried a request before this one. */
  #reused = false;
  #retried = false;
  /** Once this machine could not answer it. */
  #fallback: Fallback | null = null;
  /** The peer that is tried now. */
  #attempt: FallbackAttempt | null = null;
  overran = false;

  constructor(
    exchange: Exchange,
    fields: string[],
    body: StoredBody | null,
    router: Router,
    peers: Peers | null,
    resolve: (answer: Answer) => void,
    reject: (error: WunderproxyError) => void,
  ) {
    this.#exchange = exchange;
    this.#trace = exchange.trace;
    this.#router = router;
    this.#peers = peers;
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
    const target = this.#router.current;
    if (target === null) return this.#failed('no_active_container');
    this.#send(target, this.#request, target.tally);
  }

  #sendToPeer(attempt: FallbackAttempt): void {
    this.#attempt = attempt;
    // It stays the container's that it was meant for.
    this.#send(attempt.peer.target, { ...this.#request, fields: attempt.fields() }, this.#trace.tally);
  }

  #send(target: Target, request: OutgoingRequest, tally: Tally | null): void {
    this.#phase = 'waiting';
    this.#written = false;
    this.#target = target;
    this.#trace.dispatch(tally);
    this.#place = target.claim(this);
    const tunnel = request.upgrade !== null;
    const connection = tunnel || this.#retried ? target.newConnection(tunnel) : target.takeConnection();
    this.#connection = connection;
    this.#reused = connection.used;
    connection.send(request, this);
  }

  // What the connection tells ----------------------------------------------------------------------------------------

  onWrite(): void {
    this.#phase = 'written';
    this.#written = true;
    this.#trace.writtenAt = performance.now();
  }

  onHead(head: Http1ResponseHead): void {
    const { status, length } = head;
    const unwanted = this.#attempt === null ? this.#failureIn(status) : this.#attempt.refusal(head);
    if (unwanted !== null && mayGoElsewhere(unwanted, this.#request.method)) return this.#refuse(unwanted);
    this.#attempt?.answered();
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

  /** The container's answer is as good as none, and there is somebody else to ask. */
  #failureIn(status: number): ErrorCode | null {
    if (this.#peers === null || !this.#peers.countsAsFailure(status) || !this.#peers.usable) return null;
    return 'upstream_bad_gateway';
  }

  /** The response that has begun can't be the client's. */
  #refuse(code: ErrorCode): void {
    this.#connection?.destroy();
    this.#leave();
    this.#failed(code);
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
    this.#attempt?.end(null);
    this.#end();
    this.#response?.end(trailers.length === 0 ? trailers : trailerFields(trailers));
  }

  onUpgrade(head: Http1ResponseHead, socket: Socket): void {
    const target = this.#target;
    const fields = upgradeFields(head, this.#exchange.head.upgrade ?? '');
    if (target === null || fields === null) {
      socket.destroy();
      this.#leave();
      return this.#failed('upstream_malformed');
    }
    this.#attempt?.end(null);
    this.#end();
    this.#resolve({ target, socket, reason: reasonPhrase(101), fields, release: () => this.#leave() });
  }

  onFailure(code: UpstreamFailure, heard: boolean, cause?: Error): void {
    const again = this.#mayRetry(code, heard);
    this.#leave();
    if (this.#phase === 'answered') return this.#fail(code, cause);
    if (!again) return this.#failed(code, cause);
    this.#retried = true;
    this.#trace.retries++;
    if (this.#attempt === null) this.#choose();
    else this.#sendToPeer(this.#attempt);
  }

  /**
   * To the same again: once, on a new connection, when a kept-alive one turns out to be closed before any byte of an
   * answer came, and only if the request may be sent twice.
   */
  #mayRetry(code: UpstreamFailure, heard: boolean): boolean {
    if (this.#retried || heard || code !== 'upstream_broken') return false;
    return this.#reused && isIdempotent(this.#request.method);
  }

  /** It has failed before any answer, and nothing of it runs any more. */
  #failed(code: ErrorCode, cause?: Error): void {
    this.#attempt?.end(code);
    this.#attempt = null;
    const elsewhere = mayGoElsewhere(code, this.#request.method);
    if (this.#peers !== null && elsewhere) {
      this.#fallback ??= new Fallback(this.#peers, this.#exchange, this.#request.fields, code, cause);
      const next = this.#fallback.next();
      this.#retried = false;
      if (next !== null) return this.#sendToPeer(next);
    }
    // What a peer may have carried out must not look as if it had never begun.
    const told = elsewhere && this.#fallback !== null ? this.#fallback.local : { code, cause };
    this.#fail(told.code, told.cause);
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
    target.release(this.#place);
  }

  #end(): void {
    this.#phase = 'over';
    this.#request.body?.release();
  }

  #fail(code: ErrorCode, cause?: Error): void {
    const answered = this.#phase === 'answered';
    this.#attempt?.end(code);
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
    if (this.#phase !== 'waiting' || this.#attempt !== null) return;
    this.#connection?.destroy();
    this.#leave();
    this.#choose();
  }

  cut(): void {
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
