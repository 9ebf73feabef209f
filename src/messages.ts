import type { Config } from './config.ts';
import type { FromEngine, ToEngine } from './engine-messages.ts';
import type { LedgerState } from './ledger.ts';
import type { NamedAddresses, PeerMaterial } from './peer-messages.ts';
import type { ProcessUse } from './process-use.ts';
import type { Certificate, TlsMaterial, WorkerConfig } from './worker-config.ts';
import type { WorkerStats } from './worker-stats.ts';

/**
 * What the processes say to one another: the planes' only contract. Everything here survives JSON.
 *
 *     manager ⇄ primary ⇄ worker ×N
 *                 ⇅
 *               engine (only with `--runtime process`)
 *
 * The primary understands only what its own work needs (routes, acknowledgements, the life of processes) and passes the
 * rest on.
 */

/** Where a container listens. */
export interface Address {
  host: string;
  port: number;
}

/** A container as the workers know it. `id` and address together name it: a new address is a new target. */
export interface RouteTarget {
  /** The engine's container id. */
  id: string;
  /** Of its launch config, in lower-case hex. */
  hash: string;
  revision: string;
  address: Address;
}

/** A container that left service and finishes its requests. */
export interface DrainingTarget {
  target: RouteTarget;
  /** When it left service, in ms since the epoch. */
  since: number;
  /** When its last requests are broken off, in ms since the epoch. */
  deadline: number;
}

/**
 * Where requests go. The primary keeps the last one for workers that are born later and for a manager that comes back.
 * Versions only ever grow.
 */
export interface Route {
  version: number;
  active: RouteTarget | null;
  /** When `active` came into service, in ms since the epoch. */
  activeSince: number | null;
  draining: DrainingTarget[];
}

/** The route before any manager spoke. */
export const NO_ROUTE: Route = { version: 0, active: null, activeSince: null, draining: [] };

/** Totals at the last end of a slice of `Recent`, kept by the primary for the next manager. */
export interface Mark {
  /** In ms since the epoch. */
  at: number;
  totals: Pick<WorkerStats, 'requests' | 'statusCodes' | 'latency' | 'upstream' | 'errors'>;
}

/** How often deployments ended how, by event and outcome: kept by the primary for the next manager. */
export type DeployTally = Record<string, Record<string, number>>;

/** How often processes died and were replaced since the program started. */
export interface Deaths {
  workers: number;
  managers: number;
}

/** A certificate, for people. */
export interface CertificateInfo {
  /** Of its subjectAltName: host names in lower case and addresses. */
  names: string[];
  /** File name, or `acme`. */
  source: string;
  issuer: string;
  /** In ms since the epoch; both 0 for a certificate that could never be read. */
  notBefore: number;
  notAfter: number;
  /** Why a newer file is not in use, or what is wrong with this one. */
  problem: string | null;
}

/** From the primary to a worker. */
export type ToWorker =
  | { type: 'start'; config: WorkerConfig; route: Route }
  /** To be acknowledged with `routed` once no new request can reach another container than `route.active`. */
  | { type: 'route'; route: Route }
  /** Break off what still runs on a container: its drain deadline has passed. */
  | { type: 'cut'; id: string }
  /** For handshakes from now on. */
  | { type: 'tls'; material: TlsMaterial }
  /** From now on. */
  | { type: 'peerMaterial'; material: PeerMaterial }
  /** To its `nonce`: whether no worker of this machine has taken it before. */
  | { type: 'nonce'; nonce: string; fresh: boolean }
  /** To its `challenge`: the key authorization (RFC 8555 section 8.1), or null when there is no such challenge. */
  | { type: 'challenge'; token: string; answer: string | null }
  /**
   * Stop accepting, finish what runs within `timeoutMs`, exit 0. `keepIdle`: another worker has taken over, so idle
   * connections get one more answer (with `Connection: close`) instead of being cut under their clients.
   */
  | { type: 'retire'; timeoutMs: number; keepIdle: boolean };

/** From a worker to the primary. */
export type FromWorker =
  | { type: 'listening' }
  | { type: 'routed'; version: number }
  /** Once a second, and at once when a draining container has nothing left to do here. */
  | { type: 'stats'; stats: WorkerStats }
  /** An ACME server asks for the answer to this; who asks may be anybody. */
  | { type: 'challenge'; token: string }
  /** A peer's request carries this nonce, which is to be remembered until then (ms since the epoch). */
  | { type: 'nonce'; nonce: string; until: number }
  /** The name of peers has other addresses than before: to be given to workers that are born later. */
  | { type: 'namedPeers'; addresses: NamedAddresses }
  /** It has stopped accepting and only finishes what runs. */
  | { type: 'retiring' };

/** A worker process as the manager sees it. */
export interface WorkerInfo {
  /** Unique over the life of the program: a replacement gets a new one. */
  id: number;
  pid: number;
  slot: number;
  state: 'starting' | 'serving' | 'retiring';
  startedAt: number;
}

/** From the primary to the manager. */
export type ToManager =
  /** The first message; a manager that comes back takes up from here. */
  | {
      type: 'start';
      version: string;
      /** This machine's id among those that share the store. */
      machine: string;
      /** Of this start of the program: another one with the same machine's id is another machine. */
      instance: string;
      config: Config;
      /** Where the program listens, as in its log; `tls` is null when TLS is off. */
      addresses: { proxy: string; tls: string | null; api: string };
      apiFd: number;
      route: Route;
      workers: WorkerInfo[];
      startedAt: number;
      /** Everything that was counted so far. */
      ledger: LedgerState;
      mark: Mark | null;
      deployCounts: DeployTally;
    }
  /** Every worker that can accept a connection has acknowledged this version. */
  | { type: 'routed'; version: number }
  | { type: 'workers'; workers: WorkerInfo[] }
  /** Once a second: what the primary itself uses. */
  | { type: 'pulse'; use: ProcessUse; deaths: Deaths }
  | { type: 'stats'; worker: number; stats: WorkerStats }
  | { type: 'engine'; message: FromEngine }
  | { type: 'challenge'; worker: number; token: string }
  /** What is served now. */
  | { type: 'certificates'; certificates: CertificateInfo[] }
  /** Re-read files that options name (SIGHUP). */
  | { type: 'reload' }
  /** Finish drains that run, abort launches, then exit 0. */
  | { type: 'retire'; timeoutMs: number };

/** From the manager to the primary. */
export type FromManager =
  | { type: 'listening' }
  | { type: 'route'; route: Route }
  | { type: 'cut'; id: string }
  /** To be given to the next manager. */
  | { type: 'mark'; mark: Mark }
  | { type: 'deploy-counts'; counts: DeployTally }
  /** Those that ACME obtained: all of them. */
  | { type: 'certificates'; certificates: Certificate[] }
  | { type: 'challenge'; worker: number; token: string; answer: string | null }
  | { type: 'engine'; message: ToEngine };
