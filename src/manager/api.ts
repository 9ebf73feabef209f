import Router from '@koa/router';
import Koa, { type Context, type Middleware } from 'koa';
import helmet from 'koa-helmet';
import { describeError, type ErrorCode, messageOf, WunderproxyError } from '../errors.ts';
import { answer, deployedBy, readBody, wantsJson } from './api-body.ts';
import { guardOrigin, guardToken } from './api-guard.ts';
import { type ApiTokens, isStillAdmitted } from './api-tokens.ts';
import { type Container, shortId } from './containers.ts';
import type { Control } from './control.ts';
import { addDeployRoutes } from './deploy-api.ts';
import type { Deployments } from './deployments.ts';
import type { ProbeResult } from './health.ts';
import type { Switched } from './switchover.ts';
import { parseIdentifier } from './launch-config.ts';
import { LoginFailures } from './login-failures.ts';
import { Metrics } from './metrics.ts';
import { CONTENT_TYPE } from './prometheus.ts';
import { type About, containerStatus, type Status, statusOf } from './status.ts';
import { parseList } from '../units.ts';

/** What the API serves. */
export interface ApiOptions {
  control: Control;
  deployments: Deployments;
  about: About;
  /** Every request must carry one of them, if there are any. */
  tokens: ApiTokens;
}

/** What hangs into the API beside its calls: pages for browsers. */
export interface ApiExtension {
  /** Before the guard: what anybody may have. */
  open: Middleware;
  /** Whether a request without a bearer token is let in all the same. */
  admits(context: Context): boolean;
  /** Behind the guard. */
  guarded: Middleware;
  /** Answers an error in its own way if it is for it; false: it is answered as text or JSON. */
  answerError(context: Context, error: WunderproxyError): boolean;
}

/** Makes an extension of an API. */
export type ExtendApi = (options: ApiOptions, failures: LoginFailures) => ApiExtension;

/** `/status` waits so long (ms) until all workers do what it says: a worker that does not answer is replaced. */
const ROUTE_PATIENCE = 1_000;

/** The manager's API (CONTRACT: "Manager API"). */
export function createApi(options: ApiOptions, extend: ExtendApi): Koa {
  const app = new Koa();
  app.silent = true;
  const failures = new LoginFailures();
  const extension = extend(options, failures);
  app.use(answerErrors(options.control, extension));
  app.use(securityHeaders);
  app.use(neverStored);
  const { tokens } = options;
  const admits = (context: Context) => extension.admits(context);
  app.use(guardOrigin(tokens));
  app.use(extension.open);
  app.use(guardToken(tokens, failures, admits));
  app.use(extension.guarded);
  const router = routes(options, (context) => isStillAdmitted(context, tokens, admits));
  app.use(router.routes());
  app.use(async (context) => {
    const methods = router.stack.flatMap((layer) => (layer.match(context.path) ? layer.methods : []));
    if (methods.length === 0) throw new WunderproxyError('not_found');
    // RFC 9110 section 15.5.6: it has to say what is allowed.
    context.set('Allow', methods.join(', '));
    throw new WunderproxyError('api_method_not_allowed', {
      message: `${context.path} takes ${methods.join(', ')}, not ${context.method}.`,
    });
  });
  return app;
}

/** `admitted`: whether a request that was let in would be let in now. */
function routes({ control, deployments, about }: ApiOptions, admitted: (context: Context) => boolean): Router {
  const router = new Router();

  router.post('/launch', async (context) => {
    const container = await deployments.launch(await readIdentifier(context), deployedBy(context));
    const text = `started container ${shortId(container.id)} with revision ${shortId(container.hash)} listening on port ${portOf(container)}`;
    answer(context, text, { ...containerStatus(container, control.traffic.totals()) });
  });

  router.post('/switch', async (context) => {
    checkWait(context);
    const hash = await readIdentifier(context);
    const switched = await deployments.switchTo(hash, deployedBy(context));
    await answerSwitch(context, switched);
  });

  router.post('/rollback', async (context) => {
    checkWait(context);
    const body = await readBody(context);
    const hash = body === '' ? null : parseIdentifier(identifierIn(body));
    await answerSwitch(context, await deployments.rollback(hash, deployedBy(context)));
  });

  router.post('/stop-old', async (context) => {
    const body = await readBody(context);
    const hash = body === '' ? null : parseIdentifier(identifierIn(body));
    const stopped = await deployments.stopOld(deployedBy(context), hash);
    const ids = stopped.map((container) => container.id);
    const text = ids.length === 0 ? 'no old containers to stop' : `stopped ${ids.map(shortId).join(' ')}`;
    answer(context, text, { Stopped: ids });
  });

  router.get('/status', async (context) => {
    void control.lock.refresh();
    // Whoever reads what is in service relies on it with the next request.
    await control.traffic.whenRouted(ROUTE_PATIENCE);
    const status = statusOf(control, deployments, about);
    const { keys } = context.query;
    context.body = keys === undefined ? status : pick(status, parseList(String(keys)));
  });

  addDeployRoutes(router, control, admitted);

  const metrics = new Metrics(control, about);
  router.get('/metrics', (context) => {
    context.set('Content-Type', CONTENT_TYPE);
    context.body = metrics.text();
  });

  router.get('/history', async (context) => {
    context.body = await control.environment.history();
  });

  router.get('/journal', async (context) => {
    context.body = await control.journal.recent();
  });

  router.get('/healthz', (context) => {
    if (!control.traffic.serving) throw new WunderproxyError('workers_unavailable');
    answer(context, 'ok', { Status: 'ok' });
  });

  async function answerSwitch(context: Context, { container, previous }: Switched): Promise<void> {
    if (context.query['wait'] === 'drained' && previous) await deployments.drains.whenGone(previous.id);
    const text = `switched proxy to port ${portOf(container)} of container ${shortId(container.id)}`;
    answer(context, text, { ...containerStatus(container, control.traffic.totals()), Previous: previous?.id ?? null });
  }

  return router;
}

/** Throws `bad_parameters`: who waits for something else than there is would take the answer for it. */
function checkWait(context: Context): void {
  const { wait } = context.query;
  if (wait === undefined || wait === 'drained') return;
  throw new WunderproxyError('bad_parameters', { message: 'wait: the only thing to wait for is `drained`.' });
}

function pick(status: Status, keys: string[]): Partial<Status> {
  return Object.fromEntries(Object.entries(status).filter(([key]) => keys.includes(key)));
}

function portOf(container: Container): number {
  return container.address?.port ?? 0;
}

async function readIdentifier(context: Context): Promise<string> {
  return parseIdentifier(identifierIn(await readBody(context)));
}

/** The body is the hash itself, or `{"Hash": "…"}`; what content type it claims does not matter. */
function identifierIn(body: string): string {
  if (!body.startsWith('{')) return body;
  try {
    const hash = (JSON.parse(body) as { Hash?: unknown }).Hash;
    return typeof hash === 'string' ? hash.trim() : '';
  } catch {
    return '';
  }
}

/**
 * The policy allows only what the page has: a style sheet, a script, a stream and forms of its own. No HSTS: it would hold
 * for every port of this host. Referrer `same-origin`: with `no-referrer` browsers send forms with `Origin: null`.
 */
export const securityHeaders = helmet({
  contentSecurityPolicy: {
    useDefaults: false,
    directives: {
      'default-src': ["'none'"],
      'style-src': ["'self'"],
      'script-src': ["'self'"],
      'connect-src': ["'self'"],
      'img-src': ["'self'"],
      'form-action': ["'self'"],
      'base-uri': ["'none'"],
      'frame-ancestors': ["'none'"],
    },
  },
  strictTransportSecurity: false,
  referrerPolicy: { policy: 'same-origin' },
  // Browsers take these on trustworthy origins only, and complain elsewhere.
  crossOriginOpenerPolicy: false,
  originAgentCluster: false,
});

const neverStored: Middleware = async (context, next) => {
  context.set('Cache-Control', 'no-store');
  await next();
};

function answerErrors({ log }: Control, extension: ApiExtension): Middleware {
  return async (context, next) => {
    // Before: a request that was not read to its end has no socket any more.
    const client = context.req.socket.remoteAddress ?? 'local';
    try {
      await next();
    } catch (thrown) {
      const error =
        thrown instanceof WunderproxyError ? thrown : new WunderproxyError('internal_error', { cause: thrown });
      const expected = error.code !== 'internal_error';
      const about = { method: context.method, path: context.path, client, code: error.code };
      if (expected) log.warn({ ...about, why: messageOf(error) }, 'request refused');
      else log.error({ ...about, err: thrown }, 'request failed');
      answerError(context, error, extension);
    }
  };
}

function answerError(context: Context, error: WunderproxyError, extension: ApiExtension): void {
  const { status, retryable } = describeError(error.code);
  context.status = status;
  context.set('Wunderproxy-Error', error.code);
  if (retryable) context.set('Retry-After', '1');
  // What of the body was not read would be taken for the next request.
  if (!context.req.complete) context.set('Connection', 'close');
  if (extension.answerError(context, error)) return;
  if (wantsJson(context)) {
    const fields: { Code: ErrorCode; Message: string; Detail?: unknown } = { Code: error.code, Message: error.message };
    if (error.detail !== undefined) fields.Detail = error.detail;
    context.body = { Error: fields };
  } else {
    context.body = `${error.message}\n${textOf(error.detail)}`;
  }
}

/** What the health check answered, as in the message, with its times. */
function inOneLine(item: object): string {
  const { Result, Count, FirstAt, LastAt } = item as Partial<ProbeResult>;
  if (Result === undefined) return Object.values(item).join(' ');
  return `${Count}× ${Result}, ${FirstAt === LastAt ? `at ${FirstAt}` : `from ${FirstAt} to ${LastAt}`}`;
}

/** Lists in an error's detail (probe results, log lines) for people. */
function textOf(detail: unknown): string {
  if (typeof detail !== 'object' || detail === null) return '';
  let text = '';
  for (const [name, list] of Object.entries(detail)) {
    if (!Array.isArray(list) || list.length === 0 || name === 'Problems') continue;
    text += `${name}:\n`;
    for (const item of list) text += `  ${typeof item === 'string' ? item : inOneLine(item as object)}\n`;
  }
  return text;
}
