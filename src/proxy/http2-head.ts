import type { ErrorCode } from '../errors.ts';
import type { Client, RequestHead } from './exchange.ts';
import type { FieldBlock } from './hpack.ts';
import {
  isFieldValue,
  isHost,
  isSameHost,
  isToken,
  lowerCaseName,
  MAX_FIELDS,
  MAX_TARGET_BYTES,
  parseLength,
} from './http1-head.ts';

/** A head of HTTP/2 with what it says about its body. */
export interface Http2Head extends RequestHead {
  /** What Content-Length announces, in bytes; null when it says nothing. */
  readonly announced: number | null;
  readonly expectsContinue: boolean;
}

const NONE: string[] = [];

/** What stands for the head of a request that could not be read. */
export const UNREADABLE: Http2Head = {
  method: 'GET',
  target: '/',
  host: null,
  fields: NONE,
  names: NONE,
  connection: NONE,
  upgrade: null,
  announced: null,
  expectsContinue: false,
};

const TARGET = /^\/[\x21\x22\x24-\x7e]*$/;

/** RFC 9113 section 8.2.2: what concerns an HTTP/1 connection has no place here, and would be read by the next hop. */
const CONNECTION_SPECIFIC = new Set(['connection', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'upgrade']);

interface PseudoFields {
  ':method': string | null;
  ':scheme': string | null;
  ':authority': string | null;
  ':path': string | null;
}

/**
 * Reads a request's fields (RFC 9113 section 8.2 and 8.3). Returns the code of the refusal for everything that is not
 * valid, or that could be read in another way once it is written as HTTP/1.
 *
 * @param scheme the one that the connection really has
 */
export function parseRequestFields(
  { fields: list, tooLarge }: FieldBlock,
  scheme: Client['scheme'],
): Http2Head | ErrorCode {
  const pseudo: PseudoFields = { ':method': null, ':scheme': null, ':authority': null, ':path': null };
  let first = 0;
  for (; (list[first] ?? '').startsWith(':'); first += 2) {
    const name = list[first] ?? '';
    // Unknown ones, `:protocol` (RFC 8441) among them, since it is not offered; and doubled ones.
    if (!isPseudo(pseudo, name) || pseudo[name] !== null) return 'bad_request';
    pseudo[name] = list[first + 1] ?? '';
  }
  const path = pseudo[':path'];
  if ((path ?? '').length > MAX_TARGET_BYTES) return 'uri_too_long';
  if (tooLarge) return path === null ? 'uri_too_long' : 'headers_too_large';
  return interpret(list, first, pseudo, scheme);
}

function isPseudo(pseudo: PseudoFields, name: string): name is keyof PseudoFields {
  return Object.hasOwn(pseudo, name);
}

function interpret(
  list: readonly string[],
  first: number,
  pseudo: PseudoFields,
  scheme: Client['scheme'],
): Http2Head | ErrorCode {
  const fields: string[] = [];
  const names: string[] = [];
  let host: string | null = null;
  let length: string | null = null;
  let expect: string | null = null;
  let cookieAt = -1;
  for (let i = first; i < list.length; i += 2) {
    const name = list[i] ?? '';
    const value = list[i + 1] ?? '';
    if (!isField(name, value) || CONNECTION_SPECIFIC.has(name)) return 'bad_request';
    switch (name) {
      case 'te':
        if (value !== 'trailers') return 'bad_request';
        break;
      case 'host':
        if (host !== null) return 'bad_request';
        host = value;
        break;
      case 'content-length':
        if (length !== null) return 'bad_request';
        length = value;
        break;
      case 'expect':
        expect = expect === null ? value : `${expect}, ${value}`;
        break;
      case 'cookie':
        // RFC 9113 section 8.2.3: cut up for the sake of compression, to be joined for HTTP/1.
        if (cookieAt !== -1) {
          fields[cookieAt] += `; ${value}`;
          continue;
        }
        cookieAt = fields.length + 1;
        break;
      default:
    }
    fields.push(name, value);
    names.push(name);
  }
  if (names.length > MAX_FIELDS) return 'headers_too_large';

  const request = requestLine(pseudo, host, scheme);
  if (request === null) return 'bad_request';
  const announced = length === null ? null : parseLength(length);
  if (length !== null && announced === null) return 'bad_request';
  if (expect !== null && expect.toLowerCase() !== '100-continue') return 'expectation_failed';
  const { method, target, authority } = request;
  return {
    ...{ method, target, host: authority, fields, names, connection: NONE, upgrade: null },
    ...{ announced, expectsContinue: expect !== null },
  };
}

interface RequestLine {
  method: string;
  target: string;
  authority: string;
}

/** RFC 9113 section 8.3.1; null when it is not valid. */
function requestLine(pseudo: PseudoFields, host: string | null, scheme: Client['scheme']): RequestLine | null {
  const { ':method': method, ':scheme': given, ':authority': authority, ':path': path } = pseudo;
  const wanted = authority ?? host;
  if (method === null || !isToken(method) || wanted === null || !isHost(wanted)) return null;
  // Two hosts would be two readings: one for whoever looks at :authority, another for whoever looks at Host.
  if (host !== null && (!isHost(host) || !isSameHost(wanted, host, scheme))) return null;
  if (method === 'CONNECT') {
    const valid = authority !== null && given === null && path === null;
    return valid ? { method, target: authority, authority } : null;
  }
  if (given !== scheme || path === null) return null;
  if (!TARGET.test(path) && !(path === '*' && method === 'OPTIONS')) return null;
  return { method, target: path, authority: wanted };
}

/** Whether a field that is no pseudo-field is valid (RFC 9113 section 8.2.1). */
function isField(name: string, value: string): boolean {
  return lowerCaseName(name) === name && isFieldValue(value) && !isWhitespace(value, 0) && !isWhitespace(value, -1);
}

function isWhitespace(text: string, at: number): boolean {
  const character = text.at(at);
  return character === ' ' || character === '\t';
}

/** Whether the fields after a body are valid (RFC 9113 section 8.1); they are dropped then, as in HTTP/1. */
export function areTrailers({ fields, tooLarge }: FieldBlock): boolean {
  if (tooLarge || fields.length / 2 > MAX_FIELDS) return false;
  for (let i = 0; i < fields.length; i += 2) if (!isField(fields[i] ?? '', fields[i + 1] ?? '')) return false;
  return true;
}
