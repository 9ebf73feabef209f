import { mediaTypeMatcher } from '../media-types.ts';
import type { Coding, WorkerCompression } from '../worker-config.ts';
import { codingChooser } from './accept-encoding.ts';
import type { Fields, RequestHead, ResponseHead } from './exchange.ts';
import { listOf, lowerCaseName } from './http1-head.ts';

/*
 * All rules about header fields that compression adds to those in headers.ts: what is compressed, for whom, and how a
 * compressed response says so.
 */

/** Bodies below this length (bytes) gain little; what is not known counts as more. */
const MIN_LENGTH = 1_024;

/** Responses whose content has no other form: without content, or a part of it (RFC 9110 sections 15.3 and 15.4.5). */
const ONE_FORM = new Set([204, 205, 206, 304]);

/** The options, ready for use. */
export interface CompressionRules {
  readonly enabled: boolean;
  readonly choose: (acceptEncoding: string) => Coding | null;
  readonly compressible: (contentType: string) => boolean;
}

/** Reads the options. */
export function compressionRules({ codings, types }: WorkerCompression): CompressionRules {
  return { enabled: codings.length > 0, choose: codingChooser(codings), compressible: mediaTypeMatcher(types) };
}

/**
 * Which coding a response is to get: null for none, although another client may get one; undefined when it has only the
 * form that the application gave it.
 */
export function codingFor(
  request: RequestHead,
  response: ResponseHead,
  rules: CompressionRules,
): Coding | null | undefined {
  const { status, length } = response;
  if (!rules.enabled || status < 200 || ONE_FORM.has(status)) return undefined;
  if (length !== null && length < MIN_LENGTH) return undefined;
  return isCompressible(response.fields, rules) ? wanted(request, rules) : undefined;
}

function isCompressible(fields: Fields, rules: CompressionRules): boolean {
  let type: string | null = null;
  for (let i = 0; i < fields.length; i += 2) {
    const value = fields[i + 1] ?? '';
    switch (lowerCaseName(fields[i] ?? '')) {
      case 'content-type':
        if (type !== null) return false;
        type = value;
        break;
      case 'content-encoding':
        if (!isIdentity(value)) return false;
        break;
      case 'content-range':
        return false;
      case 'cache-control':
        // RFC 9111 section 5.2.2.6.
        if (listOf(value).includes('no-transform')) return false;
        break;
      default:
    }
  }
  return type !== null && rules.compressible(type);
}

function isIdentity(coding: string): boolean {
  return coding === '' || coding.toLowerCase() === 'identity';
}

function wanted(request: RequestHead, rules: CompressionRules): Coding | null {
  const { names, fields } = request;
  let accept = '';
  let credentials = false;
  let crossSite = false;
  let byUser = false;
  for (let i = 0; i < names.length; i++) {
    const value = fields[2 * i + 1] ?? '';
    switch (names[i]) {
      case 'accept-encoding':
        accept = accept === '' ? value : `${accept},${value}`;
        break;
      case 'cache-control':
        // RFC 9111 section 5.2.1.6.
        if (listOf(value).includes('no-transform')) return null;
        break;
      case 'cookie':
        credentials = true;
        break;
      case 'authorization':
        // Browsers add the others by themselves, whichever page asks.
        credentials ||= !/^bearer /i.test(value);
        break;
      case 'sec-fetch-site':
        crossSite = value === 'cross-site';
        break;
      case 'sec-fetch-user':
        byUser = value === '?1';
        break;
      default:
    }
  }
  if (accept === '') return null;
  // BREACH: a foreign page makes its visitor's browser ask again and again with the visitor's credentials, and learns a
  // secret of the response from the lengths. A person who follows a link asks once.
  return credentials && crossSite && !byUser ? null : rules.choose(accept);
}

/** The head of a response that could be compressed and is not. */
export function plainHead(head: ResponseHead): ResponseHead {
  return { ...head, fields: withVary(head.fields) };
}

/** The head of a response whose content gets a coding; its length is not known. */
export function compressedHead(head: ResponseHead, coding: Coding): ResponseHead {
  const fields: string[] = [];
  for (let i = 0; i < head.fields.length; i += 2) {
    const name = head.fields[i] ?? '';
    const value = head.fields[i + 1] ?? '';
    const lower = lowerCaseName(name) ?? '';
    if (OF_THE_OLD_FORM.has(lower)) continue;
    fields.push(name, lower === 'etag' ? weak(value) : value);
  }
  fields.push('Content-Encoding', coding);
  return { ...head, fields: withVary(fields), length: null };
}

/**
 * What is true only of the content without a coding: digests (RFC 9530; Digest and Content-MD5 are its predecessors), and
 * the offer to give parts of it.
 */
const OF_THE_OLD_FORM = new Set([
  ...['content-encoding', 'accept-ranges', 'content-md5', 'digest', 'content-digest', 'repr-digest'],
]);

/** The trailer fields of a response whose content has got a coding. */
export function compressedTrailers(trailers: Fields): Fields {
  return trailers.filter((_, i) => !OF_THE_OLD_FORM.has(lowerCaseName(trailers[i & ~1] ?? '') ?? ''));
}

/** RFC 9110 section 8.8.1: a strong validator is of one form, byte for byte. */
function weak(etag: string): string {
  return etag.startsWith('"') ? `W/${etag}` : etag;
}

/**
 * The head of a 304. RFC 9110 section 15.4.5 wants the fields that a 200 would have had. It rarely says of what type the
 * content is; but a client that asks with the weak form of a strong ETag has a compressed response from here.
 */
export function notModifiedHead(request: RequestHead, head: ResponseHead, rules: CompressionRules): ResponseHead {
  if (!rules.enabled) return head;
  const at = indexOf(head.fields, 'etag');
  const etag = head.fields[at + 1] ?? '';
  if (at === -1 || !etag.startsWith('"') || !hasWeakForm(request, etag)) return head;
  const fields = [...head.fields];
  fields[at + 1] = weak(etag);
  return { ...head, fields: withVary(fields), length: null };
}

function indexOf(fields: Fields, name: string): number {
  return fields.findIndex((text, i) => i % 2 === 0 && lowerCaseName(text) === name);
}

/** Whether If-None-Match names the weak form, and not the strong one as well. */
function hasWeakForm(request: RequestHead, etag: string): boolean {
  const listed = request.names.flatMap((name, i) =>
    name === 'if-none-match' ? (request.fields[2 * i + 1] ?? '').split(',').map((tag) => tag.trim()) : [],
  );
  return listed.includes(weak(etag)) && !listed.includes(etag);
}

/** RFC 9110 section 12.5.5: what the choice depended on, also for those who got the other form; said once. */
function withVary(fields: Fields): Fields {
  let last = -1;
  for (let i = 0; i < fields.length; i += 2) {
    if (lowerCaseName(fields[i] ?? '') !== 'vary') continue;
    const listed = listOf(fields[i + 1] ?? '');
    if (listed.includes('*') || listed.includes('accept-encoding')) return fields;
    last = i + 1;
  }
  if (last === -1) return [...fields, 'Vary', 'Accept-Encoding'];
  const before = fields[last] ?? '';
  return fields.with(last, before === '' ? 'Accept-Encoding' : `${before}, Accept-Encoding`);
}
