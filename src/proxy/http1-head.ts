import { isIPv6 } from 'node:net';
import type { ErrorCode } from '../errors.ts';
import type { Fields, RequestHead } from './exchange.ts';

/** Limits of a request's head. */
export const MAX_HEAD_BYTES = 16 * 1024;
export const MAX_TARGET_BYTES = 8 * 1024;
export const MAX_FIELDS = 100;

/** A head of HTTP/1.x with its framing (RFC 9112 section 6). */
export interface Http1Head extends RequestHead {
  readonly http10: boolean;
  /** Bytes of the body; 0 for none, null when it comes chunked. */
  readonly bodyLength: number | null;
  /** Whether the client lets the connection live on. */
  readonly keepAlive: boolean;
  readonly expectsContinue: boolean;
}

const REQUEST_LINE = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21\x22\x24-\x7e]+) HTTP\/1\.([01])$/;
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const NOT_IN_VALUE = /[^\t\x20-\x7e\x80-\xff]/;
const HOST = /^(?:[A-Za-z0-9._-]+|\[([0-9A-Fa-f:.]{2,45})\])(?::(\d{1,5}))?$/;
const ABSOLUTE_TARGET = /^(https?):\/\/([^/?]*)(.*)$/i;

/** Fifteen digits stay exact in a double. */
const LENGTH = /^\d{1,15}$/;

/** The value of a Content-Length field; null when it is not a number, or too large a one. */
export function parseLength(value: string): number | null {
  return LENGTH.test(value) ? Number(value) : null;
}

/** Whether text is a token (RFC 9110 section 5.6.2), as methods are. */
export function isToken(text: string): boolean {
  return TOKEN.test(text);
}

/** Lower-case forms of names that have been seen to be valid. Clients make up names, so all are forgotten when it is full. */
const lowerCaseNames = new Map<string, string>();
const MAX_REMEMBERED_NAMES = 1_000;
const MAX_REMEMBERED_LENGTH = 40;

/** The lower-case form of a field name, or null when it is not a token (RFC 9110 section 5.1). */
export function lowerCaseName(name: string): string | null {
  const known = lowerCaseNames.get(name);
  if (known !== undefined) return known;
  if (!TOKEN.test(name)) return null;
  const lower = name.toLowerCase();
  if (name.length > MAX_REMEMBERED_LENGTH) return lower;
  if (lowerCaseNames.size >= MAX_REMEMBERED_NAMES) lowerCaseNames.clear();
  lowerCaseNames.set(name, lower);
  return lower;
}

/** Whether text may stand in a field's value: visible characters, spaces, tabs, obs-text (RFC 9110 section 5.5). */
export function isFieldValue(text: string): boolean {
  return !NOT_IN_VALUE.test(text);
}

/** Cuts spaces and tabs at both ends; a regular expression would take quadratic time for runs of spaces inside. */
export function trimWhitespace(text: string, from = 0): string {
  let start = from;
  let end = text.length;
  while (start < end && isWhitespace(text.charCodeAt(start))) start++;
  while (end > start && isWhitespace(text.charCodeAt(end - 1))) end--;
  return text.slice(start, end);
}

function isWhitespace(code: number): boolean {
  return code === 0x20 || code === 0x09;
}

/** Field lines as they are written. */
export function fieldText(fields: Fields): string {
  let text = '';
  for (let i = 0; i < fields.length; i += 2) text += `${fields[i]}: ${fields[i + 1]}\r\n`;
  return text;
}

/**
 * Takes apart one field line (RFC 9112 section 5) and adds it to the two lists. Returns false for anything that is not
 * exactly `name:value`: no colon, whitespace before the colon, a folded line, a control character, a bare CR or LF.
 */
export function parseFieldLine(line: string, fields: string[], names: string[]): boolean {
  const colon = line.indexOf(':');
  if (colon <= 0) return false;
  const name = line.slice(0, colon);
  const lower = lowerCaseName(name);
  const value = trimWhitespace(line, colon + 1);
  if (lower === null || !isFieldValue(value)) return false;
  fields.push(name, value);
  names.push(lower);
  return true;
}

/**
 * Parses a request's head (RFC 9112), given as Latin-1 text without its closing empty line. Returns the code of the
 * refusal for everything that is not valid or that another parser could read in another way.
 */
export function parseHead(text: string): Http1Head | ErrorCode {
  const lines = text.split('\r\n');
  const first = lines[0] ?? '';
  const request = REQUEST_LINE.exec(first);
  if (request === null) return first.length > MAX_TARGET_BYTES ? 'uri_too_long' : 'bad_request';
  const [, method = '', target = '', minor = ''] = request;
  if (target.length > MAX_TARGET_BYTES) return 'uri_too_long';
  if (lines.length - 1 > MAX_FIELDS) return 'headers_too_large';

  const fields: string[] = [];
  const names: string[] = [];
  for (let i = 1; i < lines.length; i++) {
    if (!parseFieldLine(lines[i] ?? '', fields, names)) return 'bad_request';
  }
  return interpret(method, target, minor === '0', fields, names);
}

function interpret(
  method: string,
  rawTarget: string,
  http10: boolean,
  fields: string[],
  names: string[],
): Http1Head | ErrorCode {
  let host: string | null = null;
  let length: string | null = null;
  let coding: string | null = null;
  let expect: string | null = null;
  let upgrade: string | null = null;
  let connection: string[] = NONE;
  for (let i = 0; i < names.length; i++) {
    const value = fields[2 * i + 1] ?? '';
    switch (names[i] ?? '') {
      case 'host':
        if (host !== null) return 'bad_request';
        host = value;
        break;
      case 'content-length':
        // RFC 9112 section 6.3 would let several equal ones pass; which of them a container reads is not certain.
        if (length !== null) return 'bad_request';
        length = value;
        break;
      case 'transfer-encoding':
        if (coding !== null) return 'bad_request';
        coding = value;
        break;
      case 'connection':
        connection = connection.concat(listOf(value));
        break;
      case 'expect':
        expect = expect === null ? value : `${expect}, ${value}`;
        break;
      case 'upgrade':
        upgrade = upgrade === null ? value : `${upgrade}, ${value}`;
        break;
      default:
    }
  }
  if (host === null ? !http10 : !isHost(host)) return 'bad_request';
  // RFC 9112 section 3.2.2: what the target says counts.
  host ??= ABSOLUTE_TARGET.exec(rawTarget)?.[2] ?? null;
  const target = originForm(method, rawTarget, host);
  if (target === null) return 'bad_request';

  let bodyLength: number | null = 0;
  if (coding !== null) {
    if (length !== null || http10 || coding.toLowerCase() !== 'chunked') return 'bad_request';
    bodyLength = null;
  } else if (length !== null) {
    bodyLength = parseLength(length);
    if (bodyLength === null) return 'bad_request';
  }

  const expects = expect !== null && !http10;
  if (expects && expect?.toLowerCase() !== '100-continue') return 'expectation_failed';
  return {
    method,
    target,
    host,
    fields,
    names,
    connection,
    upgrade: http10 || bodyLength !== 0 || !connection.includes('upgrade') ? null : wantedProtocol(upgrade),
    http10,
    bodyLength,
    keepAlive: connection.includes('close') ? false : !http10 || connection.includes('keep-alive'),
    expectsContinue: expects && bodyLength !== 0,
  };
}

const NONE: string[] = [];

/** The elements of a comma-separated list in lower case (RFC 9110 section 5.6.1). */
export function listOf(value: string): string[] {
  if (value === 'keep-alive' || value === 'close') return [value];
  return value
    .toLowerCase()
    .split(',')
    .map((part) => trimWhitespace(part))
    .filter((part) => part !== '');
}

/** RFC 9110 section 7.8: a name and perhaps a version. */
const PROTOCOL = /^([!#$%&'*+\-.^_`|~0-9a-z]+)(?:\/[!#$%&'*+\-.^_`|~0-9a-z]+)?$/;
/**
 * These are not passed on: HTTP inside the tunnel would get around every check here, and RFC 9113 section 3.1 has given up
 * `h2c`.
 */
const NO_TUNNEL = new Set(['h2c', 'h2', 'http']);

/** What is not a list of protocols, or names one of those, is answered as if it had not asked. */
function wantedProtocol(upgrade: string | null): string | null {
  if (upgrade === null || upgrade === '') return null;
  const fit = listOf(upgrade).every((protocol) => {
    const name = PROTOCOL.exec(protocol)?.[1];
    return name !== undefined && !NO_TUNNEL.has(name);
  });
  return fit ? upgrade : null;
}

/** Whether text is a host with or without a port (RFC 9110 section 7.2), without user information. */
export function isHost(host: string): boolean {
  const match = HOST.exec(host);
  if (match === null) return false;
  const [, literal, port] = match;
  return (literal === undefined || isIPv6(literal)) && (port === undefined || Number(port) <= 65_535);
}

/** The target in origin-form or `*`; null when it is neither, nor in absolute-form for this host. */
function originForm(method: string, target: string, host: string | null): string | null {
  if (target.startsWith('/')) return target;
  if (target === '*') return method === 'OPTIONS' ? target : null;
  // CONNECT is refused by its method, whatever its target looks like.
  if (method === 'CONNECT') return target;
  const match = ABSOLUTE_TARGET.exec(target);
  if (match === null) return null;
  const [, scheme = '', authority = '', rest = ''] = match;
  if (!isHost(authority)) return null;
  if (host !== null && !isSameHost(authority, host, scheme)) return null;
  // RFC 9112 section 3.2.4
  if (rest === '') return method === 'OPTIONS' ? '*' : '/';
  return rest.startsWith('/') ? rest : `/${rest}`;
}

/** Whether two hosts are the same one under a scheme: case and a default port make no difference. */
export function isSameHost(one: string, other: string, scheme: string): boolean {
  return canonical(one, scheme) === canonical(other, scheme);
}

function canonical(authority: string, scheme: string): string {
  const defaultPort = scheme.toLowerCase() === 'https' ? ':443' : ':80';
  const lower = authority.toLowerCase();
  return lower.endsWith(defaultPort) ? lower.slice(0, -defaultPort.length) : lower;
}
