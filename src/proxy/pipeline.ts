import { type ErrorCode, WunderproxyError } from '../errors.ts';
import type { Account } from './account.ts';
import { type Challenges, challengeToken, respondToChallenge } from './challenges.ts';
import { compress, type CompressContext } from './compress.ts';
import { dispatch } from './dispatch.ts';
import type { Exchange } from './exchange.ts';
import { givenId, isSecure, requestFields, requestId, type Trust, withHsts } from './headers.ts';
import { type HealthContext, isHealthCheck, respondToHealthCheck } from './health.ts';
import { refusal, type RequestLimits } from './limits.ts';
import { type Markers, sealRefusal, type Signed } from './markers.ts';
import { isMarked, withFallbackNote, withLiveNote } from './peer-headers.ts';
import type { Peers } from './peers.ts';
import { redirect, type RedirectPolicy, redirectTarget } from './redirect.ts';
import { type BodyContext, type BodyLimits, storeBody } from './request-body.ts';
import { respondToServerOptions, respondWithError } from './respond.ts';
import { deliver, UpstreamResponse } from './response-body.ts';
import type { Router } from './router.ts';
import { tunnel, type TunnelContext } from './upgrade.ts';

/** What the stages share. */
export interface PipelineContext extends BodyContext, TunnelContext, CompressContext, HealthContext {
  readonly router: Router;
  readonly account: Account;
  /** Null: requests do not fall back. */
  readonly peers: Peers | null;
  readonly markers: Markers;
  readonly limits: RequestLimits & BodyLimits;
  readonly trust: Trust;
  /** Null: without ACME its paths are the application's. */
  readonly challenges: Challenges | null;
  readonly https: RedirectPolicy;
  /** Value of Strict-Transport-Security for answers over secure connections, or null. */
  readonly hsts: string | null;
}

/** The way of one request: every stage in the order of its execution. Never rejects. */
export async function serve(exchange: Exchange, context: PipelineContext): Promise<void> {
  context.account.open();
  exchange.id = requestId(exchange.head, exchange.client, context.trust);
  if (isHealthCheck(exchange.head)) return serveHealthCheck(exchange, context);
  const token = context.challenges && challengeToken(exchange.head);
  if (token !== null) return serveChallenge(exchange, token, context);
  const signed = isMarked(exchange.head) ? await admit(exchange, context) : null;
  const secure = isSecure(exchange.head, exchange.client, context.trust);
  const hsts = secure ? context.hsts : null;
  let failure: unknown = null;
  try {
    const refused = refusal(exchange, context.limits);
    if (refused !== null) throw new WunderproxyError(refused);
    const location = secure || signed !== null ? null : redirectTarget(exchange.head, context.https);
    if (location !== null) redirect(exchange, location);
    else if (exchange.head.target === '*') respondToServerOptions(exchange);
    else await forward(exchange, context, hsts);
  } catch (error) {
    failure = error;
    const code = codeOf(error);
    const proof = signed && sealRefusal(signed, code);
    respondWithError(exchange, code, hsts, proof);
  } finally {
    await exchange.finished;
    context.account.count(exchange, failure);
  }
}

/** A request that a peer may have passed on; resolves to what the peer has signed it with, if it was one. */
async function admit(exchange: Exchange, context: PipelineContext): Promise<Signed | null> {
  const { worth, signed } = await context.markers.look(exchange.head);
  exchange.trace.marker = worth;
  if (worth === 'trusted') exchange.id = givenId(exchange.head) ?? exchange.id;
  return signed;
}

async function forward(exchange: Exchange, context: PipelineContext, hsts: string | null): Promise<void> {
  const { trace } = exchange;
  // It waited for what the marker is worth.
  if (exchange.over) throw new WunderproxyError('client_closed');
  if (trace.marker === 'stale' || trace.marker === 'replayed') throw new WunderproxyError('fallback_refused');
  context.peers?.budget.noteRequest();
  const body = exchange.body === null ? null : await storeBody(exchange.body, context);
  trace.receivedAt = performance.now();
  const fields = requestFields(exchange.head, exchange.client, context.trust, {
    id: exchange.id,
    startedAt: exchange.startedAt,
    bodyLength: body === null ? null : body.length,
    marked: trace.marker === 'trusted',
  });
  // One hop, whatever the marker is worth: with secrets that differ, two machines would play ball.
  const peers = trace.marker === null ? context.peers : null;
  const answer = await dispatch(exchange, fields, body, context.router, peers);
  if (!(answer instanceof UpstreamResponse)) return tunnel(exchange, answer, context);
  if (hsts !== null) answer.head = withHsts(answer.head, hsts);
  if (trace.marker === 'trusted' && answer.live) answer.head = withLiveNote(answer.head);
  if (trace.fallback !== null && peers?.debugHeaders === true) answer.head = withFallbackNote(answer.head);
  // Most of the time there is nothing to wait for, and waiting for nothing costs something too.
  const compressed = compress(exchange, answer, context);
  const delivery = deliver(exchange, compressed instanceof Promise ? await compressed : compressed, context.spool);
  if (delivery !== null) await delivery;
}

/** Answers whether this machine could serve, whatever host is asked for. Only what peers ask is not counted. */
async function serveHealthCheck(exchange: Exchange, context: PipelineContext): Promise<void> {
  const { method } = exchange.head;
  const refused = method === 'GET' || method === 'HEAD' ? null : new WunderproxyError('method_not_allowed');
  if (refused !== null) respondWithError(exchange, refused.code);
  const fromPeer = refused === null && respondToHealthCheck(exchange, context);
  await exchange.finished;
  if (fromPeer) context.account.leaveOut();
  else context.account.count(exchange, refused);
}

/** Answers an ACME server (RFC 8555 section 8.3), whatever host it asks for. Counted like any request. */
async function serveChallenge(exchange: Exchange, token: string, context: PipelineContext): Promise<void> {
  const answer = (await context.challenges?.answer(token)) ?? null;
  if (answer !== null) respondToChallenge(exchange, answer);
  else respondWithError(exchange, 'unknown_challenge');
  await exchange.finished;
  context.account.count(exchange, answer === null ? new WunderproxyError('unknown_challenge') : null);
}

/** Answers a request that could not be read; counted like any other. */
export async function refuse(exchange: Exchange, code: ErrorCode, context: PipelineContext): Promise<void> {
  context.account.open();
  exchange.trace.readable = false;
  exchange.id = requestId(exchange.head, exchange.client, context.trust);
  respondWithError(exchange, code, exchange.client.scheme === 'https' ? context.hsts : null);
  await exchange.finished;
  context.account.count(exchange, new WunderproxyError(code));
}

function codeOf(error: unknown): ErrorCode {
  return error instanceof WunderproxyError ? error.code : 'internal_error';
}
