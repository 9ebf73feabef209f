import { html, type Html, raw } from './html.ts';
import { moment } from './format.ts';
import { type Hour, type Mark, STEPS } from './recent-hour.ts';

/** Height of a plot in px; widths are in percent, so that text keeps its size on every screen. */
export const PLOT = 132;
/** Room below it for the time axis. */
export const AXIS = 18;
/** Room above it for deploy marks. */
const HEAD = 16;

/** Plots are drawn in steps × pixels and stretched to the width; strokes and text are not. */
export const FULL = PLOT;

/** One layer of a stack, or one line. `look` names its colour and pattern in page.css and views/patterns.eta. */
export interface Series {
  name: string;
  look: string;
  values: (number | null)[];
}

export interface TimeChart {
  id: string;
  /** What it shows, with its unit. */
  title: string;
  /** The same in a sentence with the most important numbers. */
  description: string;
  hour: Hour;
  series: Series[];
  kind: 'stack' | 'lines';
  /** A number of the vertical axis with its unit. */
  label: (value: number) => string;
  /** What the vertical axis reaches at the least. */
  least?: number;
  /** A second chart below another one has no head, no marks and half the height. */
  minor?: boolean;
}

/** A chart over the last hour. Its numbers also have to stand in a table: see `description`. */
export function timeChart(chart: TimeChart): Html {
  const { id, title, description, hour, series, kind, label, minor = false } = chart;
  const scale = kind === 'stack' ? linear(Math.max(topOf(series), chart.least ?? 0)) : logarithmic(series);
  const paths = kind === 'stack' ? stack(series, scale) : lines(series, scale);
  const head = minor ? 6 : HEAD;
  const plot = minor ? PLOT / 3 : PLOT;
  const place: Place = { head, plot, foot: head + plot };
  const ticks = minor ? scale.ticks.slice(-1) : scale.ticks;
  const yOf = (value: number) => head + (plot * (FULL - scale.y(value))) / FULL;
  return html`<svg
    class="chart"
    id="${id}"
    width="100%"
    height="${head + plot + (minor ? 2 : AXIS)}"
    role="img"
    aria-labelledby="${id}-t ${id}-d"
  >
    <title id="${id}-t">${title}</title>
    <desc id="${id}-d">${description}</desc>
    ${ticks.map((value) => gridLine(yOf(value), label(value)))}${gridLine(place.foot, minor ? null : scale.floor === 0 ? '0' : label(scale.floor))}
    <svg y="${head}" width="100%" height="${plot}" viewBox="0 0 ${STEPS} ${FULL}" preserveAspectRatio="none">
      ${paths}${minor ? null : markLines(hour)}
    </svg>
    ${unknown(hour, place)}${minor ? null : timeAxis(hour, place)}${minor ? null : markLabels(hour)}
  </svg>`;
}

/** Where the plot lies in its chart, in px from above. */
interface Place {
  head: number;
  plot: number;
  foot: number;
}

/** A line across the plot with its value at the left. */
export function gridLine(y: number, label: string | null): Html {
  const line = html`<line class="grid" x2="100%" y1="${+y.toFixed(1)}" y2="${+y.toFixed(1)}" />`;
  return label === null ? line : html`${line}<text class="scale" x="-5" y="${+(y + 4).toFixed(1)}">${label}</text>`;
}

interface Scale {
  /** The value at the foot. */
  floor: number;
  ticks: number[];
  /** Whole pixels from below. */
  y(value: number): number;
}

/** From zero to a round number that is not below `top`. */
function linear(top: number): Scale {
  const max = niceCeiling(top);
  return { floor: 0, ticks: [max / 2, max], y: (value) => Math.round((value / max) * FULL) };
}

/** Powers of ten around all values. */
function logarithmic(series: Series[]): Scale {
  const values = series.flatMap((each) => each.values).filter((value) => value !== null && value > 0) as number[];
  const low = values.length === 0 ? 0 : Math.floor(Math.log10(Math.min(...values)));
  const high = Math.max(low + 1, values.length === 0 ? 2 : Math.ceil(Math.log10(Math.max(...values))));
  const y = (value: number) => Math.round(((Math.log10(Math.max(value, 10 ** low)) - low) / (high - low)) * FULL);
  return { floor: 10 ** low, ticks: Array.from({ length: high - low }, (_, at) => 10 ** (low + at + 1)), y };
}

/** 1, 2 or 5 times a power of ten. */
export function niceCeiling(value: number): number {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 2, 5].find((step) => step * power >= value) ?? 10) * power;
}

function topOf(series: Series[]): number {
  let top = 0;
  for (let at = 0; at < STEPS; at++) top = Math.max(top, sumAt(series, at));
  return top;
}

function sumAt(series: Series[], at: number): number {
  return series.reduce((sum, { values }) => sum + (values[at] ?? 0), 0);
}

/** Every layer reaches down to the axis; the highest is painted first. */
function stack(series: Series[], scale: Scale): Html {
  let below: number[] = Array.from({ length: STEPS }, () => FULL);
  const layers = series.map(({ look }, index) => {
    const tops = below.map((_, at) => FULL - scale.y(sumAt(series.slice(0, index + 1), at)));
    const outline = area(tops, below);
    below = tops;
    return outline && `<path fill="url(#${look})" d="${outline}"/>`;
  });
  return raw(layers.toReversed().join(''));
}

/**
 * The outline of a layer; empty if nothing of it is seen. Where it is no higher than what is below, it is hidden, whatever
 * its height: at the height of the axis, an outline that is seldom seen is short.
 */
function area(tops: number[], below: number[]): string {
  const seen = tops.map((top, at) => (top === below[at] ? FULL : top));
  if (seen.every((top) => top === FULL)) return '';
  const [whole, parts] = [stairs(tops), stairs(seen)];
  return `M0 ${FULL}${parts.length < whole.length ? parts : whole}V${FULL}z`;
}

/** From the axis from step to step, relative, because that is short. */
function stairs(tops: number[]): string {
  let path = '';
  let wide = 0;
  let last = FULL;
  for (const top of tops) {
    if (top !== last) path += `${wide > 0 ? `h${wide}` : ''}v${top - last}`;
    wide = top === last ? wide + 1 : 1;
    last = top;
  }
  return `${path}h${wide}`;
}

function lines(series: Series[], scale: Scale): Html {
  const drawn = series.map(({ look, values }) => {
    const runs: { from: number; ys: number[] }[] = [];
    values.forEach((value, at) => {
      if (value === null) return;
      if ((values[at - 1] ?? null) === null) runs.push({ from: at, ys: [] });
      runs.at(-1)?.ys.push(FULL - scale.y(value));
    });
    return `<path class="line ${look}" d="${runs.map(line).join('')}"/>`;
  });
  return raw(drawn.join(''));
}

/** From the middle of one step to that of the next; what goes on at the same slope is one piece. */
function line({ from, ys }: { from: number; ys: number[] }): string {
  const pieces: { wide: number; slope: number }[] = [];
  let last = ys[0] ?? 0;
  for (const y of ys.slice(1)) {
    const before = pieces.at(-1);
    if (before?.slope === y - last) before.wide++;
    else pieces.push({ wide: 1, slope: y - last });
    last = y;
  }
  const drawn = pieces.map(({ wide, slope }) => `${wide}${slope < 0 ? '' : ' '}${wide * slope}`);
  return `M${from} ${ys[0] ?? 0}h.5${drawn.length > 0 ? `l${drawn.join(' ')}` : ''}h.5`;
}

/** Says from when on there are numbers, when it is not the whole hour. */
function unknown({ steps }: Hour, { head, plot }: Place): Html | null {
  const first = steps.findIndex((step) => step !== null);
  if (first === 0) return null;
  if (first === -1) return html`<text class="none" x="50%" y="${head + plot / 2 + 4}">No numbers yet</text>`;
  return html`<rect class="unknown" fill="url(#unknown)" y="${head}" width="${percentOf(first)}" height="${plot}" />`;
}

const TEN_MINUTES = 600_000;

function timeAxis({ from, to }: Hour, { foot }: Place): Html[] {
  const labels: Html[] = [];
  for (let at = Math.ceil(from / TEN_MINUTES) * TEN_MINUTES; at <= to; at += TEN_MINUTES) {
    const x = ((at - from) / (to - from)) * 100;
    if (x < 4 || x > 96) continue;
    const iso = new Date(at).toISOString();
    const left = `${+x.toFixed(2)}%`;
    labels.push(
      html`<text class="time" x="${left}" y="${foot + AXIS - 4}" data-time="${iso.slice(0, 16)}Z"
        >${iso.slice(11, 16)}</text
      >`,
    );
  }
  return labels;
}

const LABEL_LENGTH = 14;
/** Deploy marks that are also told in words. */
const MARKS = 4;
/** Labels closer than this share of the width would run into one another. */
const APART = 0.2;

/** All marks in one path, to be stretched with the plot. */
function markLines({ from, to, marks }: Hour): Html | null {
  if (marks.length === 0) return null;
  const path = marks.map(({ at }) => `M${+(((at - from) / (to - from)) * STEPS).toFixed(2)} 0V${FULL}`).join('');
  return html`<path class="mark" d="${path}" />`;
}

/** The newest mark, and older ones as far as there is room, with their revision. */
function markLabels({ from, to, marks }: Hour): (Html | null)[] {
  let free = 1 + APART;
  return marks.toReversed().map(({ at, revision }) => {
    const share = (at - from) / (to - from);
    if (free - share < APART) return null;
    free = share;
    const label = revision.length > LABEL_LENGTH ? `${revision.slice(0, LABEL_LENGTH - 1)}…` : revision;
    return html`<text class="mark" x="${+(share * 100).toFixed(2)}%" y="10" dx="-3">${label}</text>`;
  });
}

function percentOf(step: number): string {
  return `${((step / STEPS) * 100).toFixed(2)}%`;
}

/** What a series looks like, beside its name. */
export function legend(series: { name: string; look: string }[], kind: 'stack' | 'lines' = 'stack'): Html {
  const swatch = (look: string) =>
    kind === 'stack'
      ? html`<svg class="swatch" viewBox="0 0 3 11" preserveAspectRatio="none" aria-hidden="true">
          <rect width="3" height="11" fill="url(#${look})" />
        </svg>`
      : html`<svg class="swatch" aria-hidden="true">
          <path class="line ${look}" d="M0 5H16" />
        </svg>`;
  return html`<ul class="legend">
    ${series.map(({ name, look }) => html`<li>${swatch(look)} ${name}</li>`)}
  </ul>`;
}

const WORDS = { switch: 'switched to', rollback: 'rolled back to', adopt: 'a start took up' };

/** Deploy marks in words, newest first, for those who can't see them or want to know who. */
export function marksInWords(marks: Mark[]): Html | null {
  if (marks.length === 0) return null;
  const words = marks.slice(-MARKS).map(({ at, revision, event, by }) => {
    const who = by ? ` by ${by}` : '';
    return html`<li>${moment(new Date(at).toISOString())} ${WORDS[event]} <b>${revision}</b>${who}</li>`;
  });
  const more = marks.length > MARKS ? html`<li>and ${marks.length - MARKS} before</li>` : null;
  return html`<ul class="marks" aria-label="Deployments of the last hour">
    ${words.toReversed()}${more}
  </ul>`;
}
