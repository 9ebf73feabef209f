import { cloneAdvice } from '../machine.ts';
import type { FallbackKind } from '../peer-messages.ts';
import type { WorkerStats } from '../worker-stats.ts';
import type { ConfiguredPeer } from './peers.ts';

/** How often requests were to be answered by another machine, in one way. */
export interface FallbackCount {
  /** URL; empty when none was found. */
  Peer: string;
  /** Why this machine could not answer: an error code, or `status_502`. */
  Reason: string;
  /** `ok`; `no_peer`, `over_budget`, `too_large` (its head); or how it failed there: an error code. */
  Outcome: string;
  Count: number;
}

/** Fallbacks of all workers by kind. */
export function fallbackCounts({ fallbacks }: Pick<WorkerStats, 'fallbacks'>): FallbackCount[] {
  return Object.entries(fallbacks).map(([key, Count]) => {
    const { peer, reason, outcome } = JSON.parse(key) as FallbackKind;
    return { Peer: peer, Reason: reason, Outcome: outcome, Count };
  });
}

/** The peers that options name, as the workers know them. */
export function configuredPeers(totals: Pick<WorkerStats, 'fallbacks' | 'peers'>): ConfiguredPeer[] {
  const counts = fallbackCounts(totals);
  return totals.peers.map(({ url, machine, clone, state, inFlight, lastError }) => {
    const there = counts.filter(({ Peer }) => Peer === url);
    const failed = there.filter(({ Outcome }) => Outcome !== 'ok');
    return {
      Machine: machine,
      Clone: clone,
      Fallback: {
        Url: url,
        State: state,
        InFlight: inFlight,
        Requests: sum(there),
        Failures: sum(failed),
        LastError: lastError,
      },
    };
  });
}

/** What there is to say of peers that have the id of this machine, but are others; null: nothing. */
export function cloneProblem({ peers }: Pick<WorkerStats, 'peers'>): string | null {
  const clones = peers.filter(({ clone }) => clone);
  return clones[0] ? cloneAdvice(clones[0].machine ?? '', clones.map(({ url }) => url).join(', ')) : null;
}

function sum(counts: readonly FallbackCount[]): number {
  return counts.reduce((total, { Count }) => total + Count, 0);
}
