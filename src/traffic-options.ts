import { statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { isAbsolute } from 'node:path';
import type { Option } from 'commander';
import type { AcmeConfig } from './acme-options.ts';
import { parseCidr } from './cidr.ts';
import { parseMediaRange } from './media-types.ts';
import type { Coding, WorkerConfig } from './worker-config.ts';
import { option } from './option.ts';
import { hasPeers, type PeerConfig } from './peer-options.ts';
import type { TlsConfig } from './tls-options.ts';
import { parseDuration, parseList, parseSize, parseWhole } from './units.ts';

/** What the command line says about the traffic of clients. Durations are in ms, sizes in bytes. */
export interface TrafficConfig {
  maxBody: number;
  /** Memory of one body. */
  bufferMemory: number;
  /** Memory of all bodies in one worker. */
  bufferMemoryTotal: number;
  spoolDir: string;
  /** All spool files of all workers. */
  spoolMax: number;
  /** Codings of responses, the preferred one first; empty: none. */
  compress: Coding[];
  /** Media ranges in lower case. */
  compressTypes: string[];
  trustedProxies: string[];
  /** In lower case; empty: any. */
  host: string[];
  /** In one worker. */
  maxConnections: number;
  /** In one worker; null: no limit. */
  maxConnectionsPerIp: number | null;
  headerTimeout: number;
  bodyTimeout: number;
  /** Bytes per second. */
  bodyRate: number;
  keepAliveTimeout: number;
  writeTimeout: number;
  connectTimeout: number;
  responseTimeout: number;
  responseIdleTimeout: number;
  tunnelTimeout: number;
}

/** As commander gives them: options without a default may be missing. */
export type RawTraffic = Omit<TrafficConfig, WithoutDefault> & Partial<Pick<TrafficConfig, WithoutDefault>>;
type WithoutDefault = 'spoolDir' | 'compressTypes' | 'trustedProxies' | 'host' | 'maxConnectionsPerIp';

const CODINGS: readonly Coding[] = ['zstd', 'br', 'gzip'];

/** What is worth compressing; pictures, films and web fonts are compressed already. */
const COMPRESSED_TYPES = [
  ...['text/*', 'application/json', 'application/*+json', 'application/x-ndjson'],
  ...['application/javascript', 'application/x-javascript', 'application/xml', 'application/*+xml', 'image/svg+xml'],
  ...['application/wasm', 'font/ttf', 'font/otf', 'application/vnd.ms-fontobject'],
];

/** The options that decide what a request meets, in the order of `--help` and of README's table. */
export function trafficOptions(): Option[] {
  return [
    option('--max-body <size>', 'request bodies over it get 413', parseSize, 100 * 2 ** 20, '100MiB'),
    option('--buffer-memory <size>', 'memory one body may use before it goes to disk', parseSize, 2 ** 20, '1MiB'),
    option(
      '--buffer-memory-total <size>',
      'memory all bodies of one worker may use before they go to disk',
      parseSize,
      256 * 2 ** 20,
      '256MiB',
    ),
    option('--spool-dir <dir>', "where bodies go (default: the system's folder for temporary files)", parseDirectory),
    option('--spool-max <size>', 'how much disk all bodies may take', parseSize, 10 * 2 ** 30, '10GiB'),
    option(
      '--compress <coding,...>',
      'codings of responses, the preferred one first; none switches compression off',
      parseCodings,
      [...CODINGS],
      CODINGS.join(),
    ),
    option(
      '--compress-types <type,...>',
      'media types that are compressed (default: text, JSON, JavaScript, XML, SVG, wasm, uncompressed fonts)',
      (text) => parseList(text).map((range) => parseMediaRange(range)),
    ),
    option('--trusted-proxies <cidr,...>', 'peers whose X-Forwarded-* are believed', parseCidrList),
    option('--host <name,...>', 'host names that are served, others get 421 (default: all)', parseHosts),
    option('--max-connections <n>', 'client connections of one worker', parseCount, 10_000),
    option('--max-connections-per-ip <n>', 'client connections of one worker from one address', parseCount),
    duration('--header-timeout', "for a request's head to be complete", 30_000, '30s'),
    duration('--body-timeout', "between two pieces of a request's body", 60_000, '60s'),
    option(
      '--body-rate <size>',
      "what a request's body must bring each second on average, after 10s",
      parseSize,
      500,
      '500B',
    ),
    duration('--keep-alive-timeout', 'for the next request of an idle client', 75_000, '75s'),
    duration('--write-timeout', 'for a client that reads nothing of its response', 60_000, '60s'),
    duration('--connect-timeout', 'for the container to accept a connection', 3_000, '3s'),
    duration('--response-timeout', "for the head of the container's response", 60_000, '60s'),
    duration('--response-idle-timeout', "between two pieces of the container's response", 60_000, '60s'),
    duration('--tunnel-timeout', 'for a WebSocket or other tunnel without traffic', 3_600_000, '1h'),
  ];
}

function duration(name: string, description: string, fallback: number, shown: string): Option {
  return option(`${name} <dur>`, description, parseWait, fallback, shown);
}

function parseWait(text: string): number {
  const ms = parseDuration(text);
  if (ms === 0) throw new RangeError('expected a duration above 0');
  return ms;
}

function parseCount(text: string): number {
  return parseWhole(text, 1, 1_000_000);
}

function parseDirectory(text: string): string {
  if (!isAbsolute(text)) throw new RangeError('expected an absolute path');
  return text;
}

function parseCodings(text: string): Coding[] {
  if (text.trim().toLowerCase() === 'none') return [];
  const names = parseList(text.toLowerCase());
  if (names.length === 0) throw new RangeError(`expected ${CODINGS.join()} or none`);
  return [...new Set(names)].map((name) => {
    const coding = CODINGS.find((known) => known === name);
    if (coding === undefined) throw new RangeError(`${name} is not one of ${CODINGS.join()}, or none`);
    return coding;
  });
}

function parseCidrList(text: string): string[] {
  const list = parseList(text);
  for (const cidr of list) parseCidr(cidr);
  return list;
}

function parseHosts(text: string): string[] {
  const list = parseList(text).map((host) => host.toLowerCase());
  for (const host of list) {
    if (!/^(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])$/.test(host)) throw new RangeError(`${host} is not a host name`);
  }
  return list;
}

/** Root may have a TMPDIR that nobody else can write to, and its workers are somebody else. */
function defaultSpoolDir(): string {
  const own = tmpdir();
  if (process.getuid?.() !== 0) return own;
  return [own, '/tmp', '/var/tmp'].find(isEverybodys) ?? own;
}

function isEverybodys(directory: string): boolean {
  const others = 0o003;
  return ((statSync(directory, { throwIfNoEntry: false })?.mode ?? 0) & others) === others;
}

/** With what is not given filled in. */
export function trafficConfig(raw: RawTraffic): TrafficConfig {
  return {
    maxBody: raw.maxBody,
    bufferMemory: raw.bufferMemory,
    bufferMemoryTotal: raw.bufferMemoryTotal,
    spoolDir: raw.spoolDir ?? defaultSpoolDir(),
    spoolMax: raw.spoolMax,
    compress: raw.compress,
    compressTypes: raw.compressTypes ?? COMPRESSED_TYPES,
    trustedProxies: raw.trustedProxies ?? [],
    host: raw.host ?? [],
    maxConnections: raw.maxConnections,
    maxConnectionsPerIp: raw.maxConnectionsPerIp ?? null,
    headerTimeout: raw.headerTimeout,
    bodyTimeout: raw.bodyTimeout,
    bodyRate: raw.bodyRate,
    keepAliveTimeout: raw.keepAliveTimeout,
    writeTimeout: raw.writeTimeout,
    connectTimeout: raw.connectTimeout,
    responseTimeout: raw.responseTimeout,
    responseIdleTimeout: raw.responseIdleTimeout,
    tunnelTimeout: raw.tunnelTimeout,
  };
}

/** The port in an address as listeners give it. A unix socket has none: whoever stands before it has the usual one. */
function portOf(address: string): number {
  return address.startsWith('unix:') ? 443 : Number(address.slice(address.lastIndexOf(':') + 1));
}

/** What each of `workers` workers is told. `tlsAddress` is null when there is no TLS. */
export function workerSettings(
  config: TrafficConfig & TlsConfig & AcmeConfig & PeerConfig,
  workers: number,
  tlsAddress: string | null,
): Omit<
  WorkerConfig,
  'slot' | 'machine' | 'instance' | 'proxyFd' | 'tlsFd' | 'tls' | 'user' | 'accessLog' | 'peerMaterial' | 'namedPeers'
> {
  return {
    https: {
      port: tlsAddress === null ? null : portOf(tlsAddress),
      plainPaths: config.plainPath,
      hsts: config.hsts,
    },
    acme: config.acmeDomain.length > 0,
    trustedProxies: config.trustedProxies,
    hosts: config.host,
    limits: {
      body: config.maxBody,
      bodyRate: config.bodyRate,
      connections: config.maxConnections,
      connectionsPerAddress: config.maxConnectionsPerIp,
    },
    spool: {
      directory: config.spoolDir,
      bodyMemory: config.bufferMemory,
      totalMemory: config.bufferMemoryTotal,
      totalDisk: Math.floor(config.spoolMax / workers),
    },
    compression: { codings: config.compress, types: config.compressTypes },
    timeouts: {
      header: config.headerTimeout,
      body: config.bodyTimeout,
      keepAlive: config.keepAliveTimeout,
      write: config.writeTimeout,
      connect: config.connectTimeout,
      response: config.responseTimeout,
      responseIdle: config.responseIdleTimeout,
      tunnel: config.tunnelTimeout,
    },
    peers: hasPeers(config)
      ? {
          urls: config.peer,
          dns: config.peersDns,
          fallbackOn: config.fallbackOn,
          debugHeaders: config.debugHeaders,
          workers,
        }
      : null,
  };
}
