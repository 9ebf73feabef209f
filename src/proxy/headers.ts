import { randomBytes } from 'node:crypto';
import { STATUS_CODES } from 'node:http';
import { isIP } from 'node:net';
import { addressMatcher, unmapped } from '../cidr.ts';
import { mediaType } from '../media-types.ts';
import type { Client, Fields, RequestHead, ResponseHead } from './exchange.ts';
import { listOf, trimWhitespace } from './http1-head.ts';
import type { Http1ResponseHead } from './http1-response.ts';

/*
 * All rules about header fields, in both directions. Nothing else decides what is passed on.
 */

/**
 * Fields that concern one connection only (RFC 9110 section 7.6.1), besides those that `Connection` names. The framing
 * fields are among them because every hop writes its own.
 */
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'transfer-encoding',
  'content-length',
  'upgrade',
  'http2-settings',
]);

/** With which a machine passes a request on to another, and with which that one says that it could not answer it. */
export const FALLBACK = 'wunderproxy-fallback';

/** Never passed to the container: see each. */
const NOT_FOR_UPSTREAM = new Set([
  ...HOP_BY_HOP,
  // Written separately.
  'host',
  // CGI makes it HTTP_PROXY, which many programs take for their own proxy setting (CVE-2016-5385).
  'proxy',
  // Answered here.
  'expect',
  'x-request-start',
  // Between machines only.
  FALLBACK,
  // Its announcement; the fields themselves are dropped with the chunked coding.
  'trailer',
]);

/** Beside all `X-Forwarded-*`: what applications believe about where a request came from. */
const FORWARDING = new Set(['forwarded', 'x-real-ip', 'x-request-id']);

const REQUEST_ID = /^[\x21-\x7e]{1,200}$/;

/** Each machine writes its own. */
export const REQUEST_START = 'X-Request-Start';

/** Methods that mean something by their body (RFC 9110 section 9.3). */
export const EXPECTS_BODY: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH']);

/** Knows which peers may say something about the clients behind them (`--trusted-proxies`). */
export type Trust = (address: string) => boolean;

/** Trust in the peers of these CIDR blocks. */
export function trustIn(cidrs: string[]): Trust {
  return addressMatcher(cidrs);
}

const ID_LENGTH = 32;
const IDS_AT_ONCE = 128;
let ids = '';
let nextId = 0;

/** 128 random bits in hex, as nginx' `$request_id`; a slice of many that were made at once. */
function newId(): string {
  if (nextId === ids.length) {
    ids = randomBytes((ID_LENGTH / 2) * IDS_AT_ONCE).toString('hex');
    nextId = 0;
  }
  nextId += ID_LENGTH;
  return ids.slice(nextId - ID_LENGTH, nextId);
}

/** The id that a trusted peer has given the request, else a new one. */
export function requestId(head: RequestHead, client: Client, trust: Trust): string {
  const given = client.address !== null && trust(client.address) ? givenId(head) : null;
  return given ?? newId();
}

/** The id in a request's head; null when there is none, or one that may not be one. */
export function givenId(head: RequestHead): string | null {
  const given = valuesOf(head, 'x-request-id');
  return given.length === 1 && given[0] !== undefined && REQUEST_ID.test(given[0]) ? given[0] : null;
}

/** Whether the client's own connection is secure: to us, or to the trusted peer that passes its request on. */
export function isSecure(head: RequestHead, client: Client, trust: Trust): boolean {
  if (client.scheme === 'https') return true;
  if (client.address === null || !trust(client.address)) return false;
  return listOf(valuesOf(head, 'x-forwarded-proto').at(-1) ?? '').at(-1) === 'https';
}

/** What `requestFields` is to write beside what came from the client. */
export interface RequestContext {
  id: string;
  /** In ms since the epoch. */
  startedAt: number;
  /** In bytes; null when there is no body. */
  bodyLength: number | null;
  /** Whether another machine passes it on: what it says of the client stands as it is. */
  marked: boolean;
}

/** The fields that the container gets, in the order of the client's, ours last. */
export function requestFields(head: RequestHead, client: Client, trust: Trust, context: RequestContext): string[] {
  const { fields, names, connection } = head;
  const trusted = client.address !== null && trust(client.address);
  const result: string[] = [];
  result.push('Host', head.host ?? client.localAddress ?? '');
  for (let i = 0; i < names.length; i++) {
    const name = names[i] ?? '';
    if (NOT_FOR_UPSTREAM.has(name) || (isForwarding(name) && !context.marked) || shadowsOurs(name)) continue;
    if (connection.length > 0 && connection.includes(name)) continue;
    result.push(fields[2 * i] ?? '', fields[2 * i + 1] ?? '');
  }
  if (context.bodyLength !== null) result.push('Content-Length', String(context.bodyLength));
  // RFC 9110 section 8.6: where a body is expected, none is said to be none.
  else if (EXPECTS_BODY.has(head.method)) result.push('Content-Length', '0');
  if (!context.marked) {
    if (trusted) pushTrustedExtras(head, result);
    pushForwarding(head, client, trusted ? trust : null, result);
    result.push('X-Request-Id', context.id);
  }
  result.push(REQUEST_START, `t=${context.startedAt}`);
  return result;
}

/** Whether a field (in lower case) says where a request came from. */
export function isForwarding(name: string): boolean {
  return FORWARDING.has(name) || name.startsWith('x-forwarded-');
}

/** CGI, WSGI and Rack turn both `-` and `_` into `_`: `X_Forwarded_For` would pass for ours. */
function shadowsOurs(name: string): boolean {
  if (!name.includes('_')) return false;
  const real = name.replaceAll('_', '-');
  return isForwarding(real) || NOT_FOR_UPSTREAM.has(real);
}

/** A trusted peer's other statements (`Forwarded`, `X-Forwarded-Port`, …) go through as they are. */
function pushTrustedExtras(head: RequestHead, result: string[]): void {
  for (let i = 0; i < head.names.length; i++) {
    const name = head.names[i] ?? '';
    if (!isForwarding(name) || OURS.has(name)) continue;
    result.push(head.fields[2 * i] ?? '', head.fields[2 * i + 1] ?? '');
  }
}

const OURS = new Set(['x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-host', 'x-real-ip', 'x-request-id']);

/** `trust` is null when the peer itself is not trusted: then nothing that it says about others counts. */
function pushForwarding(head: RequestHead, client: Client, trust: Trust | null, result: string[]): void {
  const chain = trust === null ? [] : forwardedFor(head);
  if (client.address !== null) chain.push(client.address);
  const proto = trust === null ? undefined : valuesOf(head, 'x-forwarded-proto').at(-1);
  const host = (trust === null ? undefined : valuesOf(head, 'x-forwarded-host').at(-1)) ?? head.host;
  if (chain.length > 0) result.push('X-Forwarded-For', chain.join(', '));
  result.push('X-Forwarded-Proto', proto ?? client.scheme);
  if (host !== null) result.push('X-Forwarded-Host', host);
  const real = rightmostUntrusted(chain, trust);
  if (real !== null) result.push('X-Real-IP', real);
}

/** Who asks, as X-Real-IP tells the container; null behind a unix socket. `marked`: as another machine tells it. */
export function realClient(head: RequestHead, client: Client, trust: Trust, marked: boolean): string | null {
  if (marked) return firstValue(head, 'x-real-ip');
  if (client.address === null || !trust(client.address)) return client.address;
  return rightmostUntrusted([...forwardedFor(head), client.address], trust);
}

function forwardedFor(head: RequestHead): string[] {
  return valuesOf(head, 'x-forwarded-for')
    .flatMap((value) => value.split(','))
    .map((part) => trimWhitespace(part))
    .filter((part) => part !== '');
}

/**
 * The address that the nearest trusted peers vouch for: everything left of it may be made up. If all are trusted, or what
 * they say is no address, the left-most that is one.
 */
function rightmostUntrusted(chain: string[], trust: Trust | null): string | null {
  let nearest: string | null = null;
  for (let i = chain.length - 1; i >= 0; i--) {
    const address = unmapped(chain[i] ?? '');
    if (isIP(address) === 0) break;
    nearest = address;
    if (trust === null || !trust(address)) break;
  }
  return nearest;
}

/** A field's first value; null when there is none. */
export function firstValue(head: RequestHead, name: string): string | null {
  const at = head.names.indexOf(name);
  return at === -1 ? null : (head.fields[2 * at + 1] ?? null);
}

/** All values of a field, in the order of the wire. */
export function valuesOf(head: RequestHead, name: string): string[] {
  const values: string[] = [];
  for (let i = 0; i < head.names.length; i++) {
    if (head.names[i] === name) values.push(head.fields[2 * i + 1] ?? '');
  }
  return values;
}

/** What a container's response head says, without what concerns only the connection to it. */
export interface UpstreamFields {
  fields: string[];
  /** Whether every piece is wanted by the client as soon as it is there, however slowly it reads. */
  live: boolean;
}

/** The fields of a container's response as clients get them. */
export function responseFields({ fields, names, connection }: Http1ResponseHead, now: number): UpstreamFields {
  const result: string[] = [];
  let dated = false;
  let live = false;
  for (let i = 0; i < names.length; i++) {
    const name = names[i] ?? '';
    if (HOP_BY_HOP.has(name) || (connection.length > 0 && connection.includes(name))) continue;
    const value = fields[2 * i + 1] ?? '';
    if (name === 'date') {
      dated = true;
    } else if (name === 'content-type') {
      live ||= mediaType(value) === 'text/event-stream';
    } else if (name === 'x-accel-buffering') {
      // nginx' way to say it; meant for the proxy only.
      live ||= value.toLowerCase() === 'no';
      continue;
    } else if (name === FALLBACK) {
      continue;
    }
    result.push(fields[2 * i] ?? '', value);
  }
  // RFC 9110 section 6.6.1: a response without a date gets the time at which it was received.
  if (!dated) result.push('Date', httpDate(now));
  return { fields: result, live };
}

const HSTS = 'strict-transport-security';

/** A response over a secure connection with our Strict-Transport-Security in place of the application's. */
export function withHsts(head: ResponseHead, value: string): ResponseHead {
  const { fields } = head;
  const others = fields.filter((_, i) => (fields[i - (i % 2)] ?? '').toLowerCase() !== HSTS);
  return { ...head, fields: [...others, 'Strict-Transport-Security', value] };
}

/** Fields of an interim response (1xx): as `responseFields`, but without a date. */
export function interimFields({ fields, names, connection }: Http1ResponseHead): string[] {
  const result: string[] = [];
  for (let i = 0; i < names.length; i++) {
    const name = names[i] ?? '';
    if (HOP_BY_HOP.has(name) || name === FALLBACK || connection.includes(name)) continue;
    result.push(fields[2 * i] ?? '', fields[2 * i + 1] ?? '');
  }
  return result;
}

/**
 * Fields of the answer that changes protocols (101), with the two that make it one. Null when the protocol is none of those
 * that the client wants (RFC 9110 section 7.8).
 */
export function upgradeFields(head: Http1ResponseHead, wanted: string): string[] | null {
  const offered = listOf(wanted);
  const upgrade = head.fields.filter((_, i) => i % 2 === 1 && head.names[i >> 1] === 'upgrade').join(', ');
  const protocols = listOf(upgrade);
  if (protocols.length === 0 || !protocols.every((protocol) => offered.includes(protocol))) return null;
  return [...interimFields(head), 'Upgrade', upgrade, 'Connection', 'Upgrade'];
}

/** Fields that must not come after the body, because they decide how the message is read (RFC 9110 section 6.5.1). */
const NOT_IN_TRAILERS = new Set([
  ...HOP_BY_HOP,
  ...[
    FALLBACK,
    'host',
    'trailer',
    'set-cookie',
    'authorization',
    'www-authenticate',
    'content-type',
    'content-encoding',
  ],
  ...['content-range', 'cache-control', 'expires', 'date', 'location', 'retry-after', 'vary', 'age', 'expect', 'range'],
]);

/** A response's trailer fields as far as they may be passed on. */
export function trailerFields(trailers: Fields): Fields {
  return trailers.filter((_, i) => !NOT_IN_TRAILERS.has((trailers[i - (i % 2)] ?? '').toLowerCase()));
}

const NOT_IN_REASON = /[^\t\x20-\x7e]/;

/**
 * A reason phrase as it may be written (RFC 9112 section 4). The usual one stands in for none, and for one that not every
 * client may be able to read.
 */
export function reasonPhrase(status: number, text = ''): string {
  const usual = STATUS_CODES[status] ?? '';
  return text === '' || NOT_IN_REASON.test(text) ? usual : text;
}

let dateText = '';
let dateSecond = -1;

/** A time (ms since the epoch) as in Date fields (RFC 9110 section 5.6.7). */
export function httpDate(now: number): string {
  const second = Math.floor(now / 1_000);
  if (second !== dateSecond) {
    dateSecond = second;
    dateText = new Date(second * 1_000).toUTCString();
  }
  return dateText;
}
