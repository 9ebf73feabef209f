import { tmpdir } from 'node:os';
import { isAbsolute } from 'node:path';
import type { Option } from 'commander';
import { parseCidr } from './cidr.ts';
import type { WorkerConfig } from './messages.ts';
import { option } from './option.ts';
import { parseDuration, parseSize, parseWhole } from './units.ts';

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
export type RawTraffic = Omit<TrafficConfig, 'spoolDir' | 'trustedProxies' | 'host' | 'maxConnectionsPerIp'> &
  Partial<Pick<TrafficConfig, 'spoolDir' | 'trustedProxies' | 'host' | 'maxConnectionsPerIp'>>;

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

function listOf(text: string): string[] {
  return text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
}

function parseCidrList(text: string): string[] {
  const list = listOf(text);
  for (const cidr of list) parseCidr(cidr);
  return list;
}

function parseHosts(text: string): string[] {
  const list = listOf(text).map((host) => host.toLowerCase());
  for (const host of list) {
    if (!/^(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])$/.test(host)) throw new RangeError(`${host} is not a host name`);
  }
  return list;
}

/** With what is not given filled in. */
export function trafficConfig(raw: RawTraffic): TrafficConfig {
  return {
    maxBody: raw.maxBody,
    bufferMemory: raw.bufferMemory,
    bufferMemoryTotal: raw.bufferMemoryTotal,
    spoolDir: raw.spoolDir ?? tmpdir(),
    spoolMax: raw.spoolMax,
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

/** What each of `workers` workers is told. */
export function workerSettings(
  config: TrafficConfig,
  workers: number,
): Omit<WorkerConfig, 'slot' | 'proxyFd' | 'user' | 'accessLog'> {
  return {
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
  };
}
