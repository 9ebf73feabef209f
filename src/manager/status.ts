import type { AcmeStatus } from './acme.ts';
import { type Container, routeTarget } from './containers.ts';
import type { Control } from './control.ts';
import type { LockInfo } from './deploy-lock.ts';
import type { Deployments } from './deployments.ts';
import { cloneProblem, configuredPeers, type FallbackCount, fallbackCounts } from './fallbacks.ts';
import type { Fleet } from './fleet.ts';
import type { ProbeResult } from './health.ts';
import type { Deployment } from './history.ts';
import { type LatencySummary, summarize } from './latency.ts';
import type { Launch } from './launcher.ts';
import type { PeerStatus } from './peers.ts';
import type { Deploy, RecentSlice } from './recent.ts';
import { type ProcessUse, processUse } from '../process-use.ts';
import { formatHostPort, isoTime } from '../units.ts';
import type { CertificateInfo, Deaths, WorkerInfo } from '../messages.ts';
import type { ConnectionStates, TargetStats, WorkerStats } from '../worker-stats.ts';

/** One container in `/status`. Times are ISO 8601. */
export interface ContainerStatus {
  Hash: string;
  Revision: string;
  Id: string;
  Image: string;
  Address: string | null;
  State: Container['state'];
  Failure: string | null;
  InFlight: number;
  Upgraded: number;
  Requests: number;
  StartedAt: string | null;
  SwitchedAt: string | null;
  /** Since when it drains. */
  DrainSince: string | null;
  DrainDeadline: string | null;
  /** Requests that were meant for it by status code, whoever answered. */
  StatusCodes: Record<string, number>;
  /** The container's own time: from dispatch to the last byte of its response. */
  Latency: LatencySummary;
}

/** A launch that runs. */
export interface LaunchStatus {
  Hash: string;
  Revision: string;
  By: string;
  /** ISO 8601. */
  StartedAt: string;
  Phase: Launch['phase'];
  /** What goes on, for people. */
  Step: string;
  /** What the health check has answered so far. */
  Probes: readonly ProbeResult[];
}

/** One certificate in `/status`. */
export interface CertificateStatus {
  Names: string[];
  /** The file, or `acme`. */
  Source: string;
  Issuer: string;
  /** ISO 8601; null when the file could never be read. */
  NotBefore: string | null;
  NotAfter: string | null;
  /** Whole days, rounded down. */
  DaysLeft: number | null;
  /** Null: all is well. */
  Problem: string | null;
}

/** `/status`: the original's keys first, then ours. */
export interface Status {
  /** Bytes, all processes. */
  HeapSize: number;
  /** Seconds, since the last switch. */
  TotalTime: number;
  /** Since the last switch. */
  Requests: number;
  States: ConnectionStates;
  /** `Ok`, or why not. */
  DockerState: string;
  App: string;
  Version: string;
  StartedAt: string;
  Store: string;
  /** `Ok`, or why the store could not be had when it was last needed. */
  StoreState: string;
  /** The manager has just started: it is not known yet what runs. */
  Starting: boolean;
  /** Why a start could not launch what the store names; it goes on trying. */
  StartProblem: string | null;
  /** `Ok`, or why machines that share the store may not see one another as they are. */
  FleetState: string;
  /** Null without `--acme-domain`. */
  Acme: AcmeStatus | null;
  Active: ContainerStatus | null;
  Containers: ContainerStatus[];
  Launches: LaunchStatus[];
  Totals: {
    Requests: number;
    ConnectionsAccepted: number;
    ConnectionsClosed: number;
    StatusCodes: Record<string, number>;
    /** Requests that wunderproxy ended itself, or the client, by error code. */
    Errors: Record<string, number>;
    /** Requests that were sent to a container once more. */
    Retries: number;
    /** Requests that were to be answered by another machine. */
    Fallbacks: FallbackCount[];
    /** Requests that another machine passed on to this one, or that looked so, by what their marker was worth. */
    Markers: Record<string, number>;
    /** Connections, and requests by HTTP/2, that there were too many of, by the option that decided. */
    TurnedAway: Record<string, number>;
    /** Connections that were cut off because they made work without end. */
    CutOff: number;
  };
  /** The last hour in slices of 10 s. */
  Recent: readonly RecentSlice[];
  /** What came into service in the last hour, oldest first. */
  Deploys: readonly Deploy[];
  /** From a request's first byte to the last byte of the response handed to the client, since the start. */
  Latency: LatencySummary;
  /** All containers' own time, since the start. */
  ContainerLatency: LatencySummary;
  /** What request and response bodies take up at the moment. */
  Buffers: { MemoryBytes: number; SpoolBytes: number; SpoolFiles: number };
  /** Lines written, and lines lost because nobody took them in time. */
  AccessLog: { Lines: number; Lost: number };
  /** What the processes of each role use together. */
  Processes: Record<'Primary' | 'Manager' | 'Workers', ProcessStatus>;
  /** How many died and were replaced. */
  Deaths: { Workers: number; Managers: number };
  Workers: { Id: number; Pid: number; State: WorkerInfo['state']; StartedAt: string }[];
  /** Who deploys by `wunderproxy deploy`, as it was last seen; null: nobody. */
  DeployLock: LockInfo | null;
  /** All machines that share the store, this one included, by name. */
  Peers: PeerStatus[];
  /** `Ok`, or why the name of `--peers-dns` could not be looked up when that was last tried. */
  PeersDnsState: string;
  Certificates: CertificateStatus[];
  History: Deployment[];
}

/** `CpuSeconds` of workers includes those that are gone; sizes are in bytes. */
export interface ProcessStatus {
  HeapUsed: number;
  ResidentBytes: number;
  CpuSeconds: number;
}

/** What the status says beyond the deployments. */
export interface About {
  version: string;
  /** Ms since the epoch. */
  startedAt: number;
  store: string;
  /** What the primary uses, and what it has seen die. */
  primary: () => { use: ProcessUse; deaths: Deaths };
  certificates: () => CertificateInfo[];
  acme: () => AcmeStatus | null;
  fleet: Pick<Fleet, 'peers' | 'problem' | 'failures' | 'cloned'>;
}

/** Everything that there is to know, from memory: it neither waits for the engine nor for the store. */
export function statusOf(control: Control, deployments: Deployments, about: About): Status {
  const { containers, traffic, runtime, app } = control;
  const totals = traffic.totals();
  const { use: primary, deaths } = about.primary();
  const manager = processUse();
  const active = containers.active;
  return {
    HeapSize: totals.heapUsed + primary.heapUsed + manager.heapUsed,
    TotalTime: totals.sinceSwitch.seconds,
    Requests: totals.sinceSwitch.requests,
    States: totals.states,
    DockerState: runtime.problem ?? 'Ok',
    App: app,
    Version: about.version,
    StartedAt: isoTime(about.startedAt),
    Store: about.store,
    StoreState: control.environment.problem ?? 'Ok',
    Starting: !containers.complete,
    StartProblem: containers.startProblem,
    FleetState: about.fleet.problem ?? cloneProblem(totals) ?? 'Ok',
    Acme: about.acme(),
    Active: active && containerStatus(active, totals),
    Containers: containers.all().map((container) => containerStatus(container, totals)),
    Launches: Array.from(deployments.launcher.running.values(), launchStatus),
    Totals: {
      Requests: totals.requests,
      ConnectionsAccepted: totals.connectionsAccepted,
      ConnectionsClosed: totals.connectionsClosed,
      StatusCodes: totals.statusCodes,
      Errors: totals.errors,
      Retries: totals.retries,
      Fallbacks: fallbackCounts(totals),
      Markers: totals.markers,
      TurnedAway: totals.turnedAway,
      CutOff: totals.cutOff,
    },
    Recent: control.recent.slices,
    Deploys: control.recent.deploys,
    Latency: summarize(totals.latency),
    ContainerLatency: summarize(totals.upstream.latency),
    Buffers: {
      MemoryBytes: totals.buffers.memoryBytes,
      SpoolBytes: totals.buffers.spoolBytes,
      SpoolFiles: totals.buffers.spoolFiles,
    },
    AccessLog: { Lines: totals.accessLog.lines, Lost: totals.accessLog.lost },
    Processes: { Primary: processStatus(primary), Manager: processStatus(manager), Workers: processStatus(totals) },
    Deaths: { Workers: deaths.workers, Managers: deaths.managers },
    Workers: traffic.workers.map(({ id, pid, state, startedAt }) => {
      return { Id: id, Pid: pid, State: state, StartedAt: isoTime(startedAt) };
    }),
    DeployLock: control.lock.known,
    Peers: about.fleet.peers(configuredPeers(totals)),
    PeersDnsState: totals.namedPeersProblem ?? 'Ok',
    Certificates: about.certificates().map((info) => certificateStatus(info, Date.now())),
    History: control.environment.knownHistory,
  };
}

function launchStatus({ hash, revision, by, startedAt, phase, step, probes }: Launch): LaunchStatus {
  const at = isoTime(startedAt);
  return { Hash: hash, Revision: revision, By: by, StartedAt: at, Phase: phase, Step: step, Probes: probes };
}

/** What a container has had nothing of yet. */
const NOTHING: Omit<TargetStats, 'id' | 'revision'> = {
  inFlight: 0,
  upgraded: 0,
  requests: 0,
  seconds: 0,
  latency: {},
  statusCodes: {},
};

/** One container for `/status` and for JSON answers. */
export function containerStatus(container: Container, totals: Pick<WorkerStats, 'targets'>): ContainerStatus {
  const counts = totals.targets.find(({ id }) => id === container.id) ?? NOTHING;
  const target = routeTarget(container);
  return {
    Hash: container.hash,
    Revision: container.revision,
    Id: container.id,
    Image: container.image,
    Address: target && formatHostPort(target.address.host, target.address.port),
    State: container.state,
    Failure: container.failure,
    InFlight: counts.inFlight,
    Upgraded: counts.upgraded,
    Requests: counts.requests,
    StartedAt: container.startedAt,
    SwitchedAt: container.switchedAt === null ? null : isoTime(container.switchedAt),
    DrainSince: container.drain && isoTime(container.drain.since),
    DrainDeadline: container.drain && isoTime(container.drain.deadline),
    StatusCodes: counts.statusCodes,
    Latency: summarize(counts.latency),
  };
}

function processStatus({ heapUsed, residentBytes, cpuSeconds }: ProcessUse): ProcessStatus {
  return { HeapUsed: heapUsed, ResidentBytes: residentBytes, CpuSeconds: cpuSeconds };
}

const DAY = 86_400_000;

function certificateStatus(info: CertificateInfo, now: number): CertificateStatus {
  const { names, source, issuer, notBefore, notAfter, problem } = info;
  const known = notAfter !== 0;
  return {
    Names: names,
    Source: source,
    Issuer: issuer,
    NotBefore: known ? isoTime(notBefore) : null,
    NotAfter: known ? isoTime(notAfter) : null,
    DaysLeft: known ? Math.floor((notAfter - now) / DAY) : null,
    Problem: problem ?? (known ? validityProblem(notBefore, notAfter, now) : null),
  };
}

function validityProblem(notBefore: number, notAfter: number, now: number): string | null {
  if (now > notAfter) return 'it has expired';
  return now < notBefore ? 'it is not valid yet' : null;
}
