import type { Status } from '../manager/status.ts';
import { percent } from './format.ts';
import { machineFindings } from './machines-section.ts';
import { countOf } from './recent-hour.ts';

/** In the order of their weight. */
export const LEVELS = ['bad', 'warn', 'ok', 'busy'] as const;
export type Level = (typeof LEVELS)[number];

/** Something that an operator has to know, in one sentence without numbers that change by the second. */
export interface Finding {
  level: Level;
  text: string;
}

/** Share of 5xx answers in the last minute from which on it is worth a warning, and an alarm. */
const SOME_FAIL = 0.01;
const MANY_FAIL = 0.05;
/** Fewer requests than these say nothing about a share. */
const ENOUGH = 20;
const DAYS_LEFT = 14;

/** What there is to say, the worst first; never empty. */
export function findings(status: Status): Finding[] {
  const all = [
    ...inService(status),
    ...failing(status),
    ...workers(status),
    ...surroundings(status),
    ...certificates(status),
    ...machineFindings(status),
    ...underWay(status),
  ];
  if (status.Active?.State === 'active') {
    const fine = all.every(({ level }) => level === 'busy');
    all.push({ level: 'ok', text: `${status.Active.Revision} is in service${fine ? ', and nothing fails' : ''}.` });
  }
  return all.toSorted((a, b) => LEVELS.indexOf(a.level) - LEVELS.indexOf(b.level));
}

function inService({ Starting, StartProblem, Active, Containers, Launches }: Status): Finding[] {
  if (Starting) return [{ level: 'busy', text: 'The manager has just started: it is looking at what runs.' }];
  if (Active?.State === 'failed') {
    const why = Active.Failure ? ` (${Active.Failure})` : '';
    return [{ level: 'bad', text: `${Active.Revision}, in service, has failed${why}: clients get 503.` }];
  }
  if (Active?.State === 'starting') {
    return [
      { level: 'bad', text: `${Active.Revision}, in service, is starting again: clients get 503 until it is healthy.` },
    ];
  }
  if (Active) return [];
  if (StartProblem) {
    const text = `Nothing is in service: clients get 503. What the store names can not be launched, and is tried again. ${StartProblem}`;
    return [{ level: 'bad', text }];
  }
  const waiting = Containers.some(({ State }) => State === 'ready');
  if (waiting)
    return [{ level: 'bad', text: 'No container is in service: clients get 503. One is ready to be switched to.' }];
  if (Launches.length > 0) return [];
  return [{ level: 'warn', text: 'Nothing is in service yet: clients get 503.' }];
}

function failing({ Recent }: Status): Finding[] {
  const codes: Record<string, number> = {};
  for (const slice of Recent.slice(-6)) {
    for (const [code, count] of Object.entries(slice.StatusCodes)) codes[code] = (codes[code] ?? 0) + count;
  }
  const all = countOf(codes);
  const share = all === 0 ? 0 : countOf(codes, '5xx') / all;
  if (all < ENOUGH || share < SOME_FAIL) return [];
  return [
    { level: share < MANY_FAIL ? 'warn' : 'bad', text: `${percent(share)} of the last minute's answers are 5xx.` },
  ];
}

function workers({ Workers }: Status): Finding[] {
  if (Workers.some(({ State }) => State === 'serving')) return [];
  return [{ level: 'bad', text: 'No worker serves: clients are not answered.' }];
}

function surroundings({ DockerState, StoreState }: Status): Finding[] {
  const found: Finding[] = [];
  if (DockerState !== 'Ok') {
    found.push({
      level: 'warn',
      text: `The container engine can not be reached: traffic goes on, but nothing can be launched or stopped. ${DockerState}`,
    });
  }
  if (StoreState !== 'Ok') {
    found.push({
      level: 'warn',
      text: `The store can not be reached: traffic goes on, but launches and switches are refused. ${StoreState}`,
    });
  }
  return found;
}

function certificates(status: Status): Finding[] {
  return status.Certificates.flatMap(({ Names, Source, DaysLeft, Problem }): Finding[] => {
    const name = Names[0] ?? Source;
    if (DaysLeft !== null && DaysLeft < 0) return [{ level: 'bad', text: `The certificate of ${name} has expired.` }];
    if (Problem) return [{ level: 'warn', text: `The certificate of ${name}: ${Problem}` }];
    if (DaysLeft === null || DaysLeft >= DAYS_LEFT) return [];
    return [
      { level: 'warn', text: `The certificate of ${name} expires in ${DaysLeft} ${DaysLeft === 1 ? 'day' : 'days'}.` },
    ];
  });
}

function underWay({ Launches, Containers, DeployLock }: Status): Finding[] {
  return [
    ...(DeployLock ? [{ level: 'busy' as const, text: `${DeployLock.Owner} is at it: ${DeployLock.What}.` }] : []),
    ...Launches.map(({ Revision }): Finding => ({ level: 'busy', text: `${Revision} is being launched.` })),
    ...Containers.filter(({ State }) => State === 'draining').map(({ Revision }): Finding => {
      return { level: 'busy', text: `${Revision} finishes its requests.` };
    }),
  ];
}
