import Router from '@koa/router';
import type { Context, Middleware, Next } from 'koa';
import { hostname } from 'node:os';
import { describeError, WunderproxyError } from '../errors.ts';
import { isStillAdmitted } from '../manager/api-tokens.ts';
import { deployedBy, readBody } from '../manager/api-body.ts';
import type { ApiExtension, ApiOptions } from '../manager/api.ts';
import type { LoginFailures } from '../manager/login-failures.ts';
import { statusOf } from '../manager/status.ts';
import { ACT_KINDS, type ActKind, Acts } from './acts.ts';
import { adviceFor, evidenceOf } from './advice.ts';
import * as format from './format.ts';
import type { Html } from './html.ts';
import { LiveStreams } from './live-stream.ts';
import { carryOut, type Plan, planOf } from './plans.ts';
import { Sessions } from './sessions.ts';
import { PageSource } from './source.ts';
import { summaryText } from './summary-text.ts';
import { asset, render } from './views.ts';

const ASSETS = { '/page.css': 'page.css', '/live.js': 'live.js', '/icon.svg': 'icon.svg' } as const;
const LONGEST_NAME = 100;
/** What is done within so long (ms) is seen as done on the next page. */
const AT_ONCE = 300;
/** Names are remembered so long, in seconds. */
const YEAR = 31_536_000;

/** The status page: `/` for browsers, what it loads, and its forms. Hangs into the manager's API. */
export function statusPage(options: ApiOptions, failures: LoginFailures): ApiExtension {
  const page = new StatusPage(options, failures);
  return {
    open: page.open(),
    admits: (context) => page.sessions.admits(context),
    guarded: page.guarded(),
    answerError: (context, error) => page.answerError(context, error),
  };
}

class StatusPage {
  readonly sessions: Sessions;
  readonly #options: ApiOptions;
  readonly #failures: LoginFailures;
  readonly #acts: Acts;
  readonly #source: PageSource;
  readonly #streams: LiveStreams;
  readonly #assets = Object.fromEntries(Object.entries(ASSETS).map(([path, name]) => [path, asset(name)]));

  constructor(options: ApiOptions, failures: LoginFailures) {
    this.#options = options;
    this.#failures = failures;
    this.sessions = new Sessions(() => options.tokens.all);
    this.#acts = new Acts(options.control.log);
    this.#source = new PageSource(options, this.#acts);
    this.#streams = new LiveStreams(() => this.#source.sections());
  }

  /** What everybody may have: what the login looks like, and the login itself. */
  open(): Middleware {
    const router = new Router();
    for (const path of Object.keys(ASSETS)) {
      router.get(path, (context) => {
        context.type = path.slice(path.lastIndexOf('.'));
        context.set('Cache-Control', 'no-cache');
        context.body = this.#assets[path];
      });
    }
    router.get('/login', (context) => this.#askToken(context, null));
    router.post('/login', async (context) => this.#login(context));
    return asMiddleware(router);
  }

  guarded(): Middleware {
    const router = new Router();
    router.get('/', async (context) => this.#show(context));
    router.get('/events', (context) => {
      const { tokens } = this.#options;
      const admitted = () => isStillAdmitted(context, tokens, () => this.sessions.admits(context));
      context.type = 'text/event-stream';
      // For what stands in between.
      context.set('X-Accel-Buffering', 'no');
      context.body = this.#streams.open(admitted);
    });
    router.get('/numbers', (context) => this.#send(context, 'Numbers', this.#source.numbers(), 'changing'));
    router.get('/confirm/:kind', async (context) => {
      const kind = kindOf(context);
      const { hash } = context.query;
      if (kind === 'launch' && hash === undefined) return this.#send(context, 'Launch', render('launch', {}));
      await this.#confirm(context, await planOf(kind, String(hash ?? ''), this.#options), null);
    });
    router.post('/act/:kind', async (context) => this.#act(context, kindOf(context)));
    router.post('/logout', (context) => {
      context.append('Set-Cookie', this.sessions.end(context));
      seeOther(context, '/');
    });
    return asMiddleware(router);
  }

  /** Errors as pages, for browsers that ask for pages. */
  answerError(context: Context, error: WunderproxyError): boolean {
    if (!wantsPage(context)) return false;
    if (error.code === 'unauthorized') {
      this.#askToken(context, null);
      context.status = 401;
      return true;
    }
    const { status } = describeError(error.code);
    const evidence = evidenceOf(error.detail);
    const advice = adviceFor(error.code);
    const about = { f: format, status, code: error.code, message: error.message, advice, evidence };
    this.#send(context, 'That did not work', render('problem', about));
    context.status = status;
    return true;
  }

  async #show(context: Context): Promise<void> {
    context.vary('Accept');
    if (!wantsPage(context)) {
      const { control, deployments, about } = this.#options;
      context.body = summaryText(statusOf(control, deployments, about));
      return;
    }
    await this.#source.settled();
    const { app } = this.#options.control;
    const sections = this.#source.sections();
    this.#send(context, 'Status', render('page', { app, sections }), 'live');
  }

  async #confirm(context: Context, plan: Plan, changed: string | null): Promise<void> {
    this.#send(context, plan.title, render('confirm', { ...plan, plan: plan.steps, by: nameOf(context), changed }));
  }

  async #act(context: Context, kind: ActKind): Promise<void> {
    const form = new URLSearchParams(await readBody(context));
    const plan = await planOf(kind, form.get('hash') ?? '', this.#options);
    const seen = form.get('seen');
    if (seen !== null && seen !== plan.seen) {
      const active = this.#options.control.containers.active?.revision;
      context.status = 409;
      return this.#confirm(context, plan, `meanwhile ${active ?? 'no container'} is in service.`);
    }
    const name = (form.get('by') ?? '').trim().slice(0, LONGEST_NAME);
    const by = name || deployedBy(context);
    if (name) {
      const cookie = `wunderproxy-name=${encodeURIComponent(name)}; Path=/; Max-Age=${YEAR}; HttpOnly; SameSite=Strict`;
      context.append('Set-Cookie', cookie);
    }
    const { promise: soon, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, AT_ONCE);
    const { hash, revision } = plan;
    this.#acts.start({ kind, by, hash, revision }, async () => {
      try {
        return await carryOut(plan, by, this.#options);
      } finally {
        clearTimeout(timer);
        resolve();
      }
    });
    await soon;
    this.#source.touch();
    seeOther(context, '/');
  }

  async #login(context: Context): Promise<void> {
    const { tokens } = this.#options;
    if (!tokens.required) return seeOther(context, '/');
    this.#failures.check(context);
    const form = new URLSearchParams(await readBody(context));
    const token = tokens.find((form.get('token') ?? '').trim());
    if (token === null) {
      this.#failures.add(context);
      this.#options.control.log.warn({ client: context.req.socket.remoteAddress }, 'login with a wrong token');
      this.#askToken(context, 'That is not the token.');
      context.status = 401;
      return;
    }
    this.#options.control.log.info({ client: context.req.socket.remoteAddress }, 'login');
    // The origin is what the browser sees, also behind a proxy that speaks https for us.
    context.append('Set-Cookie', this.sessions.begin(context, token, context.get('origin').startsWith('https:')));
    seeOther(context, '/');
  }

  #askToken(context: Context, problem: string | null): void {
    // A browser keeps the cookie back when a foreign page leads here (SameSite=Strict): the next click brings it along.
    const foreign = context.get('sec-fetch-site') === 'cross-site';
    this.#send(context, 'Log in', render('login', { problem, foreign }));
  }

  /** `live`: kept up to date; `changing`: good to be loaded again. */
  #send(context: Context, title: string, body: Html, kind: 'fixed' | 'live' | 'changing' = 'fixed'): void {
    const { app } = this.#options.control;
    const loggedIn = this.sessions.admits(context);
    context.type = 'html';
    const about = { title: `${title} · ${app}`, app, host: hostname(), body, loggedIn };
    context.body = render('layout', { ...about, live: kind === 'live', changing: kind === 'changing' }).text;
  }
}

function asMiddleware(router: Router): Middleware {
  const routes = router.routes();
  return async (context: Context, next: Next) => {
    await routes(context as Parameters<typeof routes>[0], next);
  };
}

function kindOf(context: Context & { params?: Record<string, string> }): ActKind {
  const kind = ACT_KINDS.find((each) => each === context.params?.['kind']);
  if (!kind) throw new WunderproxyError('not_found');
  return kind;
}

/** The name that was given last time; a cookie may say anything. */
function nameOf(context: Context): string {
  try {
    return decodeURIComponent(context.cookies.get('wunderproxy-name') ?? '').slice(0, LONGEST_NAME);
  } catch {
    return '';
  }
}

/** Browsers name HTML; curl's own Accept is any type. */
function wantsPage(context: Context): boolean {
  return /(?:^|[\s,])text\/html\b/i.test(context.get('accept'));
}

/** After a form, so that a reload does not send it again (RFC 9110, section 15.4.4). */
function seeOther(context: Context, path: string): void {
  context.redirect(path);
  context.status = 303;
  context.body = '';
}
