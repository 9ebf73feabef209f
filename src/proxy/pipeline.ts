import { type ErrorCode, WunderproxyError } from '../errors.ts';
import type { Account } from './account.ts';
import { dispatch } from './dispatch.ts';
import type { Exchange } from './exchange.ts';
import { requestFields, requestId, type Trust } from './headers.ts';
import { refusal, type RequestLimits } from './limits.ts';
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
}

/** The way of one request: every stage in the order of its execution. Never rejects. */
export async function serve(exchange: Exchange, context: PipelineContext): Promise<void> {
  context.account.open();
  exchange.id = requestId(exchange.head, exchange.client, context.trust);
  let failure: unknown = null;
  try {
    const refused = refusal(exchange, context.limits);
    if (refused !== null) throw new WunderproxyError(refused);
    const body = exchange.body === null ? null : await storeBody(exchange.body, context);
    exchange.trace.receivedAt = performance.now();
    const fields = requestFields(exchange.head, exchange.client, context.trust, {
      id: exchange.id,
      startedAt: exchange.startedAt,
      bodyLength: body === null ? null : body.length,
    });
    const answer = await dispatch(exchange, fields, body, context.router);
    if (answer instanceof UpstreamResponse) await deliver(exchange, answer, context.spool);
    else tunnel(exchange, answer, context);
  } catch (error) {
    failure = error;
    respondWithError(exchange, codeOf(error));
  }
  await exchange.finished;
  context.account.count(exchange, failure);
}

/** Answers a request that could not be read; counted like any other. */
export async function refuse(exchange: Exchange, code: ErrorCode, context: PipelineContext): Promise<void> {
  context.account.open();
  exchange.trace.readable = false;
  exchange.id = requestId(exchange.head, exchange.client, context.trust);
  respondWithError(exchange, code);
  await exchange.finished;
  context.account.count(exchange, new WunderproxyError(code));
}

function codeOf(error: unknown): ErrorCode {
  return error instanceof WunderproxyError ? error.code : 'internal_error';
}
