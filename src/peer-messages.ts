/*
 * What the processes say to one another about other machines: a part of messages.ts.
 */

/** What machines that fall back to one another share. */
export interface PeerMaterial {
  /** In base64: whoever has one is believed about clients. The first one signs; there is always one. */
  secrets: string[];
  /** PEM text: authorities beside the system's. */
  ca: string | null;
}

/** Addresses that a name had when it was last looked up. */
export interface NamedAddresses {
  v4: string[];
  v6: string[];
}

/** Other machines, as a worker is to use them. */
export interface WorkerPeers {
  /** Origins. */
  urls: string[];
  /** A name whose addresses are further peers, and the port there. */
  dns: { name: string; port: number } | null;
  /** Statuses of the container that count as failures. */
  fallbackOn: number[];
  debugHeaders: boolean;
  /** How many workers share what this machine may do. */
  workers: number;
}

/** A peer as one worker sees it. */
export interface PeerStats {
  /** Origin. */
  url: string;
  /** Its id, once it has proved that it knows the secret. */
  machine: string | null;
  /** It is another machine that has the id of this one. */
  clone: boolean;
  state: 'healthy' | 'half-open' | 'open' | 'unhealthy';
  inFlight: number;
  lastError: string | null;
  /** In ms since the epoch. */
  lastErrorAt: number | null;
}

/** A request that was to be answered by a peer. Written as JSON it is a key of counts. */
export interface FallbackKind {
  /** Origin; empty when none was found. */
  peer: string;
  /** Why this machine could not: an error code, or `status_502`. */
  reason: string;
  /** `ok`; `no_peer`, `over_budget`, `too_large` (its head); or how it failed there: an error code. */
  outcome: string;
}
