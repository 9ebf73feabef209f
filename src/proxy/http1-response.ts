import type { Fields } from './exchange.ts';
import { ChunkedDecoder, type BodyDecoder, LengthDecoder } from './http1-body.ts';
import { listOf, parseFieldLine, parseLength } from './http1-head.ts';

/** A container's response head may be so large (bytes). */
export const MAX_RESPONSE_HEAD = 64 * 1024;

/** A response's head as it came (RFC 9112 section 4), with its framing. */
export interface Http1ResponseHead {
  readonly status: number;
  readonly reason: string;
  readonly fields: Fields;
  /** Names of `fields` in lower case, one for each pair. */
  readonly names: readonly string[];
  /** Options of the Connection field in lower case. */
  readonly connection: readonly string[];
  /** Content-Length, or null when it gave none. */
  readonly length: number | null;
  readonly chunked: boolean;
  /** Whether the container lets the connection live on. */
  readonly keepAlive: boolean;
  /** For how long (ms) it says that it does, or null. */
  readonly keepAliveTimeout: number | null;
}

const STATUS_LINE = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: ([\t\x20-\x7e\x80-\xff]*))?$/;
const KEEP_ALIVE_TIMEOUT = /(?:^|[,\s])timeout=(\d{1,6})(?:$|[,\s])/i;
const NONE: string[] = [];

/**
 * Parses a response's head, given as Latin-1 text without its closing empty line. Returns null for everything that is not
 * valid HTTP or that could be read in two ways: both lengths, several or malformed lengths, a coding other than a final
 * `chunked`, control characters, folded lines.
 */
export function parseResponseHead(text: string): Http1ResponseHead | null {
  const lines = text.split('\r\n');
  const line = STATUS_LINE.exec(lines[0] ?? '');
  if (line === null) return null;
  const http10 = line[1] === '0';
  const fields: string[] = [];
  const names: string[] = [];
  for (let i = 1; i < lines.length; i++) {
    if (!parseFieldLine(lines[i] ?? '', fields, names)) return null;
  }
  let length: number | null = null;
  let chunked = false;
  let connection = NONE;
  let keepAliveTimeout: number | null = null;
  for (let i = 0; i < names.length; i++) {
    const value = fields[2 * i + 1] ?? '';
    switch (names[i] ?? '') {
      case 'content-length':
        if (length !== null) return null;
        length = parseLength(value);
        if (length === null) return null;
        break;
      case 'transfer-encoding':
        // RFC 9112 section 6.1: HTTP/1.0 knows no codings; whoever uses one there may mean something else by it.
        if (chunked || http10 || value.toLowerCase() !== 'chunked') return null;
        chunked = true;
        break;
      case 'connection':
        connection = connection.concat(listOf(value));
        break;
      case 'keep-alive': {
        const seconds = KEEP_ALIVE_TIMEOUT.exec(value)?.[1];
        if (seconds !== undefined) keepAliveTimeout = Number(seconds) * 1_000;
        break;
      }
      default:
    }
  }
  if (chunked && length !== null) return null;
  return {
    status: Number(line[2]),
    reason: line[3] ?? '',
    fields,
    names,
    connection,
    length,
    chunked,
    keepAlive: connection.includes('close') ? false : !http10 || connection.includes('keep-alive'),
    keepAliveTimeout,
  };
}

/** How a response's body is delimited: it has none, by a decoder, or by the connection's end. */
export type ResponseFraming = 'none' | 'until-close' | BodyDecoder;

/** RFC 9112 section 6.3. */
export function framingOf(head: Http1ResponseHead, method: string): ResponseFraming {
  const { status, chunked, length } = head;
  if (method === 'HEAD' || status < 200 || status === 204 || status === 304) return 'none';
  if (chunked) return new ChunkedDecoder();
  if (length === null) return 'until-close';
  return length === 0 ? 'none' : new LengthDecoder(length);
}

const HTTP = 'HTTP/1.';

/** Whether more bytes could make this a head: waiting would not make a bare line feed right, nor another protocol. */
export function mayBecomeResponseHead(data: Buffer): boolean {
  const text = data.toString('latin1');
  const begins = text.startsWith(HTTP) || HTTP.startsWith(text);
  return begins && text.length <= MAX_RESPONSE_HEAD && !/[^\r]\n|\r[^\n]/.test(text);
}
