import assert from 'node:assert/strict';

/** A value of a scrape. */
export interface ScrapedSample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

const NAME = '[a-zA-Z_:][a-zA-Z0-9_:]*';
const VALUE = '[+-]?(?:Inf|NaN|\\d+(?:\\.\\d+)?(?:e[+-]?\\d+)?)';
const SAMPLE = new RegExp(`^(${NAME})(?:\\{(.*)\\})? (${VALUE})$`);
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(?:,|$)/gy;

/**
 * Reads Prometheus' text format 0.0.4, strictly: HELP and TYPE stand once before a metric's samples, no sample stands twice,
 * counters end in `_total`, histograms are cumulative and complete. Throws an AssertionError that says what is wrong.
 */
export function readExposition(text: string): ScrapedSample[] {
  assert.ok(text.endsWith('\n'), 'the last line has no end');
  const samples: ScrapedSample[] = [];
  const types = new Map<string, string>();
  const seen = new Set<string>();
  let helped: string | null = null;
  let current = '';
  for (const line of text.split('\n').slice(0, -1)) {
    const [, help] = new RegExp(`^# HELP (${NAME}) \\S.*$`).exec(line) ?? [];
    const [, typed, type] = new RegExp(`^# TYPE (${NAME}) (counter|gauge|histogram)$`).exec(line) ?? [];
    if (help !== undefined) helped = help;
    else if (typed !== undefined && type !== undefined) {
      assert.equal(helped, typed, line);
      assert.ok(!types.has(typed), `${line}: it stands twice`);
      assert.equal(typed.endsWith('_total'), type === 'counter', line);
      types.set(typed, type);
      current = typed;
    } else {
      const sample = readSample(line);
      const base = types.get(current) === 'histogram' ? sample.name.replace(/_(?:bucket|sum|count)$/, '') : sample.name;
      assert.equal(base, current, line);
      const key = JSON.stringify([sample.name, Object.entries(sample.labels).toSorted()]);
      assert.ok(!seen.has(key), `${line}: it stands twice`);
      seen.add(key);
      samples.push(sample);
    }
  }
  for (const [name, type] of types) if (type === 'histogram') checkHistogram(name, samples);
  return samples;
}

function readSample(line: string): ScrapedSample {
  const [, name = '', labelText = '', value = ''] = SAMPLE.exec(line) ?? [];
  assert.notEqual(name, '', `not a sample: ${line}`);
  const labels: Record<string, string> = {};
  let end = 0;
  for (const match of labelText.matchAll(LABEL)) {
    const [whole, label = '', text = ''] = match;
    assert.ok(!(label in labels), line);
    labels[label] = text.replace(/\\(.)/g, (_, escaped: string) => (escaped === 'n' ? '\n' : escaped));
    end = match.index + whole.length;
  }
  assert.equal(end, labelText.length, `labels: ${line}`);
  return { name, labels, value: Number(value.replace('Inf', 'Infinity')) };
}

function checkHistogram(name: string, samples: ScrapedSample[]): void {
  const series = Map.groupBy(
    samples.filter((sample) => sample.name.startsWith(name)),
    ({ labels: { le: _, ...rest } }) => JSON.stringify(rest),
  );
  for (const [labels, parts] of series) {
    const of = (suffix: string) => parts.filter((part) => part.name === `${name}_${suffix}`);
    const buckets = of('bucket').map(
      ({ labels: { le }, value }) => [Number((le ?? '').replace('Inf', 'Infinity')), value] as const,
    );
    const about = `${name} ${labels}`;
    assert.ok(buckets.length > 1, about);
    assert.equal(buckets.at(-1)?.[0], Infinity, about);
    assert.equal(buckets.at(-1)?.[1], of('count')[0]?.value, about);
    assert.equal(of('sum').length, 1, about);
    for (const [i, [bound, value]] of buckets.entries()) {
      const [before, less] = buckets[i - 1] ?? [-1, 0];
      assert.ok(bound > before && value >= less, about);
    }
  }
}

/** The sum of the values with this name and these labels. */
export function sumOf(samples: ScrapedSample[], name: string, labels: Record<string, string> = {}): number {
  return samples
    .filter(
      (sample) => sample.name === name && Object.entries(labels).every(([key, value]) => sample.labels[key] === value),
    )
    .reduce((sum, { value }) => sum + value, 0);
}
