import type { PeerStats } from './peer-messages.ts';
import type { ProcessUse } from './process-use.ts';

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
  /** By kind, as JSON of FallbackKind. */
  fallbacks: Record<string, number>;
  /** Requests that came with a peer's marker, by what it was worth: `trusted`, `forged`, `stale`, `replayed`. */
  markers: Record<string, number>;
  /** At the moment. */
  peers: PeerStats[];
  /** Why the name of peers could not be looked up when that was last tried; null: it could, or there is none. */
  namedPeersProblem: string | null;
  /** Lines of the access log that were written, and that were dropped because nobody took them in time. */
  accessLog: { lines: number; lost: number };
  sinceSwitch: SinceSwitch;
  /** What bodies take up at the moment. */
  buffers: { memoryBytes: number; spoolBytes: number; spoolFiles: number };
}
