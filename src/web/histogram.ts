import type { LatencySummary } from '../manager/latency.ts';
import { duration, percent } from './format.ts';
import { AXIS, FULL, gridLine, PLOT } from './chart.ts';
import { html, type Html, raw } from './html.ts';
import { STEPS } from './recent-hour.ts';

/** Patterns are made for plots of this width (chart.ts: steps). */
const WIDE = STEPS;

/** The smallest share that is drawn: one request in a hundred thousand. */
const DECADES = 5;

export interface LatencySeries {
  name: string;
  look: string;
  latency: LatencySummary;
}

/** Durations as bars side by side: both axes are logarithmic, so that the tail, which matters, is seen. */
export function histogram(id: string, series: LatencySeries[], description: string): Html {
  const seen = series.filter(({ latency }) => latency.Histogram.length > 0);
  const bounds = boundsOf(seen);
  const height = PLOT + AXIS;
  const bars = seen.map(({ look, latency }, index) => {
    const bucket = WIDE / bounds.length;
    const width = (0.86 * bucket) / seen.length;
    let path = '';
    for (const { UpTo, Count } of latency.Histogram) {
      const at = Math.round(Math.log2(UpTo / (bounds[0] ?? 1)));
      const top = Math.round(barHeight(Count / latency.Count) * FULL);
      path += `M${((at + 0.07) * bucket + index * width).toFixed(1)} ${FULL}v-${top}h${width.toFixed(1)}v${top}z`;
    }
    return `<path fill="url(#${look})" d="${path}"/>`;
  });
  const ticks = [1, 0.1, 0.01, 0.001, 0.0001];
  const every = Math.max(1, Math.ceil(bounds.length / 6));
  return html`<svg
    class="chart"
    id="${id}"
    width="100%"
    height="${height}"
    role="img"
    aria-labelledby="${id}-t ${id}-d"
  >
    <title id="${id}-t">How long requests take: share of requests by duration, both logarithmic</title>
    <desc id="${id}-d">${description}</desc>
    ${ticks.map((share) => gridLine(yOf(share), percent(share)))}${gridLine(PLOT, null)}
    <svg width="100%" height="${PLOT}" viewBox="0 0 ${WIDE} ${FULL}" preserveAspectRatio="none">
      ${raw(bars.join(''))}
    </svg>
    ${bounds.map((bound, at) => ((bounds.length - 1 - at) % every === 0 && at > 0 ? html`<text class="time" x="${(((at + 1) / bounds.length) * 100).toFixed(2)}%" y="${height - 4}" ${at === bounds.length - 1 ? raw(' text-anchor="end"') : null}>${duration(bound)}</text>` : null))}
    ${seen.length === 0 ? html`<text class="none" x="50%" y="${PLOT / 2}">No requests yet</text>` : null}
  </svg>`;
}

/** Every power of two from the shortest to the longest bucket, in ms. */
function boundsOf(series: LatencySeries[]): number[] {
  const all = series.flatMap(({ latency }) => latency.Histogram.map(({ UpTo }) => UpTo));
  if (all.length === 0) return [];
  const first = Math.min(...all);
  const last = Math.max(...all);
  return Array.from({ length: Math.round(Math.log2(last / first)) + 1 }, (_, at) => first * 2 ** at);
}

/** Between 0 and 1: a share of 1 is the full height, each tenth of it one decade less. */
function barHeight(share: number): number {
  return Math.max(0.02, Math.min(1, 1 + Math.log10(share) / DECADES));
}

function yOf(share: number): number {
  return Math.round(PLOT * (1 - barHeight(share)));
}
