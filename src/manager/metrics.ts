import { DECIDED_BY } from '../deciding-options.ts';
import { ERROR_CODES } from '../errors.ts';
import type { CertificateInfo } from '../messages.ts';
import type { TargetStats, WorkerStats } from '../worker-stats.ts';
import { type ProcessUse, processUse } from '../process-use.ts';
import type { Control } from './control.ts';
import type { DeployEvent } from './deploy-counts.ts';
import { cloneProblem, fallbackCounts } from './fallbacks.ts';
import { expose, histogram, type Metric, type Sample } from './prometheus.ts';
import type { About } from './status.ts';

/** Containers that are gone are shown for so long (ms), so that no scrape misses their last requests. */
const SHOWN_AFTER = 10 * 60_000;
/** As Docker shortens ids. */
const SHORT_ID = 12;

/** The answer of `GET /metrics`, from the same totals as `/status`. */
export class Metrics {
  readonly #control: Control;
  readonly #about: About;

  constructor(control: Control, about: About) {
    this.#control = control;
    this.#about = about;
  }

  text(): string {
    const totals = this.#control.traffic.totals();
    return expose([
      ...this.#program(),
      ...requests(totals),
      ...fallbacks(totals),
      ...containers(this.#shown(totals.targets)),
      ...resources(totals),
      ...this.#deployments(),
      ...this.#certificates(),
      ...this.#machines(totals),
      ...this.#processes(totals),
    ]);
  }

  /** Counts of containers that are there, or were until a moment ago; the one without an id stands for no container. */
  #shown(targets: TargetStats[]): TargetStats[] {
    const { containers } = this.#control;
    return targets.filter(({ id }) => id === '' || containers.wasThere(id, SHOWN_AFTER));
  }

  #program(): Metric[] {
    const { active } = this.#control.traffic.route;
    const { version, startedAt } = this.#about;
    return [
      gauge('build_info', 'Version of wunderproxy.', [{ labels: { version }, value: 1 }]),
      gauge('start_time_seconds', 'When the program started, in seconds since the epoch.', [
        { value: startedAt / 1_000 },
      ]),
      gauge(
        'active_container_info',
        'The container in service.',
        active === null ? [] : [{ labels: { ...labelsOf(active), hash: active.hash }, value: 1 }],
      ),
    ];
  }

  #deployments(): Metric[] {
    const { containers, counts, environment, runtime, traffic } = this.#control;
    const outcomes = (event: DeployEvent): Sample[] =>
      counts.of(event).map(([outcome, value]) => ({ labels: { outcome }, value }));
    const states = (things: readonly { state: string }[]): Sample[] =>
      [...Map.groupBy(things, ({ state }) => state)].map(([state, { length }]) => ({
        labels: { state },
        value: length,
      }));
    const routedTo = traffic.route.draining.length;
    return [
      counter('launches_total', 'Launches by outcome: ok, or the error code.', outcomes('launch')),
      counter('switches_total', 'Switches by outcome: ok, or the error code.', outcomes('switch')),
      counter('rollbacks_total', 'Rollbacks by outcome: ok, or the error code.', outcomes('rollback')),
      counter(
        'drains_total',
        'Drains by outcome: ok, or drain_timeout when requests were broken off.',
        outcomes('drain'),
      ),
      gauge('draining_containers', 'Containers that finish their requests.', [{ value: routedTo }]),
      gauge('containers', 'Containers by state.', states(containers.all())),
      gauge('workers', 'Worker processes by state.', states(traffic.workers)),
      gauge('engine_up', 'Whether the container engine can be reached.', [{ value: runtime.problem === null ? 1 : 0 }]),
      gauge('store_up', 'Whether the store could be had when it was last needed.', [
        { value: environment.problem === null ? 1 : 0 },
      ]),
    ];
  }

  #certificates(): Metric[] {
    const { counts } = this.#control;
    const infos = bySource(this.#about.certificates());
    const each = (value: (info: CertificateInfo) => number): Sample[] =>
      infos.map((info) => ({ labels: { source: info.source, name: info.names[0] ?? '' }, value: value(info) }));
    const ordered = this.#about.acme() === null ? [] : counts.of('certificate');
    return [
      gauge(
        'certificate_not_after_timestamp_seconds',
        'When a certificate expires, in seconds since the epoch; 0 when it could never be read.',
        each(({ notAfter }) => notAfter / 1_000),
      ),
      gauge(
        'certificate_file_ok',
        'Whether the file that a certificate comes from is what is served: 0 when a newer one was refused.',
        each(({ problem }) => (problem === null ? 1 : 0)),
      ),
      counter(
        'acme_orders_total',
        'Orders of a certificate by outcome: ok or failed.',
        ordered.map(([outcome, value]) => ({ labels: { outcome }, value })),
      ),
    ];
  }

  #machines(totals: WorkerStats): Metric[] {
    const { fleet } = this.#about;
    const machines = fleet.peers().filter(({ SeenAt }) => SeenAt !== null);
    return [
      gauge('machines', 'Machines that share the store, this one included.', [{ value: machines.length }]),
      gauge('stale_machines', 'Machines whose heartbeat has not changed for too long.', [
        { value: machines.filter(({ Stale }) => Stale).length },
      ]),
      gauge('differing_machines', 'Machines that serve another config than the store names.', [
        { value: machines.filter(({ Differs }) => Differs).length },
      ]),
      gauge('machine_cloned', 'Whether another machine has the id of this one.', [
        { value: fleet.cloned || cloneProblem(totals) !== null ? 1 : 0 },
      ]),
      counter('heartbeat_failures_total', "This machine's heartbeats that could not be written to the store.", [
        { value: fleet.failures },
      ]),
    ];
  }

  #processes(totals: WorkerStats): Metric[] {
    const { use, deaths } = this.#about.primary();
    const roles: [role: string, use: ProcessUse][] = [
      ['primary', use],
      ['manager', processUse()],
      ['worker', totals],
    ];
    const by = (value: (use: ProcessUse) => number): Sample[] =>
      roles.map(([role, each]) => ({ labels: { role }, value: value(each) }));
    return [
      counter(
        'process_cpu_seconds_total',
        'Processor time by role.',
        by(({ cpuSeconds }) => cpuSeconds),
      ),
      gauge(
        'process_resident_memory_bytes',
        'Resident memory by role.',
        by(({ residentBytes }) => residentBytes),
      ),
      gauge(
        'process_heap_bytes',
        'JavaScript heap in use by role.',
        by(({ heapUsed }) => heapUsed),
      ),
      counter('process_deaths_total', 'Processes that died and were replaced.', [
        { labels: { role: 'manager' }, value: deaths.managers },
        { labels: { role: 'worker' }, value: deaths.workers },
      ]),
    ];
  }
}

function requests(totals: WorkerStats): Metric[] {
  const { errors, latency, seconds, retries } = totals;
  return [
    {
      name: 'wunderproxy_request_duration_seconds',
      help: "From a request's first byte to the last byte of its response handed to the client.",
      type: 'histogram',
      samples: histogram(latency, seconds),
    },
    counter(
      'request_errors_total',
      'Requests that the application did not answer, or not to the end, by error code.',
      Object.entries(errors).map(([code, value]) => ({ labels: { code }, value })),
    ),
    counter(
      'limits_hit_total',
      'Requests and connections that a limit or a timer ended, by its option.',
      limits(totals),
    ),
    counter('clients_cut_off_total', 'Connections that were cut off because they made work without end.', [
      { value: totals.cutOff },
    ]),
    counter('retries_total', 'Requests that were sent to a container once more.', [{ value: retries }]),
  ];
}

function fallbacks(totals: WorkerStats): Metric[] {
  const counts = fallbackCounts(totals);
  return [
    counter(
      'fallbacks_total',
      'Requests that were to be answered by another machine: which, why, and what came of it.',
      counts.map(({ Peer, Reason, Outcome, Count }) => ({
        labels: { peer: Peer, reason: Reason, outcome: Outcome },
        value: Count,
      })),
    ),
    counter(
      'fallback_markers_total',
      'Requests that came with the marker of another machine, by what it was worth.',
      Object.entries(totals.markers).map(([worth, value]) => ({ labels: { worth }, value })),
    ),
    gauge(
      'peer_up',
      'Whether requests can fall back to a peer.',
      totals.peers.map(({ url, state }) => ({ labels: { peer: url }, value: state === 'healthy' ? 1 : 0 })),
    ),
    gauge('peers_dns_up', 'Whether the name of peers, if there is one, could be looked up when that was last tried.', [
      { value: totals.namedPeersProblem === null ? 1 : 0 },
    ]),
  ];
}

/** Every option that can decide, so that a first time can be told from a first look. */
function limits({ errors, turnedAway }: WorkerStats): Sample[] {
  const hits: Record<string, number> = { '--max-connections': 0, '--max-connections-per-ip': 0, ...turnedAway };
  for (const code of ERROR_CODES) {
    const option = DECIDED_BY[code];
    if (option !== undefined) hits[option] = (hits[option] ?? 0) + (errors[code] ?? 0);
  }
  return Object.entries(hits).map(([option, value]) => ({ labels: { limit: option.replace(/^--/, '') }, value }));
}

/** One certificate for a source, the one that ends first: no series may stand twice. */
function bySource(infos: CertificateInfo[]): CertificateInfo[] {
  const sorted = infos.toSorted((a, b) => b.notAfter - a.notAfter);
  return [...new Map(sorted.map((info) => [info.source, info])).values()];
}

function containers(targets: TargetStats[]): Metric[] {
  const real = targets.filter(({ id }) => id !== '');
  const each = (value: (target: TargetStats) => number): Sample[] =>
    real.map((target) => ({ labels: labelsOf(target), value: value(target) }));
  return [
    counter(
      'requests_total',
      'Finished requests by status code and by the container that they were meant for, which is empty for none.',
      targets.flatMap((target) =>
        Object.entries(target.statusCodes).map(([code, value]) => ({ labels: { code, ...labelsOf(target) }, value })),
      ),
    ),
    {
      name: 'wunderproxy_container_duration_seconds',
      help: "The container's own time: from dispatch to the last byte of its response.",
      type: 'histogram',
      samples: real.flatMap((target) => histogram(target.latency, target.seconds, labelsOf(target))),
    },
    gauge(
      'in_flight_requests',
      'Requests that a container works on.',
      each(({ inFlight }) => inFlight),
    ),
    gauge(
      'tunnels',
      'WebSockets and other tunnels.',
      each(({ upgraded }) => upgraded),
    ),
  ];
}

function resources({ states, connectionsAccepted, connectionsClosed, buffers, accessLog }: WorkerStats): Metric[] {
  const open = Object.entries(states).map(([state, value]) => ({ labels: { state }, value }));
  return [
    gauge('connections', 'Open client connections by state.', open),
    counter('connections_accepted_total', 'Client connections that were accepted.', [{ value: connectionsAccepted }]),
    counter('connections_closed_total', 'Client connections that were closed.', [{ value: connectionsClosed }]),
    gauge('buffer_memory_bytes', 'Memory that bodies take up.', [{ value: buffers.memoryBytes }]),
    gauge('spool_bytes', 'Disk that bodies take up.', [{ value: buffers.spoolBytes }]),
    gauge('spool_files', 'Files that bodies take up.', [{ value: buffers.spoolFiles }]),
    counter('access_log_lines_total', 'Lines written to the access log.', [{ value: accessLog.lines }]),
    counter('access_log_lost_lines_total', 'Lines of the access log that nobody took in time.', [
      { value: accessLog.lost },
    ]),
  ];
}

function labelsOf({ id, revision }: { id: string; revision: string }): { revision: string; container: string } {
  return { revision, container: id.slice(0, SHORT_ID) };
}

function counter(name: string, help: string, samples: Sample[]): Metric {
  return { name: `wunderproxy_${name}`, help, type: 'counter', samples };
}

function gauge(name: string, help: string, samples: Sample[]): Metric {
  return { name: `wunderproxy_${name}`, help, type: 'gauge', samples };
}
