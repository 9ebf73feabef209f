import type { Option } from 'commander';
import { option, UsageError } from './option.ts';
import { parseList, parseWhole } from './units.ts';

/** What the command line says about other machines that requests fall back to. */
export interface PeerConfig {
  /** Their proxy listeners: origins such as `http://10.0.0.2`, without repetitions. */
  peer: string[];
  /** A name whose addresses are theirs, and the port there; null: none. */
  peersDns: PeerName | null;
  peerSecretFile: string | null;
  /** PEM file with authorities that may sign their certificates, beside the system's. */
  peerCa: string | null;
  /** Answers of the container that count as if it had failed. */
  fallbackOn: number[];
  debugHeaders: boolean;
}

/** A host name with a port. */
export interface PeerName {
  name: string;
  port: number;
}

/** As commander gives them. */
export interface RawPeers {
  peer?: string[];
  peersDns?: PeerName;
  peerSecretFile?: string;
  peerCa?: string;
  fallbackOn?: number[];
  debugHeaders?: boolean;
}

/** Each is asked for its health by each worker. */
const MAX_PEERS = 64;

/** LDH labels, and underscores, which names of services have (RFC 1035 section 2.3.1, RFC 8552). */
const HOST_NAME =
  /^(?=.{1,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.?$/i;

/** The options of falling back to other machines, in the order of `--help` and of README's table. */
export function peerOptions(): Option[] {
  return [
    option('--peer <url>', "another machine's proxy, http(s)://host[:port]; may be repeated", addPeers),
    option('--peers-dns <name[:port]>', "a name whose addresses are other machines' proxies", parsePeerName),
    option('--peer-secret-file <file>', 'what all machines know and nobody else, at least 32 bytes'),
    option('--peer-ca <file>', "PEM file with authorities for https peers, beside the system's"),
    option('--fallback-on <status,...>', 'answers of the container that count as failures: 502', parseStatuses),
    option('--debug-headers', 'mark responses that came from another machine with Wunderproxy-Fallback: 1'),
  ];
}

/** Those of a further `--peer`, or of a list in the variable. */
function addPeers(text: string, before: string[] = []): string[] {
  const listed = parseList(text);
  if (listed.length === 0) throw new RangeError('expected a URL such as http://10.0.0.2');
  const peers = [...new Set([...before, ...listed.map(parsePeer)])];
  if (peers.length > MAX_PEERS) throw new RangeError(`expected at most ${MAX_PEERS} peers`);
  return peers;
}

function parsePeer(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  const bare = url !== null && url.username === '' && url.password === '' && /^https?:\/\/[^/?#]+\/?$/i.test(text);
  if (!bare || !/^https?:$/.test(url.protocol)) {
    throw new RangeError(`${text} is not a URL such as http://10.0.0.2 or https://10.0.0.2:8443, without a path`);
  }
  return url.origin;
}

function parsePeerName(text: string): PeerName {
  const [name = '', port = '80', ...rest] = text.split(':');
  if (rest.length > 0 || !HOST_NAME.test(name) || /^[\d.]+$/.test(name)) {
    throw new RangeError('expected a host name such as peers.example.com or peers.example.com:8080');
  }
  return { name, port: parseWhole(port, 1, 65_535) };
}

function parseStatuses(text: string): number[] {
  const statuses = parseList(text);
  for (const status of statuses) {
    if (status === '503' || status === '504') {
      throw new RangeError(`${status} is how an application says that it has enough to do: that would only spread`);
    }
    if (status !== '502') throw new RangeError('expected 502');
  }
  if (statuses.length === 0) throw new RangeError('expected 502');
  return [...new Set(statuses.map(Number))];
}

/** Whether there may be other machines to fall back to. */
export function hasPeers(config: Pick<PeerConfig, 'peer' | 'peersDns'>): boolean {
  return config.peer.length > 0 || config.peersDns !== null;
}

/** With what is not given filled in. Throws UsageError when there are peers without a secret. */
export function peerConfig(raw: RawPeers): PeerConfig {
  const config: PeerConfig = {
    peer: raw.peer ?? [],
    peersDns: raw.peersDns ?? null,
    peerSecretFile: raw.peerSecretFile ?? null,
    peerCa: raw.peerCa ?? null,
    fallbackOn: raw.fallbackOn ?? [],
    debugHeaders: raw.debugHeaders ?? false,
  };
  if (hasPeers(config) && config.peerSecretFile === null) {
    const which = config.peer.length > 0 ? '--peer' : '--peers-dns';
    throw new UsageError(`${which} needs --peer-secret-file: machines must be able to tell one another from clients`);
  }
  return config;
}
