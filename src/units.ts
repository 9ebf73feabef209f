import { isIP } from 'node:net';

/** A place to listen on: a TCP address or a unix socket's path. */
export type ListenAddress = { kind: 'tcp'; host: string; port: number } | { kind: 'unix'; path: string };

const DURATION = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/;
const MILLISECONDS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

const SIZE = /^(\d+(?:\.\d+)?)(B|KiB|MiB|GiB|TiB)?$/;
const BYTES = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 } as const;

/** Reads `500ms`, `30s`, `5m`, `2h`, `180d` as milliseconds. Throws a RangeError that says what is expected. */
export function parseDuration(text: string): number {
  const match = DURATION.exec(text);
  if (!match) throw new RangeError('expected a duration such as 500ms, 30s, 5m, 2h or 180d');
  return Math.round(Number(match[1]) * MILLISECONDS[match[2] as keyof typeof MILLISECONDS]);
}

/** Reads `512KiB`, `100MiB`, `1GiB` or a plain number of bytes. Throws a RangeError that says what is expected. */
export function parseSize(text: string): number {
  const match = SIZE.exec(text);
  if (!match) throw new RangeError('expected a size such as 512KiB, 100MiB or 1GiB');
  return Math.round(Number(match[1]) * BYTES[(match[2] ?? 'B') as keyof typeof BYTES]);
}

/** The elements of a comma-separated list, without blanks around them; empty ones are left out. */
export function parseList(text: string): string[] {
  return text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
}

/** Reads a whole number in a range. Throws a RangeError that says what is expected. */
export function parseWhole(text: string, min: number, max: number): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < min || value > max) {
    throw new RangeError(`expected a whole number from ${min} to ${max}`);
  }
  return value;
}

/** Reads `host:port`, `[v6]:port` or `unix:/path`; hosts are numeric or `localhost`. Throws a RangeError. */
export function parseListenAddress(text: string): ListenAddress {
  if (text.startsWith('unix:')) {
    const path = text.slice(5);
    if (!path.startsWith('/')) throw new RangeError('expected an absolute path after unix:');
    return { kind: 'unix', path };
  }
  const match = /^(?:\[([^\]]+)\]|([^:[\]]*)):(\d+)$/.exec(text);
  const port = Number(match?.[3]);
  if (!match || port > 65_535) throw new RangeError('expected host:port, [v6]:port or unix:/path');
  const host = match[1] ?? (match[2] === 'localhost' ? '127.0.0.1' : (match[2] ?? ''));
  if (isIP(host) !== (match[1] === undefined ? 4 : 6)) {
    throw new RangeError('expected a numeric address or localhost before the port');
  }
  return { kind: 'tcp', host, port };
}

/** The way an address is written in logs, errors and on the command line. */
export function formatListenAddress(address: ListenAddress): string {
  return address.kind === 'unix' ? `unix:${address.path}` : formatHostPort(address.host, address.port);
}

/** `host:port`, with brackets around an IPv6 host (RFC 3986 section 3.2.2). */
export function formatHostPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Whether only this machine can reach a listener there. */
export function isLocal(address: ListenAddress): boolean {
  return address.kind === 'unix' || address.host === '::1' || address.host.startsWith('127.');
}

/** Whether it is an http or https URL without a password, query or fragment. */
export function isPlainUrl(value: string): boolean {
  if (!URL.canParse(value)) return false;
  const { protocol, username, password, search, hash } = new URL(value);
  return /^https?:$/.test(protocol) && username + password + search + hash === '';
}

/** ISO 8601 of a time in ms since the epoch. */
export function isoTime(ms: number): string {
  return new Date(ms).toISOString();
}
