import { STATUS_CODES } from 'node:http';
import { describeError, ERROR_CODES, type ErrorCode } from '../errors.ts';
import type { Status } from '../manager/status.ts';
import * as format from './format.ts';
import type { Html } from './html.ts';
import { CLASSES, type Hour, hourOf, STATES, STEP } from './recent-hour.ts';
import { render } from './views.ts';

/** Steps of 30 s in one row of the tables. */
const ROW = 10;

/**
 * Tables that are large and seldom wanted: every status code and error, and the charts' numbers. They have an address of
 * their own; the status page fetches them when they are opened.
 */
export function numbers(status: Status, now: number): Html {
  const hour = hourOf(status, now);
  const codes = codesOf(status, hour);
  return render('numbers', { f: format, classes: CLASSES, rows: rowsOf(hour), codes, errors: errorsOf(status) });
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
