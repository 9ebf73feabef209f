import type * as AcmeClient from 'acme-client';
import { messageOf } from '../errors.ts';
import { AcmeError, type Answers, newKey, TOKEN } from './acme-objects.ts';

/** One request to the authority may take so long, in ms. */
const REQUEST_LIMIT = 20_000;
/** A whole order may take so long, in ms: the authority's own checks take seconds, with retries a minute. */
const ORDER_LIMIT = 5 * 60_000;
/** Nothing that an authority says is longer, in bytes. */
const ANSWER_LIMIT = 2 ** 20;

const PROBLEM = 'urn:ietf:params:acme:error:';

/** What is ordered, and from whom. */
export interface OrderRequest {
  /** URL of the authority's directory. */
  directory: string;
  email: string | null;
  domains: string[];
  /** PEM. */
  accountKey: string;
  /** Resolves once every machine that the authority may ask gives these answers. */
  publish(answers: Answers): Promise<void>;
  /** The order is given up when it aborts. */
  signal: AbortSignal;
}

/** A problem as the authority tells it (RFC 7807, RFC 8555 section 6.7). */
interface Problem {
  type: string;
  detail: string;
  retryAfter: number;
}

/** The library's errors hold only a problem's detail; this one is noted as it passes by. One order runs at a time. */
let lastProblem: Problem | null = null;

/**
 * Orders a certificate by http-01 (RFC 8555 section 7.4): the account is registered if need be, every name that is not yet
 * authorized is proven, and a fresh key is certified. Resolves to certificate with chain and key, both PEM. Throws AcmeError
 * with the authority's own words.
 */
export async function orderCertificate(request: OrderRequest): Promise<{ cert: string; key: string }> {
  const limited = AbortSignal.any([request.signal, AbortSignal.timeout(ORDER_LIMIT)]);
  lastProblem = null;
  try {
    return await untilAborted(limited, run(request, limited));
  } catch (error) {
    if (error instanceof AcmeError || request.signal.aborted) throw error;
    if (limited.aborted) throw new AcmeError(`The order was not complete within ${ORDER_LIMIT / 60_000} minutes.`);
    const problem = lastProblem as Problem | null;
    if (problem === null) throw new AcmeError(`The authority can not be used: ${messageOf(error)}.`, { cause: error });
    throw new AcmeError(`${problem.type}: ${problem.detail}`, { retryAfter: problem.retryAfter });
  }
}

async function run(request: OrderRequest, signal: AbortSignal): Promise<{ cert: string; key: string }> {
  const { directory: directoryUrl, accountKey, domains, email } = request;
  const { Client, crypto } = await library();
  const client = new Client({ directoryUrl, accountKey, backoffAttempts: 30, backoffMin: 500, backoffMax: 10_000 });
  await client.createAccount({ termsOfServiceAgreed: true, contact: email === null ? [] : [`mailto:${email}`] });
  const order = await client.createOrder({ identifiers: domains.map((value) => ({ type: 'dns', value })) });
  await prove(client, await client.getAuthorizations(order), request.publish, signal);
  const ready = await client.waitForValidStatus(order);
  signal.throwIfAborted();
  const key = newKey();
  const [, csr] = await crypto.createCsr({ altNames: [...domains] }, key);
  const finalized = await client.finalizeOrder({ ...ready, url: order.url }, csr);
  return { cert: await client.getCertificate(finalized), key };
}

/** RFC 8555 section 7.5: the authority fetches an answer for each name that it has not checked lately. */
async function prove(
  client: AcmeClient.Client,
  authorizations: AcmeClient.Authorization[],
  publish: OrderRequest['publish'],
  signal: AbortSignal,
): Promise<void> {
  const challenges = authorizations
    .filter(({ status }) => status !== 'valid')
    .map(({ identifier, challenges }) => {
      const challenge = challenges.find(({ type }) => type === 'http-01');
      if (challenge === undefined) throw new AcmeError(`The authority offers no http-01 for ${identifier.value}.`);
      if (!TOKEN.test(challenge.token)) throw new AcmeError('The authority gives a token that is none.');
      return challenge;
    });
  const answers: Answers = {};
  for (const challenge of challenges) answers[challenge.token] = await client.getChallengeKeyAuthorization(challenge);
  if (challenges.length > 0) await publish(answers);
  for (const challenge of challenges) {
    signal.throwIfAborted();
    await client.completeChallenge(challenge);
  }
  for (const challenge of challenges) {
    signal.throwIfAborted();
    await client.waitForValidStatus(challenge);
  }
}

/** Only here, so that a manager without an order does without its time and memory. */
let loaded: Promise<typeof AcmeClient> | null = null;

async function library(): Promise<typeof AcmeClient> {
  loaded ??= import('acme-client').then((acme) => {
    acme.axios.defaults.timeout = REQUEST_LIMIT;
    acme.axios.defaults.maxContentLength = ANSWER_LIMIT;
    // They try again after as long as an answer tells them to, and trip over a connection that fails. When to try again is
    // our own decision; the client itself looks at every status.
    acme.axios.interceptors.request.clear();
    acme.axios.interceptors.response.clear();
    acme.axios.interceptors.response.use((response) => {
      lastProblem = problemIn(response.data, String(response.headers['retry-after'] ?? '')) ?? lastProblem;
      return response;
    });
    return acme;
  });
  return loaded;
}

/** Of an answer that is a problem, or of a challenge that has failed with one. */
function problemIn(data: unknown, retryAfter: string): Problem | null {
  const { type, detail, error } = (data ?? {}) as { type?: unknown; detail?: unknown; error?: unknown };
  if (typeof type !== 'string' || !type.startsWith(PROBLEM)) return error ? problemIn(error, retryAfter) : null;
  // Answered by trying again; not what an order fails by.
  if (type === `${PROBLEM}badNonce`) return null;
  return {
    type: type.slice(PROBLEM.length),
    detail: String(detail ?? '')
      .replace(/\s+/g, ' ')
      .slice(0, 500),
    retryAfter: wait(retryAfter),
  };
}

/** RFC 9110 section 10.2.3: seconds or a date. In ms. */
function wait(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1_000;
  const until = Date.parse(text);
  return Number.isNaN(until) ? 0 : Math.max(0, until - Date.now());
}

async function untilAborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const abort = () => {
    reject(signal.reason as Error);
  };
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort);
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener('abort', abort);
    // What is left of it has nobody to tell.
    work.catch(() => {});
  }
}
