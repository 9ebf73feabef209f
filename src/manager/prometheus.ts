/*
 * Prometheus' text format, version 0.0.4. All values are totals that somebody else keeps, so there is nothing for a client
 * library to count.
 */

/** One value of a metric. */
export interface Sample {
  labels?: Record<string, string>;
  value: number;
  /** Of a histogram's parts. */
  suffix?: '_bucket' | '_sum' | '_count';
}

/** All values of one name. Names and units by Prometheus' conventions: base units, `_total` for counters. */
export interface Metric {
  name: string;
  help: string;
  type: 'counter' | 'gauge' | 'histogram';
  samples: Sample[];
}

export const CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** The text of a scrape; metrics without a value are left out. */
export function expose(metrics: Metric[]): string {
  let text = '';
  for (const { name, help, type, samples } of metrics) {
    if (samples.length === 0) continue;
    text += `# HELP ${name} ${help.replace(/\\/g, '\\\\').replace(/\n/g, '\\n')}\n# TYPE ${name} ${type}\n`;
    for (const { labels, value, suffix = '' } of samples) text += `${name}${suffix}${labelText(labels)} ${value}\n`;
  }
  return text;
}

function labelText(labels: Record<string, string> = {}): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escapeValue(value)}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

function escapeValue(value: string): string {
  return value.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n');
}

/** Upper bounds in seconds. */
const BOUNDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/**
 * A histogram's samples.
 *
 * @param counts durations in µs, and how often each occurred
 * @param sum of all of them, in seconds
 */
export function histogram(counts: Record<string, number>, sum: number, labels: Record<string, string> = {}): Sample[] {
  const entries = Object.entries(counts);
  const upTo = (bound: number) =>
    entries.reduce((total, [us, count]) => (Number(us) <= bound * 1e6 ? total + count : total), 0);
  const all = upTo(Infinity);
  return [
    ...BOUNDS.map((bound) => bucket(labels, String(bound), upTo(bound))),
    bucket(labels, '+Inf', all),
    { labels, value: sum, suffix: '_sum' },
    { labels, value: all, suffix: '_count' },
  ];
}

function bucket(labels: Record<string, string>, le: string, value: number): Sample {
  return { labels: { ...labels, le }, value, suffix: '_bucket' };
}
