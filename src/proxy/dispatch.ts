import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Dispatcher } from 'undici';
import { type ErrorCode, WunderproxyError } from '../errors.ts';
import type { Exchange, ExchangeOwner } from './exchange.ts';
import { Fallback, type FallbackAttempt } from './fallback.ts';
import { interimFields, reasonPhrase, responseFields, trailerFields, upgradeFields } from './headers.ts';
import type { StoredBody } from './request-body.ts';
import type { Peers } from './peers.ts';
import { type ResponseSource, UpstreamResponse } from './response-body.ts';
import { failureOf, isConnectionLoss, isIdempotent, mayGoElsewhere, UNWANTED } from './retry-rule.ts';
import type { Router } from './router.ts';
import type { Tally } from './tally.ts';
import type { Occupant, Target, UpstreamConnection } from './target.ts';
import type { Trace } from './trace.ts';

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

/** Thrown at undici before it writes: the target left service meanwhile. The request never reached it. */
const RETARGETED = new Error('another container is in service');
/** As before: nobody waits for the answer any more. */
const GIVEN_UP = new Error('nobody waits for the answer');
/**
 * How far a request has come:
 *
 *     waiting ─▶ written ─▶ answered ─▶ over          (waiting ─▶ waiting when its target is retired)
 *
 * `waiting`: connecting or queued, nothing of it was written. `written`: the container may have read it. `answered`: the
 * head of the response is here.
 */
type Phase = 'waiting' | 'written' | 'answered' | 'over';

class Dispatch implements Dispatcher.DispatchHandler, ExchangeOwner, Occupant, ResponseSource {
  readonly #exchange: Exchange;
  readonly #trace: Trace;
  readonly #router: Router;
  readonly #peers: Peers | null;
  readonly #options: Dispatcher.DispatchOptions;
  readonly #body: StoredBody | null;
  readonly #resolve: (answer: Answer) => void;
  readonly #reject: (error: WunderproxyError) => void;
  #phase: Phase = 'waiting';
  #target: Target | null = null;
  #connection: UpstreamConnection | null = null;
  /** On which the response came that has ended. */
  #last: UpstreamConnection | null = null;
  #controller: Dispatcher.DispatchController | null = null;
  #response: UpstreamResponse | null = null;
  /** Whether the present target may have read the request. */
  #written = false;
  /** Whether the connection had carried a request before this one. */
  #reused = false;
  /** Whether any byte of an answer has come. */
  #heard = false;
  #retried = false;
  /** Once this machine could not answer it. */
  #fallback: Fallback | null = null;
  /** The peer that is tried now. */
  #attempt: FallbackAttempt | null = null;
  /** Why a response that has begun is not wanted. */
  #unwanted: ErrorCode | null = null;
  /** When the first interim response came, by `performance.now()`. */
  #informedAt: number | null = null;

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
    this.#options = { method, path: target, headers: fields, upgrade };
    this.#body = body;
  }

  start(): void {
    this.#exchange.owner = this;
    this.#choose();
  }

  #choose(): void {
    const target = this.#router.current;
    if (target === null) return this.#failed('no_active_container');
    this.#send(target, this.#options, target.tally);
  }

  #send(target: Target, options: Dispatcher.DispatchOptions, tally: Tally | null): void {
    this.#phase = 'waiting';
    this.#controller = null;
    this.#written = false;
    this.#target = target;
    this.#trace.dispatch(tally);
    target.claim(this);
    const body = this.#body === null ? null : this.#body.open();
    this.#connection = target.takeConnection(this.#retried);
    this.#connection.client.dispatch({ ...options, body }, this);
  }

  #sendToPeer(attempt: FallbackAttempt): void {
    this.#attempt = attempt;
    // It stays the container's that it was meant for.
    this.#send(attempt.peer.target, { ...this.#options, headers: attempt.fields() }, this.#trace.tally);
  }

  /** It has failed before any answer, and nothing of it runs any more. */
  #failed(code: ErrorCode, cause?: Error): void {
    this.#attempt?.end(code);
    this.#attempt = null;
    const elsewhere = mayGoElsewhere(code, this.#exchange.head.method);
    if (this.#peers !== null && elsewhere) {
      this.#fallback ??= new Fallback(this.#peers, this.#exchange, this.#options.headers as string[], code, cause);
      const next = this.#fallback.next();
      this.#heard = false;
      this.#retried = false;
      this.#informedAt = null;
      if (next !== null) return this.#sendToPeer(next);
    }
    // What a peer may have carried out must not look as if it had never begun.
    const told = elsewhere && this.#fallback !== null ? this.#fallback.local : { code, cause };
    this.#fail(told.code, told.cause);
  }

  // What undici tells ------------------------------------------------------------------------------------------------

  /** Called just before the request is written: the last moment to keep it from a target that has left service. */
  onRequestStart(controller: Dispatcher.DispatchController): void {
    if (this.#phase === 'over') throw GIVEN_UP;
    if (this.#attempt === null && this.#target !== this.#router.current) throw RETARGETED;
    this.#phase = 'written';
    this.#written = true;
    this.#trace.writtenAt = performance.now();
    this.#controller = controller;
    if (this.#connection === null) return;
    this.#reused = this.#connection.used;
    this.#connection.used = true;
  }

  onResponseStarted(): void {
    this.#heard = true;
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    _headers: unknown,
    statusText?: string,
  ): void {
    if (this.#phase === 'over' || controller !== this.#controller) return;
    const raw = controller.rawHeaders as Buffer[];
    if (status < 200) return this.#onInterim(raw, status, statusText);
    const parsed = responseFields(raw, Date.now());
    if (parsed === null) return this.#refuse('upstream_malformed');
    const unwanted = this.#attempt === null ? this.#failureIn(status) : this.#attempt.refusal(raw);
    if (unwanted !== null && mayGoElsewhere(unwanted, this.#exchange.head.method)) return this.#refuse(unwanted);
    this.#attempt?.answered();
    this.#phase = 'answered';
    this.#trace.answeredAt = performance.now();
    const head = { status, reason: reasonPhrase(status, statusText), fields: parsed.fields, length: parsed.length };
    this.#response = new UpstreamResponse(head, parsed.live, this);
    this.#resolve(this.#response);
  }

  /** The container's answer is as good as none, and there is somebody else to ask. */
  #failureIn(status: number): ErrorCode | null {
    if (this.#peers === null || !this.#peers.countsAsFailure(status) || !this.#peers.usable) return null;
    return 'upstream_bad_gateway';
  }

  /** The response that has begun can't be the client's: `onResponseError` is told. */
  #refuse(code: ErrorCode): void {
    this.#unwanted = code;
    this.#controller?.abort(UNWANTED);
  }

  #onInterim(raw: Buffer[], status: number, statusText: string | undefined): void {
    const fields = interimFields(raw);
    // A change of protocols that nobody asked for, or that does not say to which one.
    if (fields === null || status === 101 || status < 100) return this.#refuse('upstream_malformed');
    // undici begins to wait anew with each of them: a container could go on for ever.
    this.#informedAt ??= performance.now();
    const waited = performance.now() - this.#informedAt;
    if (waited > (this.#target?.timeouts.response ?? 0)) return this.#abort('upstream_timeout');
    this.#exchange.inform(status, reasonPhrase(status, statusText), fields);
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    // Null: the response was not wanted.
    this.#response?.push(chunk);
  }

  onResponseEnd(controller: Dispatcher.DispatchController): void {
    if (controller !== this.#controller) return;
    if (this.#connection?.broken === true) return this.#onBrokenEnd();
    const trailers = (controller.rawTrailers ?? []) as Buffer[];
    this.#last = this.#connection;
    this.#leave(true);
    this.#attempt?.end(null);
    this.#end();
    this.#response?.end(trailers.length === 0 ? [] : trailerFields(trailers));
  }

  /** undici takes a reset for the end of a body whose end only the connection tells: it may be anywhere in it. */
  #onBrokenEnd(): void {
    this.#leave(false);
    this.#fail('upstream_broken');
  }

  onRequestUpgrade(
    controller: Dispatcher.DispatchController,
    _status: number,
    _headers: unknown,
    socket: Duplex,
  ): void {
    const target = this.#target;
    const fields = upgradeFields(controller.rawHeaders as Buffer[], this.#exchange.head.upgrade ?? '');
    if (this.#phase === 'over' || target === null || fields === null) {
      socket.destroy();
      if (this.#phase !== 'over') this.#fail('upstream_malformed');
      return;
    }
    this.#attempt?.end(null);
    this.#end();
    this.#resolve({
      target,
      socket: socket as Socket,
      reason: reasonPhrase(101),
      fields,
      release: () => this.#leave(false),
    });
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    const again = error === RETARGETED || this.#mayRetry(error);
    const code = this.#unwanted ?? failureOf(error, this.#phase !== 'waiting');
    this.#unwanted = null;
    this.#leave(false);
    if (this.#phase === 'over') return;
    if (this.#phase === 'answered') return this.#fail(code, error);
    if (!again) return this.#failed(code, error);
    if (error !== RETARGETED) {
      this.#retried = true;
      this.#trace.retries++;
    }
    if (this.#attempt === null) this.#choose();
    else this.#sendToPeer(this.#attempt);
  }

  /**
   * To the same again: once, on a new connection, when a kept-alive one turns out to be closed before any byte of an
   * answer came, and only if the request was never written or may be sent twice.
   */
  #mayRetry(error: Error): boolean {
    if (this.#retried || this.#heard || !isConnectionLoss(error)) return false;
    if (this.#phase === 'waiting') return this.#connection?.used === true;
    return this.#phase === 'written' && this.#reused && isIdempotent(this.#exchange.head.method);
  }

  // Ends -------------------------------------------------------------------------------------------------------------

  /** Releases the target; the connection goes back when it can be used again. */
  #leave(reusable: boolean): void {
    const target = this.#target;
    const connection = this.#connection;
    if (target === null) return;
    this.#target = null;
    this.#connection = null;
    if (connection !== null) {
      if (reusable) target.returnConnection(connection);
      else connection.close();
    }
    this.#trace.releasedAt = performance.now();
    if (this.#written) target.tally.finish(this.#trace.releasedAt - this.#trace.dispatchedAt);
    target.release(this);
  }

  #end(): void {
    this.#phase = 'over';
    this.#body?.release();
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
    const waiting = this.#phase === 'waiting';
    const controller = this.#controller;
    this.#fail(code);
    if (waiting) {
      // It is still in undici's hands, and the connection may be of use to the next; what counts is that nobody waits.
      this.#target?.release(this);
      this.#connection?.destroy(GIVEN_UP);
    } else {
      controller?.abort(UNWANTED);
    }
  }

  // What others tell -------------------------------------------------------------------------------------------------

  onRetired(): void {
    // Makes undici report RETARGETED for what it has not written.
    if (this.#phase === 'waiting' && this.#attempt === null) this.#connection?.destroy(RETARGETED);
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
    this.#controller?.pause();
  }

  resume(): void {
    this.#controller?.resume();
  }

  abort(): void {
    this.#abort('client_closed');
  }

  get overran(): boolean {
    return this.#last?.overran === true;
  }
}
