import { type ErrorCode, WunderproxyError } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { Account } from './account.ts';
import { dispatch } from './dispatch.ts';
import type { Exchange } from './exchange.ts';
import { requestFields, requestId, type Trust } from './headers.ts';
import { refusal, type RequestLimits } from './limits.ts';
import { storeBody } from './request-body.ts';
import { respondWithError } from './respond.ts';
import { deliver, UpstreamResponse } from './response-body.ts';
import type { Router } from './router.ts';
import { tunnel } from './upgrade.ts';

/** What the stages share. */
export interface PipelineContext {
  readonly router: Router;
  readonly account: Account;
  readonly limits: RequestLimits;
  readonly trust: Trust;
  readonly log: Logger;
}

/** The way of one request: every stage in the order of its execution. Never rejects. */
export async function serve(exchange: Exchange, context: PipelineContext): Promise<void> {
  exchange.id = requestId(exchange.head, exchange.client, context.trust);
  try {
    const refused = refusal(exchange, context.limits);
    if (refused !== null) throw new WunderproxyError(refused);
    const body = exchange.body === null ? null : await storeBody(exchange.body, context.limits.maxBody);
    const fields = requestFields(exchange.head, exchange.client, context.trust, {
      id: exchange.id,
      startedAt: exchange.startedAt,
      bodyLength: body === null ? null : body.length,
    });
    const answer = await dispatch(exchange, fields, body, context.router);
    if (answer instanceof UpstreamResponse) await deliver(exchange, answer);
    else tunnel(exchange, answer);
  } catch (error) {
    onFailure(exchange, error, context);
  }
  await exchange.finished;
  context.account.count(exchange);
}

/** Answers a request that could not be read; counted like any other. */
export async function refuse(exchange: Exchange, code: ErrorCode, context: PipelineContext): Promise<void> {
  exchange.id = requestId(exchange.head, exchange.client, context.trust);
  respondWithError(exchange, code);
  await exchange.finished;
  context.account.count(exchange);
}

function onFailure(exchange: Exchange, error: unknown, context: PipelineContext): void {
  const code = error instanceof WunderproxyError ? error.code : 'internal_error';
  if (code === 'internal_error') context.log.error({ err: error, request: exchange.id }, 'request failed in the proxy');
  else if (code.startsWith('upstream_')) context.log.warn({ code, request: exchange.id }, 'request failed');
  respondWithError(exchange, code);
}
