import { STATUS_CODES } from 'node:http';
import { describeError, type ErrorCode } from '../errors.ts';
import type { Exchange, RequestHead, ResponseHead } from './exchange.ts';
import { httpDate, withHsts } from './headers.ts';
import { withRefusal } from './peer-headers.ts';

/** Seconds after which a client may try again when no container is in service: the next switch is usually near. */
const RETRY_AFTER = 5;

/** What wunderproxy lets through (RFC 9110 section 15.5.6 wants it said with 405). */
const ALLOWED_METHODS = 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS';

const EMPTY = Buffer.alloc(0);

type Format = 'html' | 'json' | 'text';

const CONTENT_TYPES: Record<Format, string> = {
  html: 'text/html; charset=utf-8',
  json: 'application/json',
  text: 'text/plain; charset=utf-8',
};

/**
 * Answers with an error from the catalogue, when an answer is still possible; else breaks the connection. `hsts` goes into
 * the answer unless it is null, and so does `proof` for a peer.
 */
export function respondWithError(
  exchange: Exchange,
  code: ErrorCode,
  hsts: string | null = null,
  proof: string | null = null,
): void {
  if (exchange.over) return;
  if (exchange.status !== 0) return exchange.abort();
  const { head, body } = errorResponse(exchange.head, exchange.id, code, Date.now());
  const proven = proof === null ? head : withRefusal(head, proof);
  exchange.reply(hsts === null ? proven : withHsts(proven, hsts), body);
}

/**
 * Answers `OPTIONS *`, which asks what the server as a whole can do (RFC 9110 section 9.3.7): for its clients that is
 * wunderproxy.
 */
export function respondToServerOptions(exchange: Exchange): void {
  const fields = ['Allow', ALLOWED_METHODS, 'X-Request-Id', exchange.id, 'Date', httpDate(Date.now())];
  exchange.reply({ status: 204, reason: STATUS_CODES[204] ?? '', fields, length: 0 }, EMPTY);
}

/** An error as an HTTP response. It says who answers and the request's id, never an address or a stack. */
export function errorResponse(
  request: Pick<RequestHead, 'names' | 'fields'>,
  id: string,
  code: ErrorCode,
  now: number,
): { head: ResponseHead; body: Buffer } {
  const { status, message } = describeError(code);
  const format = preferredFormat(request);
  const reason = STATUS_CODES[status] ?? '';
  const body = Buffer.from(RENDER[format](status, reason, code, message, id));
  const fields = ['Content-Type', CONTENT_TYPES[format], 'Cache-Control', 'no-store', 'Wunderproxy-Error', code];
  fields.push('X-Request-Id', id, 'Date', httpDate(now));
  if (status === 503) fields.push('Retry-After', String(RETRY_AFTER));
  if (status === 405) fields.push('Allow', ALLOWED_METHODS);
  return { head: { status, reason, fields, length: body.length }, body };
}

const RENDER: Record<Format, (status: number, reason: string, code: string, message: string, id: string) => string> = {
  html: (status, reason, code, message, id) => `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${status} ${reason}</title>
<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto;padding:0 1rem}small{color:#666}</style>
<h1>${status} ${reason}</h1>
<p>${message}</p>
<p><small>${code} · request ${escapeHtml(id)}</small></p>
</html>
`,
  json: (_status, _reason, code, message, id) =>
    `${JSON.stringify({ Error: { Code: code, Message: message, RequestId: id } })}\n`,
  text: (status, reason, code, message, id) => `${status} ${reason}: ${message} (${code}, request ${id})\n`,
};

/** The id may be a trusted peer's text. */
function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** A Map: what is looked up is a client's text, and every object has a `constructor`. */
const MEDIA_RANGES = new Map<string, Format>([
  ['text/html', 'html'],
  ['application/xhtml+xml', 'html'],
  ['application/json', 'json'],
  ['text/plain', 'text'],
  ['text/*', 'text'],
]);

/** By Accept (RFC 9110 section 12.5.1): the known type of the highest weight, the first among equals; else text. */
function preferredFormat(request: Pick<RequestHead, 'names' | 'fields'>): Format {
  let best: Format = 'text';
  let bestWeight = 0;
  for (let i = 0; i < request.names.length; i++) {
    if (request.names[i] !== 'accept') continue;
    for (const range of (request.fields[2 * i + 1] ?? '').split(',')) {
      const [type = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase());
      const format = MEDIA_RANGES.get(type) ?? (type.endsWith('+json') ? 'json' : undefined);
      const weight = weightOf(parameters);
      if (format === undefined || weight <= bestWeight) continue;
      best = format;
      bestWeight = weight;
    }
  }
  return best;
}

function weightOf(parameters: string[]): number {
  for (const parameter of parameters) {
    const match = /^q=([01](?:\.\d{0,3})?)$/.exec(parameter);
    if (match) return Number(match[1]);
  }
  return 1;
}
