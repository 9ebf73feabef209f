import { type Container, routeTarget } from './containers.ts';
import type { Control } from './control.ts';
import type { Deployments } from './deployments.ts';
import type { ProbeResult } from './health.ts';
import type { Deployment } from './history.ts';
import { type LatencySummary, summarize } from './latency.ts';
import type { Launch } from './launcher.ts';
import type { RecentSlice } from './recent.ts';
import { formatHostPort } from '../units.ts';
import type { ConnectionStates, WorkerInfo } from '../messages.ts';

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
  Active: ContainerStatus | null;
  Containers: ContainerStatus[];
  Launches: LaunchStatus[];
  Totals: {
    Requests: number;
    ConnectionsAccepted: number;
    ConnectionsClosed: number;
    StatusCodes: Record<string, number>;
  };
  /** The last hour in slices of 10 s. */
  Recent: readonly RecentSlice[];
  /** From the request's head to the last byte of the response handed to the client, since the start. */
  Latency: LatencySummary;
  /** What request and response bodies take up at the moment. */
  Buffers: { MemoryBytes: number; SpoolBytes: number; SpoolFiles: number };
  Workers: { Id: number; Pid: number; State: WorkerInfo['state']; StartedAt: string }[];
  Peers: [];
  Certificates: [];
  History: Deployment[];
}

/** What the status says beyond the deployments. */
export interface About {
  version: string;
  /** Ms since the epoch. */
  startedAt: number;
  store: string;
  /** Bytes, of the primary. */
  primaryHeap: () => number;
  recent: () => readonly RecentSlice[];
}

/** Everything that there is to know, from memory: it neither waits for the engine nor for the store. */
export function statusOf(control: Control, deployments: Deployments, about: About): Status {
  const { containers, traffic, runtime, app } = control;
  const totals = traffic.totals();
  const active = containers.active;
  return {
    HeapSize: totals.heapUsed + about.primaryHeap() + process.memoryUsage().heapUsed,
    TotalTime: totals.sinceSwitch.seconds,
    Requests: totals.sinceSwitch.requests,
    States: totals.states,
    DockerState: runtime.problem ?? 'Ok',
    App: app,
    Version: about.version,
    StartedAt: iso(about.startedAt),
    Store: about.store,
    StoreState: control.environment.problem ?? 'Ok',
    Active: active && containerStatus(active, control),
    Containers: containers.all().map((container) => containerStatus(container, control)),
    Launches: Array.from(deployments.launcher.running.values(), launchStatus),
    Totals: {
      Requests: totals.requests,
      ConnectionsAccepted: totals.connectionsAccepted,
      ConnectionsClosed: totals.connectionsClosed,
      StatusCodes: totals.statusCodes,
    },
    Recent: about.recent(),
    Latency: summarize(totals.latency),
    Buffers: {
      MemoryBytes: totals.buffers.memoryBytes,
      SpoolBytes: totals.buffers.spoolBytes,
      SpoolFiles: totals.buffers.spoolFiles,
    },
    Workers: traffic.workers.map(({ id, pid, state, startedAt }) => {
      return { Id: id, Pid: pid, State: state, StartedAt: iso(startedAt) };
    }),
    Peers: [],
    Certificates: [],
    History: deployments.knownHistory,
  };
}

function launchStatus({ hash, revision, by, startedAt, phase, step, probes }: Launch): LaunchStatus {
  const at = iso(startedAt);
  return { Hash: hash, Revision: revision, By: by, StartedAt: at, Phase: phase, Step: step, Probes: probes };
}

/** One container for `/status` and for JSON answers. */
export function containerStatus(container: Container, { traffic }: Control): ContainerStatus {
  const counts = traffic.counts(container.id);
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
    SwitchedAt: container.switchedAt === null ? null : iso(container.switchedAt),
    DrainSince: container.drain && iso(container.drain.since),
    DrainDeadline: container.drain && iso(container.drain.deadline),
    Latency: summarize(counts.latency),
  };
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
