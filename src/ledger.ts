import type { PeerStats } from './peer-messages.ts';
import type { SinceSwitch, TargetStats, WorkerStats } from './worker-stats.ts';

/** So many containers are remembered beyond the life of the workers that served them. */
const MAX_TARGETS = 32;
/** Counts since a switch are kept for so many of the last switches. */
const MAX_SWITCHES = 4;

/** All that a ledger knows, as it goes from process to process. */
export interface LedgerState {
  live: [worker: number, stats: WorkerStats][];
  /** The sum of those that are gone, but for `sinceSwitch`. */
  ended: WorkerStats;
  /** Of workers that are gone, by the switch that they counted from; the last one last. */
  endedSince: SinceSwitch[];
}

/** Before anything was counted. */
export const NO_STATS: Readonly<WorkerStats> = {
  targets: [],
  states: { new: 0, active: 0, idle: 0, hijacked: 0 },
  connectionsAccepted: 0,
  connectionsClosed: 0,
  turnedAway: {},
  cutOff: 0,
  requests: 0,
  seconds: 0,
  statusCodes: {},
  latency: {},
  upstream: { requests: 0, seconds: 0, latency: {} },
  errors: {},
  retries: 0,
  fallbacks: {},
  markers: {},
  peers: [],
  namedPeersProblem: null,
  accessLog: { lines: 0, lost: 0 },
  sinceSwitch: { activeSince: null, requests: 0, seconds: 0 },
  buffers: { memoryBytes: 0, spoolBytes: 0, spoolFiles: 0 },
  heapUsed: 0,
  residentBytes: 0,
  cpuSeconds: 0,
};

/**
 * What all workers have counted since the program started, each event once: the last report of every worker that lives, and
 * the sum of the last reports of those that are gone. Workers report totals, so a report that is repeated or missing
 * changes nothing.
 *
 * The primary keeps one for the manager to start from, and the manager keeps its own from there on.
 */
export class Ledger {
  readonly #live = new Map<number, WorkerStats>();
  #ended: WorkerStats;
  #endedSince: SinceSwitch[];

  constructor(state: LedgerState = { live: [], ended: NO_STATS, endedSince: [] }) {
    this.#live = new Map(state.live);
    this.#ended = state.ended;
    this.#endedSince = state.endedSince;
  }

  get state(): LedgerState {
    return { live: [...this.#live], ended: this.#ended, endedSince: this.#endedSince };
  }

  /** The last report of a worker that lives. */
  report(worker: number): WorkerStats | undefined {
    return this.#live.get(worker);
  }

  /** A worker's report takes the place of its last one. */
  receive(worker: number, stats: WorkerStats): void {
    this.#live.set(worker, stats);
  }

  /** Workers that are not among these are gone: what they had open ended with them, what they had counted stays counted. */
  keep(workers: readonly number[]): void {
    for (const [id, stats] of this.#live) {
      if (workers.includes(id)) continue;
      this.#live.delete(id);
      this.#absorb(stats);
    }
  }

  #absorb(stats: WorkerStats): void {
    const { states, buffers, heapUsed, residentBytes, peers, namedPeersProblem } = NO_STATS;
    const targets = stats.targets.map((target) => ({ ...target, inFlight: 0, upgraded: 0 }));
    const connectionsClosed = stats.connectionsAccepted;
    const now = { states, buffers, heapUsed, residentBytes, peers, namedPeersProblem };
    const ended = { ...stats, ...now, targets, connectionsClosed };
    this.#ended = addStats(this.#ended, ended);
    this.#ended.targets.splice(0, this.#ended.targets.length - MAX_TARGETS);
    this.#endedSince = [...this.#endedSince, stats.sinceSwitch].slice(-MAX_SWITCHES);
    const earlier = this.#endedSince.findIndex(({ activeSince }) => activeSince === stats.sinceSwitch.activeSince);
    const last = this.#endedSince.length - 1;
    if (earlier === last) return;
    this.#endedSince[last] = addSince(stats.sinceSwitch, this.#endedSince[earlier]);
    this.#endedSince.splice(earlier, 1);
  }

  /** The sum; `sinceSwitch` counts from the switch at `activeSince`. */
  totals(activeSince: number | null): WorkerStats {
    const sum = [...this.#live.values()].reduce(addStats, this.#ended);
    const since = [...this.#endedSince, ...Array.from(this.#live.values(), (stats) => stats.sinceSwitch)];
    const none: SinceSwitch = { activeSince, requests: 0, seconds: 0 };
    return { ...sum, sinceSwitch: since.filter((each) => each.activeSince === activeSince).reduce(addSince, none) };
  }
}

function addSince(a: SinceSwitch, b: SinceSwitch | undefined): SinceSwitch {
  return { ...a, requests: a.requests + (b?.requests ?? 0), seconds: a.seconds + (b?.seconds ?? 0) };
}

/** The sum of two reports, except for `sinceSwitch`. */
function addStats(a: WorkerStats, b: WorkerStats): WorkerStats {
  return {
    targets: addTargets(a.targets, b.targets),
    states: {
      new: a.states.new + b.states.new,
      active: a.states.active + b.states.active,
      idle: a.states.idle + b.states.idle,
      hijacked: a.states.hijacked + b.states.hijacked,
    },
    connectionsAccepted: a.connectionsAccepted + b.connectionsAccepted,
    connectionsClosed: a.connectionsClosed + b.connectionsClosed,
    turnedAway: addCounts(a.turnedAway, b.turnedAway),
    cutOff: a.cutOff + b.cutOff,
    requests: a.requests + b.requests,
    seconds: a.seconds + b.seconds,
    statusCodes: addCounts(a.statusCodes, b.statusCodes),
    latency: addCounts(a.latency, b.latency),
    upstream: {
      requests: a.upstream.requests + b.upstream.requests,
      seconds: a.upstream.seconds + b.upstream.seconds,
      latency: addCounts(a.upstream.latency, b.upstream.latency),
    },
    errors: addCounts(a.errors, b.errors),
    retries: a.retries + b.retries,
    fallbacks: addCounts(a.fallbacks, b.fallbacks),
    markers: addCounts(a.markers, b.markers),
    peers: addPeers(a.peers, b.peers),
    namedPeersProblem: a.namedPeersProblem ?? b.namedPeersProblem,
    accessLog: { lines: a.accessLog.lines + b.accessLog.lines, lost: a.accessLog.lost + b.accessLog.lost },
    sinceSwitch: NO_STATS.sinceSwitch,
    buffers: {
      memoryBytes: a.buffers.memoryBytes + b.buffers.memoryBytes,
      spoolBytes: a.buffers.spoolBytes + b.buffers.spoolBytes,
      spoolFiles: a.buffers.spoolFiles + b.buffers.spoolFiles,
    },
    heapUsed: a.heapUsed + b.heapUsed,
    residentBytes: a.residentBytes + b.residentBytes,
    cpuSeconds: a.cpuSeconds + b.cpuSeconds,
  };
}

function addTargets(a: TargetStats[], b: TargetStats[]): TargetStats[] {
  const sum = new Map(a.map((target) => [target.id, target]));
  for (const target of b) {
    const before = sum.get(target.id);
    sum.delete(target.id);
    sum.set(target.id, before === undefined ? target : addTarget(before, target));
  }
  return [...sum.values()];
}

function addTarget(a: TargetStats, b: TargetStats): TargetStats {
  return {
    id: a.id,
    revision: a.revision,
    inFlight: a.inFlight + b.inFlight,
    upgraded: a.upgraded + b.upgraded,
    requests: a.requests + b.requests,
    seconds: a.seconds + b.seconds,
    latency: addCounts(a.latency, b.latency),
    statusCodes: addCounts(a.statusCodes, b.statusCodes),
  };
}

/** From bad to good: what one worker has found out of a peer, the others will find out too. */
const PEER_STATES: readonly PeerStats['state'][] = ['unhealthy', 'open', 'half-open', 'healthy'];

function addPeers(a: PeerStats[], b: PeerStats[]): PeerStats[] {
  const sum = new Map(a.map((peer) => [peer.url, peer]));
  for (const peer of b) {
    const before = sum.get(peer.url);
    sum.set(peer.url, before === undefined ? peer : addPeer(before, peer));
  }
  return [...sum.values()];
}

function addPeer(a: PeerStats, b: PeerStats): PeerStats {
  const last = (b.lastErrorAt ?? 0) > (a.lastErrorAt ?? 0) ? b : a;
  return {
    url: a.url,
    machine: a.machine ?? b.machine,
    clone: a.clone || b.clone,
    state: PEER_STATES.find((state) => state === a.state || state === b.state) ?? a.state,
    inFlight: a.inFlight + b.inFlight,
    lastError: last.lastError,
    lastErrorAt: last.lastErrorAt,
  };
}

/** The sum of two counts. */
export function addCounts(a: Record<string, number>, b: Record<string, number>): Record<string, number> {
  const sum = { ...a };
  for (const [key, count] of Object.entries(b)) sum[key] = (sum[key] ?? 0) + count;
  return sum;
}
