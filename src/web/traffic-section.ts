import { STATUS_CODES } from 'node:http';
import { describeError, ERROR_CODES, type ErrorCode } from '../errors.ts';
import type { Status } from '../manager/status.ts';
import { legend, marksInWords, type Series, timeChart } from './chart.ts';
import * as format from './format.ts';
import type { Html } from './html.ts';
import { CLASSES, countOf, type Hour, STATES, type Step, STEP } from './recent-hour.ts';
import { render } from './views.ts';

const CLASS_WORDS = {
  '1xx': '1xx switched or informed',
  '2xx': '2xx answered',
  '3xx': '3xx redirected',
  '4xx': '4xx client errors',
  '5xx': '5xx failed',
};

const STATE_WORDS = {
  active: 'active: in a request',
  idle: 'idle: kept open',
  new: 'new: nothing sent yet',
  hijacked: 'upgraded: tunnels',
};

/** Steps of 30 s in one row of the tables. */
const ROW = 10;

/** Requests by class and connections by state over the last hour. */
export function trafficSection(status: Status, hour: Hour): Html {
  const requests: Series[] = CLASSES.map((name) => {
    return { name: CLASS_WORDS[name], look: `c${name[0]}`, values: valuesOf(hour, (step) => step.rates[name]) };
  });
  const failed = requests.filter(({ look }) => look === 'c5');
  const connections: Series[] = STATES.map((name) => {
    return {
      name: STATE_WORDS[name],
      look: `s-${name}`,
      values: valuesOf(hour, (step) => step.states[name]),
    };
  });
  const all = countOf(hour.codes);
  const bad = countOf(hour.codes, '5xx');
  return render('traffic', {
    f: format,
    status,
    hour: { requests: all, failed: bad },
    requestChart: timeChart({
      id: 'chart-requests',
      title: 'Requests per second in the last hour, by class of status code',
      description: `${format.count(all)} requests, ${format.count(bad)} of them answered with 5xx. The numbers stand in the table below.`,
      hour,
      series: requests,
      kind: 'stack',
      label: format.rate,
    }),
    failedChart: timeChart({
      id: 'chart-failed',
      title: 'Answers with 5xx per second in the last hour, by a scale of their own',
      description: `${format.count(bad)} answers with 5xx. The numbers stand in the table below.`,
      hour,
      series: failed,
      kind: 'stack',
      minor: true,
      label: format.rate,
    }),
    connectionChart: timeChart({
      id: 'chart-connections',
      title: 'Open client connections in the last hour, by state',
      description: `Now ${statesInWords(status)}.`,
      hour,
      series: connections,
      kind: 'stack',
      least: 2,
      label: format.count,
    }),
    requestLegend: legend(requests.filter(({ values }) => values.some((value) => value !== null && value > 0))),
    connectionLegend: legend(connections),
    marks: marksInWords(hour.marks),
    classes: CLASSES,
    rows: rowsOf(hour),
    codes: codesOf(status, hour),
    states: statesInWords(status),
    errors: errorsOf(status),
  });
}

function valuesOf({ steps }: Hour, value: (step: Step) => number | null): (number | null)[] {
  return steps.map((step) => step && value(step));
}

function statesInWords({ States }: Status): string {
  return STATES.map((name) => `${format.count(States[name])} ${STATE_WORDS[name].split(':')[0]}`).join(', ');
}

interface Row {
  at: string;
  /** Per second, by class in the order of CLASSES. */
  rates: number[];
  /** Open connections at its end. */
  open: number;
  /** Of the worst 10 s, in ms. */
  p50: number;
  p99: number;
}

/** The charts' numbers in rows of five minutes, newest first; rows of which nothing is known are left out. */
function rowsOf({ from, steps }: Hour): Row[] {
  const rows: Row[] = [];
  for (let at = 0; at < steps.length; at += ROW) {
    const known = steps.slice(at, at + ROW).filter((step) => step !== null);
    const last = known.at(-1);
    if (!last) continue;
    const { states } = last;
    rows.push({
      at: new Date(from + at * STEP).toISOString(),
      rates: CLASSES.map((name) => known.reduce((sum, { rates }) => sum + rates[name], 0) / known.length),
      open: STATES.reduce((sum, name) => sum + states[name], 0),
      p50: Math.max(...known.map((step) => step.p50)),
      p99: Math.max(...known.map((step) => step.p99)),
    });
  }
  return rows.toReversed();
}

interface CodeRow {
  code: string;
  name: string;
  hour: number;
  total: number;
}

function codesOf({ Totals }: Status, hour: Hour): CodeRow[] {
  return Object.entries(Totals.StatusCodes)
    .toSorted(([a], [b]) => Number(a) - Number(b))
    .map(([code, total]) => {
      return { code, name: nameOf(code), hour: hour.codes[code] ?? 0, total };
    });
}

function nameOf(code: string): string {
  return code === '499' ? 'Client went away' : (STATUS_CODES[code] ?? '');
}

/** What wunderproxy, or the client, ended, by error code. */
function errorsOf({ Totals }: Status): { code: string; message: string; total: number }[] {
  return Object.entries(Totals.Errors)
    .toSorted(([, a], [, b]) => b - a)
    .map(([code, total]) => ({ code, message: messageFor(code), total }));
}

function messageFor(code: string): string {
  return ERROR_CODES.some((each) => each === code) ? describeError(code as ErrorCode).message : '';
}
