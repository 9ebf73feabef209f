import { type ErrorCode, WunderproxyError } from '../errors.ts';
import type { Account } from './account.ts';
import { dispatch } from './dispatch.ts';
import type { Exchange } from './exchange.ts';
import { isSecure, requestFields, requestId, type Trust, withHsts } from './headers.ts';
import { refusal, type RequestLimits } from './limits.ts';
import { redirect, type RedirectPolicy, redirectTarget } from './redirect.ts';
import { type BodyContext, type BodyLimits, storeBody } from './request-body.ts';
import { respondWithError } from './respond.ts';
import { deliver, UpstreamResponse } from './response-body.ts';
import type { Router } from './router.ts';
import { tunnel, type TunnelContext } from './upgrade.ts';

/** What the stages share. */
export interface PipelineContext extends BodyContext, TunnelContext {
  readonly router: Router;
  readonly account: Account;
  readonly limits: RequestLimits & BodyLimits;
  readonly trust: Trust;
  readonly https: RedirectPolicy;
  /** Value of Strict-Transport-Security for answers over secure connections, or null. */
  readonly hsts: string | null;
}

/** The way of one request: every stage in the order of its execution. Never rejects. */
export async function serve(exchange: Exchange, context: PipelineContext): Promise<void> {
  exchange.id = requestId(exchange.head, exchange.client, context.trust);
  const secure = isSecure(exchange.head, exchange.client, context.trust);
  const hsts = secure ? context.hsts : null;
  let failure: unknown = null;
  try {
    const refused = refusal(exchange, context.limits);
    if (refused !== null) throw new WunderproxyError(refused);
    const location = secure ? null : redirectTarget(exchange.head, context.https);
    if (location !== null) return redirect(exchange, location);
    const body = exchange.body === null ? null : await storeBody(exchange.body, context);
    const fields = requestFields(exchange.head, exchange.client, context.trust, {
      id: exchange.id,
      startedAt: exchange.startedAt,
      bodyLength: body === null ? null : body.length,
    });
    const answer = await dispatch(exchange, fields, body, context.router);
    if (answer instanceof UpstreamResponse) {
      if (hsts !== null) answer.head = withHsts(answer.head, hsts);
      await deliver(exchange, answer, context.spool);
    } else {
      tunnel(exchange, answer, context);
    }
  } catch (error) {
    failure = error;
    respondWithError(exchange, codeOf(error), hsts);
  } finally {
    await exchange.finished;
    context.account.count(exchange, failure);
  }
}

/** Answers a request that could not be read; counted like any other. */
export async function refuse(exchange: Exchange, code: ErrorCode, context: PipelineContext): Promise<void> {
  exchange.id = requestId(exchange.head, exchange.client, context.trust);
  respondWithError(exchange, code, exchange.client.scheme === 'https' ? context.hsts : null);
  await exchange.finished;
  context.account.count(exchange, new WunderproxyError(code));
}

function codeOf(error: unknown): ErrorCode {
  return error instanceof WunderproxyError ? error.code : 'internal_error';
}
