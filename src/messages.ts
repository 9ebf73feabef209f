import type { Config } from './config.ts';
import type { LedgerState } from './ledger.ts';
import type { ProcessUse } from './process-use.ts';

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

/** Durations in µs, rounded to some 0.8 %, and how often each occurred. */
export type LatencyCounts = Record<string, number>;

/**
 * What one worker counts for one container, whatever its address. Totals since the worker started; of containers that left
 * service the last 32 are remembered. The one without an id stands for requests that no container answered.
 */
export interface TargetStats {
  id: string;
  revision: string;
  inFlight: number;
  upgraded: number;
  /** Requests that were written to it and are over. */
  requests: number;
  /** How long these took it, together. */
  seconds: number;
  /** The container's own time: from dispatch to the last byte of its response. */
  latency: LatencyCounts;
  /** Finished requests of clients that were meant for it, by status code, whoever answered. */
  statusCodes: Record<string, number>;
}

/** Finished requests, and the seconds they took together, since the switch at `activeSince`. */
export interface SinceSwitch {
  activeSince: number | null;
  requests: number;
  seconds: number;
}

/** Open client connections by Go's http.ConnState. */
export interface ConnectionStates {
  new: number;
  active: number;
  idle: number;
  hijacked: number;
}

/** What one worker counts. Totals since the worker started, unless said otherwise. */
export interface WorkerStats extends ProcessUse {
  targets: TargetStats[];
  states: ConnectionStates;
  connectionsAccepted: number;
  connectionsClosed: number;
  /** Connections, and requests by HTTP/2, that were turned away because there were too many, by the option that decided. */
  turnedAway: Record<string, number>;
  /** Connections that were cut off because they made work without end. */
  cutOff: number;
  requests: number;
  /** Finished requests by status code. */
  statusCodes: Record<string, number>;
  /** From the request's first byte to the last byte of the response handed to the client. */
  latency: LatencyCounts;
  /** The sum of the same, in seconds. */
  seconds: number;
  /** All containers' own time, those included that are not among the targets any more. */
  upstream: Pick<TargetStats, 'requests' | 'seconds' | 'latency'>;
  /** Requests that wunderproxy ended itself, or the client, by error code. */
  errors: Record<string, number>;
  /** Requests that were sent to a container once more. */
  retries: number;
  /** Lines of the access log that were written, and that were dropped because nobody took them in time. */
  accessLog: { lines: number; lost: number };
  sinceSwitch: SinceSwitch;
  /** What bodies take up at the moment. */
  buffers: { memoryBytes: number; spoolBytes: number; spoolFiles: number };
}

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

/** What a worker waits for at most, in ms. */
export interface WorkerTimeouts {
  /** A request's head, from its first byte (or the connection's begin) to its last. */
  header: number;
  /** Between two pieces of a request's body. */
  body: number;
  /** An idle client connection. */
  keepAlive: number;
  /** A client that reads nothing of its response. */
  write: number;
  /** A connection to the container. */
  connect: number;
  /** The head of the container's response. */
  response: number;
  /** Between two pieces of the container's response. */
  responseIdle: number;
  /** A tunnel without traffic. */
  tunnel: number;
}

/** What clients of one worker may ask for. */
export interface WorkerLimits {
  /** Of a request's body, in bytes. */
  body: number;
  /** What a request's body must bring on average, in bytes per second. */
  bodyRate: number;
  connections: number;
  connectionsPerAddress: number | null;
}

/** Where bodies wait in one worker; sizes in bytes. */
export interface WorkerSpool {
  directory: string;
  /** Memory of one body. */
  bodyMemory: number;
  /** Memory of all bodies. */
  totalMemory: number;
  /** All files. */
  totalDisk: number;
}

/** A content coding (RFC 9110 section 8.4.1) that responses can be given. */
export type Coding = 'zstd' | 'br' | 'gzip';

/** How a worker compresses responses. */
export interface WorkerCompression {
  /** The preferred one first; empty: no compression. */
  codings: Coding[];
  /** Media ranges in lower case. */
  types: string[];
}

/** How plain HTTP and TLS stand to one another. */
export interface WorkerHttps {
  /** Where plain requests are sent to: the TLS listener's port. Null: they are served. */
  port: number | null;
  /** Paths that are served over plain HTTP nevertheless. */
  plainPaths: string[];
  /** Value of Strict-Transport-Security, or null. */
  hsts: string | null;
}

/** A certificate with its chain and its private key, both PEM text. */
export interface Certificate {
  /** File name, or `acme`. */
  source: string;
  cert: string;
  key: string;
}

/** What workers need for TLS. */
export interface TlsMaterial {
  /** The first one is for clients that name no host, or one that is in no certificate. Empty: no handshake succeeds yet. */
  certificates: Certificate[];
  /** 48 bytes in base64: whoever has it can take up the sessions that any worker began. */
  ticketKey: string;
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

/** What a worker must know: but for TLS keys nothing that is worth stealing. */
export interface WorkerConfig {
  /** Number of the worker's place, from 1; a replacement takes over its predecessor's. */
  slot: number;
  /** This machine's id among those that share the store. */
  machine: string;
  /** Inherited listening sockets: file descriptor numbers in the worker. `tlsFd` is null when TLS is off. */
  proxyFd: number;
  tlsFd: number | null;
  tls: TlsMaterial | null;
  https: WorkerHttps;
  /** Whether the manager has answers to challenges of ACME. */
  acme: boolean;
  /** Whom to become once everything is loaded, or null to stay. */
  user: { uid: number; gid: number } | null;
  trustedProxies: string[];
  /** Host names in lower case that are served; empty: any. */
  hosts: string[];
  limits: WorkerLimits;
  spool: WorkerSpool;
  /** Inherited descriptor of the access log, and whether query strings are written to it; null: no log. */
  accessLog: { fd: number; query: boolean } | null;
  compression: WorkerCompression;
  timeouts: WorkerTimeouts;
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

/** A child process of the `process` runtime, as the engine reports it. */
export interface EngineProcess {
  id: string;
  pid: number | null;
  hash: string;
  revision: string;
  /** See ContainerMark in manager/runtime.ts. */
  mark: 'launching' | 'launched' | 'superseded';
  port: number;
  running: boolean;
  exitCode: number | null;
  startedAt: number;
}

/**
 * From the manager to the engine (by way of the primary): calls of the `process` runtime, answered with a `reply` of the
 * same number.
 */
export type ToEngine = { type: 'call'; call: number } & (
  | { method: 'list' }
  | {
      method: 'create';
      hash: string;
      revision: string;
      argv: string[];
      env: Record<string, string>;
      cwd: string | null;
    }
  | { method: 'start'; id: string }
  | { method: 'mark'; id: string; mark: EngineProcess['mark'] }
  | { method: 'logs'; id: string; lines: number }
  /** What it has written since so many lines had ended; null: the last `lines`. Answered with EngineLines or null. */
  | { method: 'lines-since'; id: string; ended: number | null; lines: number }
  | { method: 'stop'; id: string; timeoutMs: number }
  | { method: 'remove'; id: string }
);

/** Lines that a child has written, and how many have ended so far. */
export interface EngineLines {
  lines: string[];
  ended: number;
  running: boolean;
}

/** From the engine. */
export type FromEngine =
  | { type: 'reply'; call: number; result: unknown }
  | { type: 'reply'; call: number; error: string }
  | { type: 'changed'; id: string };
