import { type CaseResult, CPU, MEMORY, type Metric, P99, RATE, type Row } from './case.ts';
import { type BarGroup, ratioChart } from './chart.ts';

const NOTHING = '–';

/** A case as a table for the terminal: every figure with its ratio to the reference, the best ratio being easy to find. */
export function caseTable({ name, title, metrics, rows, notes }: CaseResult, spread: boolean): string {
  const head = [name, ...metrics.map((metric) => metric.title)];
  const body = rows.map((row) => [row.name, ...metrics.map((metric) => cell(row, metric, spread))]);
  return [title, aligned([head, ...body]), ...notes.map((note) => `  ${note}`), ''].join('\n');
}

function cell({ medians, ratios }: Row, { key, digits }: Metric, spread: boolean): string {
  const value = medians[key] ?? null;
  if (value === null) return NOTHING;
  const figure = value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const ratio = ratios[key] ?? null;
  if (ratio === null) return figure;
  const range = spread ? ` (${ratio.low.toFixed(2)}–${ratio.high.toFixed(2)})` : '';
  return `${figure} ×${ratio.median.toFixed(2)}${range}`;
}

function aligned(rows: string[][]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map((row) =>
      row.map((text, i) => (i === 0 ? text.padEnd(widths[i] ?? 0) : text.padStart(widths[i] ?? 0))).join('  '),
    )
    .map((line) => `  ${line}`)
    .join('\n');
}

/** One metric of all cases in Markdown: the ratios to the reference, and what the reference itself needs. */
export function overview(results: CaseResult[], metric: Metric, reference: string): string {
  const measured = results.filter(({ metrics }) => metrics.some(({ key }) => key === metric.key));
  const names = [...new Set(measured.flatMap(({ rows }) => rows.map(({ name }) => name)))].filter(
    // Growth compares each with itself.
    (name) => name !== reference && !name.includes('×'),
  );
  const lines = measured.flatMap(({ title, rows, metrics }) => {
    const [by] = rows.filter(({ name }) => name === reference);
    if (by === undefined || !metrics.includes(metric)) return [];
    const ratios = names.map((name) => {
      const ratio = rows.find((row) => row.name === name)?.ratios[metric.key];
      return ratio === undefined || ratio === null ? NOTHING : ratio.median.toFixed(2);
    });
    return [[title, by.medians[metric.key]?.toFixed(metric.digits) ?? NOTHING, ...ratios]];
  });
  if (lines.length === 0) return '';
  const head = [metric.title, reference, ...names.map((name) => `${name} ÷`)];
  return [head, head.map((_, i) => (i === 0 ? '---' : '---:')), ...lines]
    .map((cells) => `| ${cells.join(' | ')} |`)
    .join('\n');
}

/** File names and SVG documents: a chart for each metric that is compared. */
export function chartsOf(results: CaseResult[], reference: string, origin: string): [name: string, svg: string][] {
  return [CPU, RATE, P99, MEMORY].flatMap((metric): [string, string][] => {
    const groups = results.flatMap(({ title, metrics, rows }): BarGroup[] => {
      const bars = rows
        .filter(({ name }) => name !== reference)
        .map(({ name, ratios }) => ({ name, value: ratios[metric.key]?.median ?? null }));
      // Growth compares each with itself.
      const fits = metrics.includes(metric) && rows.some(({ name }) => name === reference);
      return fits && bars.length > 0 ? [{ title, bars }] : [];
    });
    if (groups.length === 0) return [];
    const better = metric === RATE ? 'longer to the right is better' : 'longer to the right is worse';
    const subtitle = `Ratio to ${reference}, logarithmic; ${better}. ${origin}`;
    return [[`${metric.key}.svg`, ratioChart(metric.title, subtitle, groups)]];
  });
}
