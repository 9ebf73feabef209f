import type { NamedAddresses, PeerMaterial, WorkerPeers } from './peer-messages.ts';

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

/** What a worker must know: but for TLS keys and the secret of peers nothing that is worth stealing. */
export interface WorkerConfig {
  /** Number of the worker's place, from 1; a replacement takes over its predecessor's. */
  slot: number;
  /** This machine's id among those that share the store. */
  machine: string;
  /** Of this start of the program. */
  instance: string;
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
  /** Null: requests do not fall back. */
  peers: WorkerPeers | null;
  /** Null: no machine is trusted. */
  peerMaterial: PeerMaterial | null;
  /** What another worker has found behind the name of peers: good until this one can look it up; null: nothing yet. */
  namedPeers: NamedAddresses | null;
}
