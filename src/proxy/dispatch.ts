import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Dispatcher } from 'undici';
import { type ErrorCode, WunderproxyError } from '../errors.ts';
import type { Exchange, ExchangeOwner } from './exchange.ts';
import { interimFields, reasonPhrase, responseFields, trailerFields, upgradeFields } from './headers.ts';
import type { StoredBody } from './request-body.ts';
import { type ResponseSource, UpstreamResponse } from './response-body.ts';
import type { Router } from './router.ts';
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

/** Thrown at undici before it writes: the target left service meanwhile. The request never reached it. */
const RETARGETED = new Error('another container is in service');
/** As before: nobody waits for the answer any more. */
const GIVEN_UP = new Error('nobody waits for the answer');
/** Given to undici to end a connection whose response is not valid. */
const MALFORMED = new Error('the response is not valid HTTP');

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

class Dispatch implements Dispatcher.DispatchHandler, ExchangeOwner, Occupant, ResponseSource {
  readonly #exchange: Exchange;
  readonly #trace: Trace;
  readonly #router: Router;
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
  /** When the first interim response came, by `performance.now()`. */
  #informedAt: number | null = null;

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
    this.#options = { method, path: target, headers: fields, upgrade };
    this.#body = body;
  }

  start(): void {
    this.#exchange.owner = this;
    this.#choose();
  }

  #choose(): void {
    this.#phase = 'waiting';
    this.#controller = null;
    this.#written = false;
    const target = this.#router.current;
    if (target === null) return this.#fail('no_active_container');
    this.#target = target;
    this.#trace.dispatch(target.tally);
    target.claim(this);
    this.#options.body = this.#body === null ? null : this.#body.open();
    this.#connection = target.takeConnection(this.#retried);
    this.#connection.client.dispatch(this.#options, this);
  }

  // What undici tells ------------------------------------------------------------------------------------------------

  /** Called just before the request is written: the last moment to keep it from a target that has left service. */
  onRequestStart(controller: Dispatcher.DispatchController): void {
    if (this.#phase === 'over') throw GIVEN_UP;
    if (this.#target !== this.#router.current) throw RETARGETED;
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
    if (this.#phase === 'over') return;
    const raw = controller.rawHeaders as Buffer[];
    if (status < 200) return this.#onInterim(raw, status, statusText);
    const parsed = responseFields(raw, Date.now());
    if (parsed === null) return this.#abort('upstream_malformed');
    this.#phase = 'answered';
    this.#trace.answeredAt = performance.now();
    const head = { status, reason: reasonPhrase(status, statusText), fields: parsed.fields, length: parsed.length };
    this.#response = new UpstreamResponse(head, parsed.live, this);
    this.#resolve(this.#response);
  }

  #onInterim(raw: Buffer[], status: number, statusText: string | undefined): void {
    const fields = interimFields(raw);
    // A change of protocols that nobody asked for, or that does not say to which one.
    if (fields === null || status === 101 || status < 100) return this.#abort('upstream_malformed');
    // undici begins to wait anew with each of them: a container could go on for ever.
    this.#informedAt ??= performance.now();
    const waited = performance.now() - this.#informedAt;
    if (waited > (this.#target?.timeouts.response ?? 0)) return this.#abort('upstream_timeout');
    this.#exchange.inform(status, reasonPhrase(status, statusText), fields);
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#response?.push(chunk);
  }

  onResponseEnd(controller: Dispatcher.DispatchController): void {
    if (this.#connection?.broken === true) return this.#onBrokenEnd();
    const trailers = (controller.rawTrailers ?? []) as Buffer[];
    this.#last = this.#connection;
    this.#leave(true);
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
    const code = this.#codeFor(error);
    this.#leave(false);
    if (this.#phase === 'over') return;
    if (!again) return this.#fail(code, error);
    if (error !== RETARGETED) {
      this.#retried = true;
      this.#trace.retries++;
    }
    this.#choose();
  }

  /**
   * The one retry rule: once, on a new connection, when a kept-alive one turns out to be closed before any byte of an
   * answer came, and only if the request was never written or may be sent twice.
   */
  #mayRetry(error: Error): boolean {
    if (this.#retried || this.#heard || !isConnectionLoss(error)) return false;
    if (this.#phase === 'waiting') return this.#connection?.used === true;
    return this.#phase === 'written' && this.#reused && IDEMPOTENT.has(this.#exchange.head.method);
  }

  #codeFor(error: Error): ErrorCode {
    const code = (error as NodeJS.ErrnoException).code ?? '';
    // What undici refuses to send should not have come so far.
    if (code === 'UND_ERR_INVALID_ARG') return 'internal_error';
    if (this.#phase === 'waiting') return code === 'ETIMEDOUT' ? 'upstream_connect_timeout' : 'upstream_refused';
    if (code === 'UND_ERR_HEADERS_TIMEOUT') return 'upstream_timeout';
    if (code === 'UND_ERR_BODY_TIMEOUT') return 'upstream_stalled';
    if (isConnectionLoss(error)) return 'upstream_broken';
    // What else may come from undici is about a response that it can't read; anything else is a mistake of ours.
    const unreadable = error.name === 'HTTPParserError' || code.startsWith('UND_ERR_') || error === MALFORMED;
    return unreadable ? 'upstream_malformed' : 'internal_error';
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
      controller?.abort(MALFORMED);
    }
  }

  // What others tell -------------------------------------------------------------------------------------------------

  onRetired(): void {
    // Makes undici report RETARGETED for what it has not written.
    if (this.#phase === 'waiting') this.#connection?.destroy(RETARGETED);
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

/** Whether an error says that the connection was lost, in contrast to a response that can't be read. */
function isConnectionLoss(error: Error): boolean {
  const code = (error as NodeJS.ErrnoException).code ?? '';
  // undici gives the same code to a response that comes unasked or changes protocols unasked.
  if (code === 'UND_ERR_SOCKET') return !/^bad /.test(error.message);
  return code === 'ECONNRESET' || code === 'EPIPE' || code === 'ECONNABORTED' || code === 'ETIMEDOUT';
}
