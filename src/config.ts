import { accessSync, constants } from 'node:fs';
import { availableParallelism, homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { Command, CommanderError, type Option } from 'commander';
import type { AccessLogTarget } from './access-log-file.ts';
import { type AcmeConfig, acmeConfig, acmeOptions, type RawAcme } from './acme-options.ts';
import { option, UsageError } from './option.ts';
import { type PeerConfig, peerConfig, peerOptions, type RawPeers } from './peer-options.ts';
import { type RawTls, type TlsConfig, tlsConfig, tlsOptions } from './tls-options.ts';
import { type RawTraffic, type TrafficConfig, trafficConfig, trafficOptions } from './traffic-options.ts';
import {
  formatListenAddress,
  isLocal,
  isPlainUrl,
  type ListenAddress,
  parseDuration,
  parseListenAddress,
  parseWhole,
} from './units.ts';

export { UsageError };

/** Everything that the command line and the environment say. Durations are in ms, sizes in bytes. */
export interface Config extends TrafficConfig, TlsConfig, AcmeConfig, PeerConfig {
  bucket: string;
  prefix: string;
  app: string;
  proxy: ListenAddress;
  /** Opened only when a certificate is configured. */
  tls: ListenAddress;
  api: ListenAddress;
  apiTokenFile: string | null;
  /** Where others reach the manager API; null: at the address that it listens on. */
  apiUrl: string | null;
  registryPort: number;
  /** File with `KEY=value` lines for every container. */
  cfg: string | null;
  runtime: 'docker' | 'process';
  workers: number;
  /** Whom the workers run as; null: as the program itself. */
  user: string | null;
  drainTimeout: number;
  launchTimeout: number;
  accessLog: AccessLogTarget;
  /** Whether query strings are written to the access log. */
  logQuery: boolean;
  s3Endpoint: string | null;
  s3PathStyle: boolean;
  stateDir: string;
  /** Between two heartbeats of this machine in the store. */
  heartbeat: number;
}

/** In ms. */
const SHORTEST_HEARTBEAT = 1_000;
const LONGEST_HEARTBEAT = 300_000;

const EPILOGUE = `
Commands for a wunderproxy that runs, each with its own --help: deploy, status, history, rollback, logs.

Every option can also be given as WUNDERPROXY_<NAME_IN_CAPS> in the environment (--drain-timeout is
WUNDERPROXY_DRAIN_TIMEOUT); a flag wins. Durations: 500ms 30s 5m 2h 180d. Sizes: 512KiB 100MiB 1GiB.`;

/** All options, in the order of `--help` and of README's table. */
export function options(): Option[] {
  const address = (text: string) => parseListenAddress(text);
  return [
    option(
      '--proxy <addr>',
      'plain HTTP listener: host:port, [v6]:port or unix:/path; port 0 picks a free one',
      address,
      parseListenAddress('0.0.0.0:80'),
      '0.0.0.0:80',
    ),
    option(
      '--tls <addr>',
      'TLS listener; opened only when a certificate is configured',
      address,
      parseListenAddress('0.0.0.0:443'),
      '0.0.0.0:443',
    ),
    ...tlsOptions(),
    option(
      '--api <addr>',
      'manager API and status page (default: 127.0.0.1:8001, or 0.0.0.0:8001 with a token)',
      address,
    ),
    option('--api-token-file <file>', 'file with bearer tokens, one a line: every manager request must carry one'),
    option('--api-url <url>', 'where other machines, and people, reach the manager API', parseApiUrl),
    option('--registry-port <n>', 'images come from localhost:<n>', (text) => parseWhole(text, 1, 65_535), 8080),
    option('--cfg <file>', 'KEY=value lines: environment for every container'),
    option('--runtime <kind>', "docker, or process to run the config's Cmd as a child process")
      .choices(['docker', 'process'])
      .default('docker'),
    option('--workers <n>', 'proxy worker processes (default: CPUs available)', (text) => parseWhole(text, 1, 256)),
    option('--user <name>', 'whom the workers run as (default: nobody when started as root)'),
    option('--drain-timeout <dur>', 'how long an old container may finish its requests', parseDuration, 30_000, '30s'),
    option(
      '--launch-timeout <dur>',
      'how long a new container may take to become healthy',
      parseDuration,
      60_000,
      '60s',
    ),
    ...trafficOptions(),
    ...acmeOptions(),
    ...peerOptions(),
    option(
      '--access-log <file>',
      'a JSON line for each request to a file, to stdout or nowhere (off); reopened on SIGHUP',
      parseAccessLog,
      { kind: 'off' },
      'off',
    ),
    option('--log-query <switch>', 'query strings in the access log: on or off', parseSwitch, true, 'on'),
    option('--s3-endpoint <url>', 'another S3 than AWS (Ceph, MinIO, ...)', parseEndpoint),
    option('--s3-path-style', 'address buckets by path instead of by host name'),
    option(
      '--state-dir <dir>',
      'last known good copies (default: /var/lib/wunderproxy, else ~/.local/state/wunderproxy)',
    ),
    option(
      '--heartbeat <dur>',
      'how often machines that share the store tell and look how they do, 1s to 5m',
      parseHeartbeat,
      10_000,
      '10s',
    ),
  ];
}

function parseEndpoint(text: string): string {
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol))
    throw new RangeError('expected an http or https URL');
  return text;
}

function parseApiUrl(text: string): string {
  if (!isPlainUrl(text)) throw new RangeError('expected an http or https URL without a password or query');
  return text.replace(/\/+$/, '');
}

function parseHeartbeat(text: string): number {
  const ms = parseDuration(text);
  if (ms < SHORTEST_HEARTBEAT || ms > LONGEST_HEARTBEAT) throw new RangeError('expected a duration from 1s to 5m');
  return ms;
}

function parseAccessLog(text: string): AccessLogTarget {
  if (text === '') throw new RangeError('expected a file, stdout or off');
  if (text === 'off' || text === 'stdout') return { kind: text };
  return { kind: 'file', path: resolve(text) };
}

function parseSwitch(text: string): boolean {
  if (text !== 'on' && text !== 'off') throw new RangeError('expected on or off');
  return text === 'on';
}

interface RawOptions extends RawTraffic, RawTls, RawAcme, RawPeers {
  proxy: ListenAddress;
  tls: ListenAddress;
  api?: ListenAddress;
  apiTokenFile?: string;
  apiUrl?: string;
  registryPort: number;
  cfg?: string;
  runtime: 'docker' | 'process';
  workers?: number;
  user?: string;
  drainTimeout: number;
  launchTimeout: number;
  accessLog: AccessLogTarget;
  logQuery: boolean;
  s3Endpoint?: string;
  s3PathStyle?: boolean;
  stateDir?: string;
  heartbeat: number;
}

/**
 * Reads a command line (without node and script).
 * Throws UsageError with one line for a person; nothing has been started or touched then.
 */
export function parseCommandLine(argv: string[], version: string): Config {
  const program = new Command('wunderproxy')
    .description('Internet-facing reverse proxy and zero-loss deploy manager for one web application on a Docker host.')
    .usage('[run] [options] <bucket> <prefix> <app>')
    .argument('<bucket>', 'S3 bucket, or file:///absolute/dir for a directory that holds the same keys')
    .argument('<prefix>', 'path of this environment in the bucket')
    .argument('<app>', "the application's name and image prefix")
    .version(version, '--version', 'print the version')
    .helpOption('--help', 'print this')
    .addHelpText('after', EPILOGUE)
    .allowExcessArguments(false)
    .exitOverride()
    .configureOutput({ writeErr: () => {} });
  for (const each of options()) program.addOption(each);

  try {
    program.parse(argv[0] === 'run' ? argv.slice(1) : argv, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) throw new UsageError('', 0);
    throw new UsageError(error.message.replace(/^error: /, '').replace(/\s*\n\s*/g, ' '));
  }

  const [bucket = '', prefix = '', app = ''] = program.args;
  const raw = program.opts<RawOptions>();
  return complete(checkBucket(bucket), checkPrefix(prefix), checkApp(app), raw);
}

function complete(bucket: string, prefix: string, app: string, raw: RawOptions): Config {
  const apiTokenFile = raw.apiTokenFile ?? null;
  const api = raw.api ?? { kind: 'tcp' as const, host: apiTokenFile === null ? '127.0.0.1' : '0.0.0.0', port: 8001 };
  if (apiTokenFile === null && !isLocal(api)) {
    throw new UsageError(
      `--api ${formatListenAddress(api)} needs --api-token-file: whoever reaches the manager API owns this host`,
    );
  }
  return {
    bucket,
    prefix,
    app,
    proxy: raw.proxy,
    tls: raw.tls,
    ...tlsConfig(raw),
    api,
    apiTokenFile,
    apiUrl: raw.apiUrl ?? null,
    registryPort: raw.registryPort,
    cfg: raw.cfg ?? null,
    runtime: raw.runtime,
    workers: raw.workers ?? availableParallelism(),
    user: raw.user ?? (process.getuid?.() === 0 ? 'nobody' : null),
    drainTimeout: raw.drainTimeout,
    launchTimeout: raw.launchTimeout,
    ...trafficConfig(raw),
    ...acmeConfig(raw),
    ...peerConfig(raw),
    accessLog: raw.accessLog,
    logQuery: raw.logQuery,
    s3Endpoint: raw.s3Endpoint ?? null,
    s3PathStyle: raw.s3PathStyle ?? false,
    stateDir: raw.stateDir ?? defaultStateDir(),
    heartbeat: raw.heartbeat,
  };
}

function checkBucket(bucket: string): string {
  if (bucket.startsWith('file:')) {
    if (!/^file:\/\/\/./.test(bucket)) throw new UsageError(`bucket ${bucket}: expected file:///absolute/dir`);
    return bucket;
  }
  if (!/^[a-z0-9A-Z][a-zA-Z0-9._-]{0,62}$/.test(bucket)) {
    throw new UsageError(`bucket ${bucket}: expected an S3 bucket name or file:///absolute/dir`);
  }
  return bucket;
}

function checkPrefix(prefix: string): string {
  const trimmed = prefix.replace(/^\/+|\/+$/g, '');
  if (trimmed === '' || trimmed.split('/').some((part) => part === '' || part === '.' || part === '..')) {
    throw new UsageError(`prefix ${prefix}: expected a path such as production or shop/production`);
  }
  return trimmed;
}

/** Docker's rule for one component of an image name, which is also fine as a part of a container name. */
function checkApp(app: string): string {
  if (!/^[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*$/.test(app)) {
    throw new UsageError(`app ${app}: expected lower-case letters, digits and single . _ - between them`);
  }
  return app;
}

function defaultStateDir(): string {
  const system = '/var/lib/wunderproxy';
  if (process.getuid?.() === 0) return system;
  try {
    accessSync(system, constants.W_OK);
    return system;
  } catch {
    return join(homedir(), '.local/state/wunderproxy');
  }
}
