import type { HeartbeatActive } from './heartbeat.ts';

/** How a machine that `--peer` or `--peers-dns` names does as a peer to fall back to. */
export interface PeerFallback {
  /** As it is configured. */
  Url: string;
  State: 'healthy' | 'unhealthy' | 'open' | 'half-open';
  InFlight: number;
  Requests: number;
  Failures: number;
  LastError: string | null;
}

/** A configured peer, and which machine it is as far as that is known. */
export interface ConfiguredPeer {
  Machine: string | null;
  /** It has the id of this machine, but is another one. */
  Clone: boolean;
  Fallback: PeerFallback;
}

/** One machine in `/status` (`Peers`). Times are ISO 8601. What is known of a machine only by its heartbeat can be null. */
export interface PeerStatus {
  /** Null: a configured peer of which it is not known which machine it is. */
  Machine: string | null;
  Name: string;
  /** This machine. */
  Self: boolean;
  /** URLs; null: not reachable over TCP. */
  Api: string | null;
  Proxy: string | null;
  Tls: string | null;
  Version: string | null;
  Active: HeartbeatActive | null;
  /** As in its heartbeat; `unknown` without one. */
  State: string;
  /** Its heartbeat has not changed for too long. */
  Stale: boolean;
  /** It serves another config than `current.json` names. */
  Differs: boolean;
  /** When its heartbeat was last seen to change. */
  SeenAt: string | null;
  InFlight: number | null;
  Requests: number | null;
  /** 5xx answers. */
  ErrorsLastMinute: number | null;
  /** Null: it is no configured peer. */
  Fallback: PeerFallback | null;
}

/**
 * Puts what is known of configured peers to the machines that they are, sorted by name. A peer without a heartbeat, and a
 * second address of a machine, is an entry of its own, and so is a clone of this machine.
 */
export function joinPeers(machines: readonly PeerStatus[], configured: readonly ConfiguredPeer[]): PeerStatus[] {
  const joined = [...machines];
  for (const { Machine, Clone, Fallback } of configured) {
    const at = joined.findIndex(
      (each) => Machine !== null && !Clone && each.Machine === Machine && each.Fallback === null,
    );
    const found = joined[at];
    if (found) joined[at] = { ...found, Fallback };
    else joined.push(withoutHeartbeat(Machine, Fallback));
  }
  return joined.toSorted((a, b) => compare(a.Name, b.Name) || compare(a.Machine ?? '', b.Machine ?? ''));
}

function withoutHeartbeat(Machine: string | null, Fallback: PeerFallback): PeerStatus {
  return {
    Machine,
    Name: URL.canParse(Fallback.Url) ? new URL(Fallback.Url).host : Fallback.Url,
    Self: false,
    Api: null,
    Proxy: Fallback.Url,
    Tls: null,
    Version: null,
    Active: null,
    State: 'unknown',
    Stale: false,
    Differs: false,
    SeenAt: null,
    InFlight: null,
    Requests: null,
    ErrorsLastMinute: null,
    Fallback,
  };
}

/** By code units, so that all machines show the same order. */
function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
