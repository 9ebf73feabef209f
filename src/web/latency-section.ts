import type { LatencySummary } from '../manager/latency.ts';
import type { Status } from '../manager/status.ts';
import { legend, type Series, timeChart } from './chart.ts';
import * as format from './format.ts';
import { histogram, type LatencySeries } from './histogram.ts';
import type { Html } from './html.ts';
import type { Hour } from './recent-hour.ts';
import { render } from './views.ts';

/** More are not told apart in one histogram; the table has them all. */
const COMPARED = 3;

/** Percentiles over time, and durations of clients and of each container side by side. */
export function latencySection(status: Status, hour: Hour): Html {
  const lines: Series[] = [
    { name: '50th percentile', look: 'p50', values: hour.steps.map((step) => positive(step?.p50)) },
    { name: '90th', look: 'p90', values: hour.steps.map((step) => positive(step?.p90)) },
    { name: '99th', look: 'p99', values: hour.steps.map((step) => positive(step?.p99)) },
    { name: '99th of the containers’ own time', look: 'own', values: hour.steps.map((step) => positive(step?.ownP99)) },
  ];
  const last = status.Recent.at(-1);
  const now = last?.Latency ?? null;
  const containers = byService(status);
  const compared: LatencySeries[] = [
    { name: 'clients, since the start', look: 'h0', latency: status.Latency },
    ...containers.slice(0, COMPARED - 1).map(({ name, latency }, at) => ({ name, look: `h${at + 1}`, latency })),
  ];
  return render('latency', {
    f: format,
    status,
    lineChart: timeChart({
      id: 'chart-latency',
      title: 'Latency in the last hour: 50th, 90th and 99th percentile, logarithmic',
      description:
        now && now.Count > 0 ? `In the last 10 s: ${inWords(now)}.` : 'No request was finished in the last 10 s.',
      hour,
      series: lines,
      kind: 'lines',
      label: format.duration,
    }),
    lineLegend: legend(lines, 'lines'),
    histogram: histogram(
      'chart-histogram',
      compared,
      compared
        .map(({ name, latency }) => `${name}: ${latency.Count === 0 ? 'no requests' : inWords(latency)}`)
        .join('; '),
    ),
    histogramLegend: legend(compared.filter(({ latency }) => latency.Count > 0)),
    table: [
      ...(now ? [{ name: 'Clients, last 10 s', latency: now }] : []),
      { name: 'Clients, since the start', latency: status.Latency },
      ...(last ? [{ name: 'Containers, last 10 s', latency: last.ContainerLatency }] : []),
      { name: 'Containers, since the start', latency: status.ContainerLatency },
      ...containers.map(({ name, latency }) => ({ name: `Container ${name}`, latency })),
    ],
  });
}

/** The one in service first, then those that leave it; a launched one that has had no requests has nothing to show. */
function byService({ Active, Containers }: Status): { name: string; latency: LatencySummary }[] {
  const others = Containers.filter(({ Id, Latency }) => Id !== Active?.Id && Latency.Count > 0);
  return [...(Active ? [Active] : []), ...others].map((each) => {
    const state = each.State === 'active' ? 'in service' : each.State;
    return { name: `${each.Revision} (${format.short(each.Id)}, ${state})`, latency: each.Latency };
  });
}

function inWords({ P50, P90, P99 }: LatencySummary): string {
  return `half take up to ${format.duration(P50)}, 90 % up to ${format.duration(P90)}, 99 % up to ${format.duration(P99)}`;
}

/** A logarithm has no zero: steps without requests are gaps. */
function positive(value: number | undefined): number | null {
  return value !== undefined && value > 0 ? value : null;
}
