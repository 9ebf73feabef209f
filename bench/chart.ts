/** A bar and what stands at its end. */
export interface Bar {
  name: string;
  /** Above 0; null: nothing was measured. */
  value: number | null;
}

/** Bars that belong together. */
export interface BarGroup {
  title: string;
  bars: Bar[];
}

const WIDTH = 860;
const LABELS = 250;
const VALUES = 60;
const BAR = 13;
const GROUP_HEAD = 26;
const TOP = 64;
const FONT = 'font-family="system-ui, sans-serif"';

/** Told apart with most kinds of colour vision (Okabe and Ito); the first is the one that the chart is about. */
const COLOURS = ['#0072b2', '#8a8a8a', '#e69f00', '#009e73', '#cc79a7', '#56b4e9', '#d55e00'];

const STYLE = `text{fill:#222}.grid{stroke:#ddd}.one{stroke:#555}.page{fill:#fff}
@media (prefers-color-scheme:dark){text{fill:#ddd}.grid{stroke:#444}.one{stroke:#bbb}.page{fill:#1b1b1b}}`;

/**
 * An SVG document with horizontal bars on a logarithmic scale that start at 1: what is better than the reference points to
 * one side, what is worse to the other. Every bar carries its figure, so that colour is not needed to read it.
 */
export function ratioChart(title: string, subtitle: string, groups: BarGroup[]): string {
  const values = groups.flatMap(({ bars }) => bars.flatMap(({ value }) => (value === null ? [] : [value])));
  const names = [...new Set(groups.flatMap(({ bars }) => bars.map(({ name }) => name)))];
  const { low, high } = decadesAround(values);
  const x = (value: number) => {
    const share = (Math.log10(value) - Math.log10(low)) / (Math.log10(high) - Math.log10(low));
    return Math.round((LABELS + share * (WIDTH - LABELS - VALUES)) * 10) / 10;
  };
  const parts: string[] = [];
  let y = TOP;
  for (const group of groups) {
    parts.push(text(8, y + 16, group.title, 'font-weight="600" font-size="13"'));
    y += GROUP_HEAD;
    for (const { name, value } of group.bars) {
      parts.push(text(LABELS - 8, y + BAR - 3, name, 'text-anchor="end" font-size="11"'));
      if (value !== null) {
        const [left, right] = [x(1), x(value)].toSorted((a, b) => a - b) as [number, number];
        const colour = COLOURS[names.indexOf(name) % COLOURS.length];
        const width = Math.max(1, right - left).toFixed(1);
        parts.push(`<rect x="${left}" y="${y}" width="${width}" height="${BAR - 2}" fill="${colour}"/>`);
      }
      const end = value === null ? x(1) + 5 : Math.max(x(1), x(value)) + 5;
      parts.push(text(end, y + BAR - 3, value === null ? '–' : value.toFixed(2), 'font-size="11"'));
      y += BAR;
    }
  }
  const height = y + 12;
  const grid = ticksBetween(low, high).map((tick) => {
    const line = `<line x1="${x(tick)}" y1="${TOP - 8}" x2="${x(tick)}" y2="${height - 8}" class="${tick === 1 ? 'one' : 'grid'}"/>`;
    return line + text(x(tick), TOP - 13, String(tick), 'text-anchor="middle" font-size="11"');
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${escaped(title)}" ${FONT}>`,
    `<style>${STYLE}</style><rect class="page" width="${WIDTH}" height="${height}"/>`,
    text(8, 20, title, 'font-weight="600" font-size="16"'),
    text(8, 38, subtitle, 'font-size="12"'),
    ...grid,
    ...parts,
    '</svg>\n',
  ].join('\n');
}

/** Borders of the scale: 1 is always on it, with a little room on either side. */
function decadesAround(values: number[]): { low: number; high: number } {
  const ticks = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000];
  const least = Math.min(1, ...values);
  const most = Math.max(1, ...values);
  return {
    low: ticks.findLast((tick) => tick < least) ?? least / 2,
    high: ticks.find((tick) => tick > most) ?? most * 2,
  };
}

function ticksBetween(low: number, high: number): number[] {
  const ticks: number[] = [];
  for (let power = -3; power <= 3; power++) {
    for (const step of [1, 2, 5]) {
      const tick = Number((step * 10 ** power).toPrecision(1));
      if (tick >= low && tick <= high) ticks.push(tick);
    }
  }
  return ticks;
}

function text(x: number, y: number, content: string, attributes: string): string {
  return `<text x="${x}" y="${y}" ${attributes}>${escaped(content)}</text>`;
}

function escaped(content: string): string {
  return content.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
}
