import type { JournalEntry } from '../../src/manager/journal.ts';
import type { LatencySummary } from '../../src/manager/latency.ts';
import type { PeerFallback, PeerStatus } from '../../src/manager/peers.ts';
import type { ContainerStatus, Status } from '../../src/manager/status.ts';
import { WunderproxyError } from '../../src/errors.ts';
import type { PageModel } from '../../src/web/model.ts';

/** The moment at which all the pages below are looked at. */
export const NOW = Date.parse('2026-03-14T15:09:26.000Z');

const ago = (seconds: number) => new Date(NOW - seconds * 1_000).toISOString();
const hashOf = (digit: string) => digit.repeat(32);

/** A latency around `median` ms with a long tail. */
export function latency(median: number, count: number): LatencySummary {
  const shares = [0.02, 0.18, 0.4, 0.25, 0.1, 0.03, 0.01, 0.006, 0.003, 0.001];
  const bound = 2 ** Math.round(Math.log2(median * 1_000));
  return {
    Count: count,
    Mean: median * 1.3,
    P50: median,
    P90: median * 3.1,
    P99: median * 11,
    P999: median * 60,
    Max: median * 140,
    Histogram: shares.map((share, at) => ({ UpTo: (bound * 2 ** (at - 3)) / 1_000, Count: Math.ceil(share * count) })),
  };
}

export const NO_LATENCY: LatencySummary = { Count: 0, Mean: 0, P50: 0, P90: 0, P99: 0, P999: 0, Max: 0, Histogram: [] };

export function container(digit: string, more: Partial<ContainerStatus> = {}): ContainerStatus {
  return {
    Hash: hashOf(digit),
    Revision: `v${digit}`,
    Id: `${digit}f`.repeat(32),
    Image: `localhost:8080/shop:v${digit}`,
    Address: `172.17.0.${digit}:9292`,
    State: 'ready',
    Failure: null,
    InFlight: 0,
    Upgraded: 0,
    Requests: 0,
    StartedAt: ago(600),
    SwitchedAt: null,
    DrainSince: null,
    DrainDeadline: null,
    StatusCodes: {},
    Latency: NO_LATENCY,
    ...more,
  };
}

export function active(digit: string, more: Partial<ContainerStatus> = {}): ContainerStatus {
  return container(digit, {
    State: 'active',
    StartedAt: ago(5_400),
    SwitchedAt: ago(5_340),
    InFlight: 7,
    Upgraded: 2,
    Requests: 1_284_002,
    StatusCodes: { 200: 1_240_000, 304: 43_880, 502: 122 },
    Latency: latency(11, 1_284_002),
    ...more,
  });
}

/** An hour of traffic; `failing`: so many of the last slices have 5xx. */
export function hour(failing = 0, slices = 360): Status['Recent'] {
  return Array.from({ length: slices }, (_, at) => {
    const back = slices - at;
    const wave = 200 + Math.round(90 * Math.sin(at / 25) + 25 * Math.sin(at / 3));
    const codes: Record<string, number> = { 200: wave * 9, 304: wave * 3, 404: Math.round(wave / 3) };
    if (at % 50 === 0) codes['503'] = 4;
    if (back <= failing) Object.assign(codes, { 200: wave * 6, 502: wave * 2, 504: 40 });
    return {
      At: ago((back - 1) * 10),
      Seconds: 10,
      Requests: wave * 12,
      StatusCodes: codes,
      Latency: latency(12 + 4 * Math.sin(at / 30) + (back <= failing ? 60 : 0), wave * 12),
      Errors: {},
      ContainerLatency: latency(9 + 2 * Math.sin(at / 30), wave * 12),
      States: { new: 3, active: Math.round(wave / 8), idle: wave, hijacked: 20 + Math.round(at / 20) },
    };
  });
}

const sum = (recent: Status['Recent']) => {
  const codes: Record<string, number> = { 101: 12, 204: 90 };
  for (const { StatusCodes } of recent) {
    for (const [code, count] of Object.entries(StatusCodes)) codes[code] = (codes[code] ?? 0) + count;
  }
  return codes;
};

export function status(more: Partial<Status> = {}): Status {
  const recent = more.Recent ?? hour();
  const one = active('3');
  return {
    HeapSize: 143_000_000,
    TotalTime: 48_221,
    Requests: 1_284_002,
    States: { new: 3, active: 29, idle: 212, hijacked: 38 },
    DockerState: 'Ok',
    App: 'shop',
    Version: '0.1.0',
    StartedAt: ago(86_400 * 12),
    Store: 's3://my-deployments/production',
    StoreState: 'Ok',
    FleetState: 'Ok',
    Acme: null,
    Active: one,
    Containers: [one],
    Launches: [],
    Totals: {
      Requests: 48_113_290,
      ConnectionsAccepted: 1_883_002,
      ConnectionsClosed: 1_882_720,
      Errors: { client_closed: 41, upstream_broken: 12 },
      Retries: 3,
      Fallbacks: [],
      Markers: {},
      TurnedAway: {},
      CutOff: 0,
      StatusCodes: sum(recent),
    },
    Recent: recent,
    Deploys: [],
    Latency: latency(12, 48_113_290),
    ContainerLatency: latency(9, 48_113_290),
    AccessLog: { Lines: 48_113_290, Lost: 0 },
    Processes: {
      Primary: { HeapUsed: 9_000_000, ResidentBytes: 61_000_000, CpuSeconds: 1_004 },
      Manager: { HeapUsed: 31_000_000, ResidentBytes: 120_000_000, CpuSeconds: 2_120 },
      Workers: { HeapUsed: 103_000_000, ResidentBytes: 260_000_000, CpuSeconds: 182_120 },
    },
    Deaths: { Workers: 1, Managers: 0 },
    Buffers: { MemoryBytes: 1_482_112, SpoolBytes: 38_221_004, SpoolFiles: 3 },
    Workers: [1, 2].map((Id) => ({ Id, Pid: 4_710 + Id, State: 'serving' as const, StartedAt: ago(86_400 * 12) })),
    DeployLock: null,
    Starting: false,
    StartProblem: null,
    Peers: [self()],
    PeersDnsState: 'Ok',
    Certificates: [],
    History: [
      { Revision: 'v1', DeployedAt: ago(86_400 * 3), DeployedBy: 'ops', Hash: hashOf('1') },
      { Revision: 'v2', DeployedAt: ago(86_400), DeployedBy: 'ci', Hash: hashOf('2') },
      { Revision: 'v3', DeployedAt: ago(5_340), DeployedBy: 'ops', Hash: hashOf('3') },
    ],
    ...more,
  };
}

/** A machine that shares the store. */
export function machine(Name: string, more: Partial<PeerStatus> = {}): PeerStatus {
  return {
    Machine: `${Name}-0badcafe`,
    Name,
    Self: false,
    Api: `http://${Name}.example.com:8001`,
    Proxy: `http://${Name}.example.com`,
    Tls: null,
    Version: '0.1.0',
    Active: { Hash: hashOf('3'), Revision: 'v3', SwitchedAt: ago(5_300) },
    State: 'ready',
    Stale: false,
    Differs: false,
    SeenAt: ago(4),
    InFlight: 7,
    Requests: 1_284_002,
    ErrorsLastMinute: 0,
    Fallback: null,
    ...more,
  };
}

const older = { Active: { Hash: hashOf('2'), Revision: 'v2', SwitchedAt: ago(86_400) }, Differs: true };

/** How a machine that requests fall back to does. */
const fallback = (name: string, more: Partial<PeerFallback> = {}): Pick<PeerStatus, 'Fallback'> => {
  const Url = `http://${name}.example.com`;
  return { Fallback: { Url, State: 'healthy', InFlight: 2, Requests: 340, Failures: 0, LastError: null, ...more } };
};

/** The machine that the pages are of. */
const self = (more: Partial<PeerStatus> = {}) => machine('web-1', { Self: true, SeenAt: ago(0), ...more });

export function entry(seconds: number, more: Partial<JournalEntry> = {}): JournalEntry {
  return {
    Time: ago(seconds),
    Event: 'switch',
    By: 'ops',
    Host: 'web-1',
    Hash: hashOf('3'),
    Revision: 'v3',
    Container: '3f'.repeat(32),
    Outcome: 'ok',
    Message: '',
    ...more,
  };
}

/** What a launch that failed leaves behind. */
export const UNHEALTHY = {
  Probes: [
    { Result: 'connection refused', Count: 4, FirstAt: ago(310), LastAt: ago(306) },
    { Result: '500 Internal Server Error', Count: 55, FirstAt: ago(305), LastAt: ago(250) },
  ],
  Logs: [
    'booting shop v4',
    '  connecting to postgres://db/shop',
    'PG::UndefinedColumn: ERROR: column orders.currency does not exist',
    '    at Order.total (app/order.js:17:5)',
  ],
};

export function model(more: Partial<PageModel> = {}): PageModel {
  return {
    status: status(),
    host: 'web-1',
    now: NOW,
    journal: [
      entry(86_400, { Revision: 'v2', By: 'ci' }),
      entry(5_400, { Event: 'launch', Message: 'healthy' }),
      entry(5_340, { Message: 'instead of v2' }),
      entry(5_320, { Event: 'drain', By: '', Revision: 'v2', Message: 'finished after 3.2s' }),
      entry(5_319, { Event: 'stop', By: '', Revision: 'v2', Message: 'it was drained' }),
    ],
    journalProblem: null,
    acts: [],
    ...more,
  };
}

const draining = (digit: string, more: Partial<ContainerStatus> = {}) =>
  container(digit, {
    State: 'draining',
    InFlight: 4,
    Upgraded: 1,
    Requests: 821_442,
    StartedAt: ago(90_000),
    DrainSince: ago(12),
    DrainDeadline: new Date(NOW + 18_000).toISOString(),
    Latency: latency(19, 821_442),
    ...more,
  });

const NOTHING_DONE = { new: 0, active: 0, idle: 0, hijacked: 0 };

const fresh: Partial<Status> = {
  Requests: 0,
  States: NOTHING_DONE,
  Recent: [],
  Latency: NO_LATENCY,
  ContainerLatency: NO_LATENCY,
  StartedAt: ago(40),
  Totals: {
    Requests: 0,
    ConnectionsAccepted: 0,
    ConnectionsClosed: 0,
    StatusCodes: {},
    Errors: {},
    Retries: 0,
    Fallbacks: [],
    Markers: {},
    TurnedAway: {},
    CutOff: 0,
  },
  Buffers: { MemoryBytes: 0, SpoolBytes: 0, SpoolFiles: 0 },
};

const deploying = (): Status => {
  const [old, next] = [
    draining('2'),
    active('3', {
      SwitchedAt: ago(12),
      StartedAt: ago(40),
      Requests: 3_120,
      StatusCodes: { 200: 3_120 },
      Latency: latency(8, 3_120),
    }),
  ];
  const mark = {
    At: ago(12),
    Event: 'switch' as const,
    Revision: 'v3',
    Hash: hashOf('3'),
    Container: next.Id,
    By: 'ops',
  };
  return status({ Active: next, Containers: [old, next], Deploys: [mark], Requests: 3_100, TotalTime: 41 });
};

const failedContainer = active('3', { State: 'failed', Failure: 'exited with status 137', Address: null, InFlight: 0 });

const longRevision = 'release-2026.03.14_feature-checkout-rework.with-everything-60';

const served = { Hash: hashOf('3'), Revision: longRevision, SwitchedAt: ago(5_300) };

const tenPeers = Array.from({ length: 10 }, (_, at) => {
  const Differs = at < 7;
  const Active = Differs ? { Hash: hashOf('2'), Revision: `${longRevision}-2`, SwitchedAt: null } : served;
  const counts = { InFlight: 48_211, Requests: 98_765_432_101, ErrorsLastMinute: 12_002 };
  return machine(`web-${at + 2}.checkout.eu-central`, { Active, Differs, ...counts });
});

/** Every state of the page that was thought of, by name. */
export const PAGES: Record<string, () => PageModel> = {
  calm: () => model(),
  'no deployment yet': () =>
    model({ status: status({ ...fresh, Active: null, Containers: [], History: [] }), journal: [] }),
  'no traffic at all': () => {
    const one = active('3', { Requests: 0, InFlight: 0, Upgraded: 0, StatusCodes: {}, Latency: NO_LATENCY });
    return model({ status: status({ ...fresh, Active: one, Containers: [one] }) });
  },
  'manager just restarted': () => model({ status: status({ Recent: hour(0, 14) }) }),
  'Docker down': () => model({ status: status({ DockerState: 'connect ENOENT /var/run/docker.sock' }) }),
  'S3 down': () =>
    model({
      status: status({ StoreState: 'The store can not be reached: getaddrinfo EAI_AGAIN s3.example.com.' }),
      journalProblem: 'The store can not be reached: getaddrinfo EAI_AGAIN s3.example.com.',
    }),
  'a launch under way': () => {
    const starting = container('4', { State: 'starting', StartedAt: ago(9) });
    const launch = {
      Hash: hashOf('4'),
      Revision: 'v4',
      By: 'ops',
      StartedAt: ago(31),
      Phase: 'health' as const,
      Step: 'waiting until it is healthy',
      Probes: [{ Result: 'connection refused', Count: 6, FirstAt: ago(8), LastAt: ago(2) }],
    };
    const base = status();
    return model({ status: status({ Containers: [...base.Containers, starting], Launches: [launch] }) });
  },
  draining: () =>
    model({ status: deploying(), journal: [...model().journal, entry(12, { Message: 'instead of v2' })] }),
  'a failed launch': () =>
    model({
      acts: [
        {
          id: 2,
          kind: 'launch',
          by: 'ops',
          hash: hashOf('4'),
          revision: 'v4',
          startedAt: NOW - 310_000,
          endedAt: NOW - 249_000,
          outcome: 'failed',
          message: 'The container was not healthy within 60s; /up answered: 500 Internal Server Error.',
          error: new WunderproxyError('not_healthy', { detail: UNHEALTHY }),
        },
      ],
      journal: [
        ...model().journal,
        entry(249, {
          Event: 'failure',
          Revision: 'v4',
          Outcome: 'failed',
          Message: 'launch: The container was not healthy within 60s',
          Detail: UNHEALTHY,
        }),
      ],
    }),
  'failed container': () =>
    model({ status: status({ Active: failedContainer, Containers: [failedContainer], Recent: hour(7) }) }),
  'five containers': () => {
    const one = active('3');
    const others = [
      draining('2'),
      container('4', { Requests: 0 }),
      container('5', { State: 'failed', Failure: 'exited with status 1', Address: null }),
      container('6', { State: 'starting' }),
    ];
    return model({ status: status({ Active: one, Containers: [one, ...others] }) });
  },
  'three machines': () => model({ status: status({ Peers: [self(), machine('web-2'), machine('web-3')] }) }),
  'thirty machines': () => {
    const others = Array.from({ length: 29 }, (_, at) => machine(`web-${at + 2}`));
    const [first, second, third, ...fine] = others as [PeerStatus, PeerStatus, PeerStatus];
    const behind = { ...first, ...older };
    const silent = { ...second, Stale: true, SeenAt: ago(900) };
    return model({
      status: status({ Peers: [self(), behind, silent, { ...third, ErrorsLastMinute: 31 }, ...fine] }),
    });
  },
  'a peer is out': () =>
    model({
      status: status({
        Peers: [
          self(),
          machine('web-2', fallback('web-2', { Failures: 1 })),
          machine('web-3', fallback('web-3', { State: 'open', Failures: 1_284, LastError: 'connection refused' })),
          machine('web-4', fallback('web-4', { State: 'half-open', Failures: 12, LastError: 'no answer in time' })),
          machine('web-5'),
          machine('10.0.0.9:8080', {
            ...{ Machine: null, Api: null, Active: null, State: 'unknown', SeenAt: null },
            ...{ InFlight: null, Requests: null, ErrorsLastMinute: null },
            ...fallback('web-9', { State: 'unhealthy', Requests: 0, LastError: 'connection refused' }),
          }),
        ],
        Totals: {
          ...status().Totals,
          Fallbacks: [
            { Peer: 'http://web-3.example.com', Reason: 'upstream_refused', Outcome: 'upstream_refused', Count: 5 },
            { Peer: 'http://web-2.example.com', Reason: 'no_active_container', Outcome: 'ok', Count: 1_284 },
            { Peer: '', Reason: 'no_active_container', Outcome: 'over_budget', Count: 3 },
          ],
        },
      }),
    }),
  'machines that differ, are silent, and do not serve': () =>
    model({
      status: status({
        FleetState:
          'The store s3://my-deployments/production failed to write machines/web-1-0badcafe.json: no answer in time.',
        Peers: [
          self(),
          machine('web-2', { ...older, State: 'deploying', SeenAt: ago(9) }),
          machine('web-3', { ...older, Stale: true, SeenAt: ago(4_000), InFlight: 3 }),
          machine('web-4', { Active: null, State: 'no_active_container', InFlight: 0, ErrorsLastMinute: 12_302 }),
          machine('web-5', { State: 'docker_down', Api: 'http://127.0.0.1:8001' }),
          machine('web-6', { State: 'draining', Api: null }),
          machine('10.0.0.7', {
            Machine: null,
            Api: null,
            Active: null,
            State: 'unknown',
            SeenAt: null,
            InFlight: null,
            Requests: null,
            ErrorsLastMinute: null,
          }),
        ],
      }),
    }),
  'ten peers': () => {
    const one = active('3', { Revision: longRevision });
    const Peers = [self({ Active: served }), ...tenPeers];
    return model({ status: status({ Active: one, Containers: [one], Peers }) });
  },
  enormous: () => {
    const one = active('3', { Revision: longRevision, InFlight: 48_211, Upgraded: 12_004, Requests: 98_765_432_101 });
    const codes = Object.fromEntries(
      [
        100, 101, 103, 200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 408, 409, 410,
        413, 414, 422, 429, 499, 500, 502, 503, 504,
      ].map((code, at) => [String(code), 10 ** (at % 9)]),
    );
    const base = status();
    const names = ['shop.example.com', 'www.shop.example.com', 'checkout.eu-central.shop.example.com'];
    const certificate = {
      Names: names,
      Source: 'ACME',
      Issuer: "Let's Encrypt E7",
      NotBefore: ago(86_400 * 60),
      NotAfter: ago(-86_400 * 6),
      DaysLeft: 6,
      Problem: null,
    };
    return model({
      status: status({
        Active: one,
        Containers: [
          one,
          ...['2', '4', '5', '6'].map((digit) => container(digit, { Revision: `${longRevision}-${digit}` })),
        ],
        Totals: { ...base.Totals, StatusCodes: codes },
        Deploys: Array.from({ length: 26 }, (_, at) => ({
          At: ago(3_500 - at * 120),
          Event: 'switch' as const,
          Revision: longRevision,
          Hash: hashOf('3'),
          Container: '',
          By: 'ci',
        })),
        Certificates: [
          certificate,
          { ...certificate, Names: ['old.example.com'], DaysLeft: -3, Problem: 'expired' },
        ] as unknown as Status['Certificates'],
        Peers: [self({ Active: served }), ...tenPeers],
        History: Array.from({ length: 10 }, (_, at) => ({
          Revision: `${longRevision}-${at}`,
          DeployedAt: ago(86_400 * (10 - at)),
          DeployedBy: 'continuous-integration@build-7',
          Hash: hashOf(String(at)),
        })),
      }),
      journal: Array.from({ length: 30 }, (_, at) => entry(3_600 - at * 100, { Revision: longRevision })),
    });
  },
};
