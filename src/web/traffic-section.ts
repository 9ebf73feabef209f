import type { Status } from '../manager/status.ts';
import { legend, marksInWords, type Series, timeChart } from './chart.ts';
import * as format from './format.ts';
import type { Html } from './html.ts';
import { CLASSES, countOf, type Hour, STATES, type Step } from './recent-hour.ts';
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
      description: `${format.count(all)} requests, ${format.count(bad)} of them answered with 5xx. The numbers stand among the numbers below.`,
      hour,
      series: requests,
      kind: 'stack',
      label: format.rate,
    }),
    failedChart: timeChart({
      id: 'chart-failed',
      title: 'Answers with 5xx per second in the last hour, by a scale of their own',
      description: `${format.count(bad)} answers with 5xx. The numbers stand among the numbers below.`,
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
    turnedAway: Object.values(status.Totals.TurnedAway).reduce((sum, count) => sum + count, 0),
    marks: marksInWords(hour.marks),
    states: statesInWords(status),
  });
}

function valuesOf({ steps }: Hour, value: (step: Step) => number | null): (number | null)[] {
  return steps.map((step) => step && value(step));
}

function statesInWords({ States }: Status): string {
  return STATES.map((name) => `${format.count(States[name])} ${STATE_WORDS[name].split(':')[0]}`).join(', ');
}
