import type { ContainerStatus, LaunchStatus, Status } from '../manager/status.ts';
import { adviceFor, evidenceOf } from './advice.ts';
import type { Act } from './acts.ts';
import * as format from './format.ts';
import type { Html } from './html.ts';
import { latencySection } from './latency-section.ts';
import { machinesSection } from './machines-section.ts';
import type { PageModel } from './model.ts';
import { countOf, hourOf } from './recent-hour.ts';
import { trafficSection } from './traffic-section.ts';
import { findings } from './verdict.ts';
import { render } from './views.ts';

/** The parts of the page that are kept up to date, in their order; each is one template. */
export const SECTIONS = [
  'summary',
  'underway',
  'containers',
  'machines',
  'traffic',
  'latency',
  'history',
  'journal',
  'machine',
] as const;
export type SectionName = (typeof SECTIONS)[number];

export type Sections = Record<SectionName, Html>;

/** Journal entries on the page. */
const JOURNAL_SHOWN = 8;

/** Renders all parts of the page. */
export function renderSections(model: PageModel): Sections {
  const { status, now } = model;
  const hour = hourOf(status, now);
  const show = (name: SectionName, data: object) => render(name, { f: format, now, status, ...data });
  return {
    summary: show('summary', {
      findings: findings(status),
      figures: figures(status),
      active: status.Active,
      age: status.Active?.SwitchedAt ? since(status.Active.SwitchedAt, now) : null,
      by: deployedBy(status)?.by ?? '',
    }),
    underway: show('underway', {
      launches: status.Launches.map((launch) => ({
        launch,
        steps: stepsOf(launch),
        age: since(launch.StartedAt, now),
      })),
      drains: status.Containers.filter(({ State }) => State === 'draining').map((each) => drainOf(each, now)),
      acts: model.acts.filter((act) => isOfInterest(act, status)).map(actView),
    }),
    containers: show('containers', {
      active: status.Active,
      deployedBy: deployedBy(status),
      others: status.Containers.filter(({ Id }) => Id !== status.Active?.Id),
      health: status.Active && healthOf(status.Active),
      old: status.Containers.some((each) => isIdle(each, status)),
      look: lookOf,
      age: (iso: string | null) => (iso === null ? null : since(iso, now)),
    }),
    machines: machinesSection(status, now),
    traffic: trafficSection(status, hour),
    latency: latencySection(status, hour),
    history: show('history', { history: status.History.toReversed(), activeHash: status.Active?.Hash ?? null }),
    journal: show('journal', {
      problem: model.journalProblem,
      more: model.journal.length > JOURNAL_SHOWN,
      entries: model.journal
        .slice(-JOURNAL_SHOWN)
        .toReversed()
        .map((entry) => ({ entry, evidence: evidenceOf(entry.Detail) })),
    }),
    machine: show('machine', {
      host: model.host,
      certificates: status.Certificates,
    }),
  };
}

function since(iso: string, now: number): string {
  return format.age(now - Date.parse(iso));
}

/** The numbers that one wants to see first. */
function figures({ Recent, States, Containers }: Status): { name: string; value: string; note: string }[] {
  const last = Recent.at(-1);
  const minute = Recent.slice(-6);
  const all = minute.reduce((sum, { StatusCodes }) => sum + countOf(StatusCodes), 0);
  const failed = minute.reduce((sum, { StatusCodes }) => sum + countOf(StatusCodes, '5xx'), 0);
  const open = States.new + States.active + States.idle + States.hijacked;
  const inFlight = Containers.reduce((sum, { InFlight }) => sum + InFlight, 0);
  const known = last !== undefined;
  return [
    { name: 'Requests', value: known ? format.rate(countOf(last.StatusCodes) / 10) : '–', note: 'last 10 s' },
    { name: 'Failed', value: all > 0 ? format.percent(failed / all) : '–', note: '5xx, last minute' },
    {
      name: 'Latency',
      value: known && last.Latency.Count > 0 ? format.duration(last.Latency.P99) : '–',
      note: '99th percentile, last 10 s',
    },
    { name: 'In flight', value: format.count(inFlight), note: 'requests in containers' },
    { name: 'Connections', value: format.count(open), note: 'open, of clients' },
  ];
}

/** Who deployed the container in service, by the history. */
function deployedBy({ Active, History }: Status): { by: string; at: string } | null {
  const entry = History.findLast(({ Hash }) => Hash === Active?.Hash);
  return entry ? { by: entry.DeployedBy, at: entry.DeployedAt } : null;
}

/** What is known of its health: it is probed before it comes into service, and from then on judged by what it answers. */
function healthOf({ State, StatusCodes }: ContainerStatus): string {
  if (State !== 'active') return State === 'failed' ? 'failed' : `${State}: not healthy yet`;
  const all = countOf(StatusCodes);
  if (all === 0) return 'running; its check passed, no answers yet';
  const failed = countOf(StatusCodes, '5xx');
  return `running; its check passed, ${format.percent(failed / all)} of ${format.plural(all, 'answer')} 5xx`;
}

/** Whether stop-old would stop it. */
function isIdle({ Id, State }: ContainerStatus, { Active }: Status): boolean {
  return Id !== Active?.Id && (State === 'ready' || State === 'failed');
}

/** How a state is shown: never by its colour alone. */
function lookOf(container: ContainerStatus): { sign: string; word: string } {
  switch (container.State) {
    case 'active':
      return { sign: '●', word: 'in service' };
    case 'ready':
      return { sign: '○', word: 'ready' };
    case 'draining':
      return { sign: '◐', word: 'draining' };
    case 'starting':
      return { sign: '…', word: 'starting' };
    case 'stopping':
      return { sign: '◌', word: 'stopping' };
    case 'failed':
      return { sign: '✕', word: 'failed' };
  }
}

const STEPS = [
  ['image', 'Get the image'],
  ['create', 'Create the container'],
  ['start', 'Start it'],
  ['health', 'Wait until it is healthy'],
] as const;

interface LaunchStep {
  name: string;
  state: 'done' | 'now' | 'later';
}

function stepsOf({ Phase }: LaunchStatus): LaunchStep[] {
  const current = STEPS.findIndex(([phase]) => phase === Phase);
  return STEPS.map(([, name], at) => ({ name, state: at < current ? 'done' : at === current ? 'now' : 'later' }));
}

interface Drain {
  container: ContainerStatus;
  /** In seconds. */
  total: number;
  elapsed: number;
  left: number;
}

function drainOf(container: ContainerStatus, now: number): Drain {
  const begin = Date.parse(container.DrainSince ?? '') || now;
  const end = Date.parse(container.DrainDeadline ?? '') || now;
  const total = Math.max(1, Math.round((end - begin) / 1_000));
  const elapsed = Math.min(total, Math.max(0, Math.round((now - begin) / 1_000)));
  return { container, total, elapsed, left: total - elapsed };
}

/** What is shown elsewhere already, and launches whose container no longer waits for its switch, are not. */
function isOfInterest({ kind, outcome, hash }: Act, { Launches, Containers }: Status): boolean {
  if (kind !== 'launch' || outcome === 'failed') return true;
  if (outcome === 'running') return Launches.every(({ Hash }) => Hash !== hash);
  return Containers.some(({ Hash, State }) => Hash === hash && State === 'ready');
}

const DOING = { launch: 'Launching', switch: 'Switching to', rollback: 'Rolling back to', 'stop-old': 'Stopping' };
const DONE = { launch: 'Launched', switch: 'Switched to', rollback: 'Rolled back to', 'stop-old': 'Stopped' };
const FAILED = {
  launch: 'Could not launch',
  switch: 'Could not switch to',
  rollback: 'Could not roll back to',
  'stop-old': 'Could not stop',
};

function actView(act: Act): object {
  const words = { running: DOING, ok: DONE, failed: FAILED }[act.outcome];
  const what = act.kind === 'stop-old' ? 'old containers' : (act.revision ?? format.short(act.hash ?? ''));
  return {
    act,
    title: `${words[act.kind]} ${what}`,
    at: new Date(act.endedAt ?? act.startedAt).toISOString(),
    advice: act.error && adviceFor(act.error.code),
    evidence: evidenceOf(act.error?.detail),
  };
}
