import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import { JsonReporter, LineReporter, type MachineReport } from '../../src/client/reporter.ts';
import { type Terminal, TerminalReporter } from '../../src/client/terminal.ts';

/** A screen that understands what the reporter may write: text, line ends, cursor up, and the two ways to erase. */
class Screen implements Terminal {
  columns: number;
  rows: number;
  colours = false;
  unicode = true;
  lines: string[] = [''];
  #row = 0;
  #column = 0;
  /** Everything as it was written. */
  written = '';

  constructor(columns: number, rows: number) {
    this.columns = columns;
    this.rows = rows;
  }

  out(text: string): void {
    this.written += text;
    for (const [token] of text.matchAll(/\x1b\[[0-9;]*[A-Za-z]|[^]/gu)) this.#take(token);
  }

  err(text: string): void {
    this.out(text);
  }

  get text(): string[] {
    return this.lines.map((line) => line.trimEnd()).filter((line) => line !== '');
  }

  #take(token: string): void {
    const command = /^\x1b\[(\d*)([A-Za-z])$/.exec(token);
    if (command?.[2] === 'A') this.#row -= Number(command[1]);
    else if (command?.[2] === 'K') this.lines[this.#row] = (this.lines[this.#row] ?? '').slice(0, this.#column);
    else if (command?.[2] === 'J')
      this.lines.splice(this.#row, Infinity, (this.lines[this.#row] ?? '').slice(0, this.#column));
    else if (command?.[2] === 'm') return;
    else if (token === '\r') this.#column = 0;
    else if (token === '\n') [this.#row, this.#column] = [this.#row + 1, 0];
    else {
      assert.doesNotMatch(token, /[\x00-\x1f\x7f-\x9f]/, 'nothing else that steers the terminal');
      const line = this.lines[this.#row] ?? '';
      this.lines[this.#row] = line.slice(0, this.#column).padEnd(this.#column) + token + line.slice(this.#column + 1);
      this.#column += 1;
      assert.ok(this.#column < this.columns, `a line would wrap: ${this.lines[this.#row]}`);
    }
    assert.ok(this.#row >= 0, 'the cursor stays on the screen');
    while (this.lines.length <= this.#row) this.lines.push('');
  }
}

function open(t: TestContext, columns: number, rows = 24) {
  const screen = new Screen(columns, rows);
  const reporter = new TerminalReporter(screen);
  t.after(() => reporter.close());
  return { screen, reporter };
}

const report = (name: string, more: Partial<MachineReport> = {}): MachineReport => ({
  name,
  state: 'health',
  text: '',
  fraction: 0.5,
  ...more,
});

test('a line a machine is drawn over in place, and what is said about the whole stays above', (t) => {
  const { screen, reporter } = open(t, 100);
  reporter.note('deploying v2 on web1, web2');
  reporter.machine(report('web1'));
  reporter.machine(report('web2', { state: 'waiting', fraction: 0 }));
  reporter.note('first');
  reporter.machine(report('web1', { state: 'done', text: 'container 4f1b22aa', fraction: 1 }));
  reporter.problem('web2: second');
  reporter.close();
  const [begin, first, second, one, two, ...rest] = screen.text;
  assert.deepEqual([begin, first, second, rest], ['deploying v2 on web1, web2', 'first', 'web2: second', []]);
  assert.match(one ?? '', /^web1 █{20} +\d\.\ds done: container 4f1b22aa$/);
  assert.match(two ?? '', /^web2 ░{20} +\d\.\ds waiting$/);
});

for (const columns of [20, 40, 79, 80, 200]) {
  test(`on a terminal of ${columns} columns no line wraps, whatever names and texts hold`, (t) => {
    const { screen, reporter } = open(t, columns);
    reporter.machine(report('a'.repeat(60), { text: 'x'.repeat(300) }));
    reporter.machine(report('web3', { text: '部署🚀'.repeat(100) }));
    reporter.machine(report('web2', { text: 'a\nb\x1b[2Jc\u009b3Ad\te' }));
    reporter.close();
    assert.equal(screen.text.length, 3);
    assert.doesNotMatch(screen.written, /部|🚀/);
    assert.equal(screen.text.join('').includes('\n'), false);
  });
}

test('of more machines than there are lines those that are under way or failed are shown', (t) => {
  const { screen, reporter } = open(t, 80, 5);
  for (let at = 0; at < 10; at++) reporter.machine(report(`web${at}`, { state: at === 7 ? 'failed' : 'waiting' }));
  reporter.machine(report('web8', { state: 'switching' }));
  reporter.close();
  assert.equal(screen.text.length, 3);
  assert.match(screen.text.join('\n'), /^web7 .*failed\nweb8 .*switching/);
});

test('without Unicode bars are ASCII, and colours come only where they are wanted', (t) => {
  const { screen, reporter } = open(t, 80);
  screen.unicode = false;
  reporter.machine(report('web1'));
  reporter.note('plain');
  assert.match(screen.text.at(-1) ?? '', /#{10}-{10}/);
  assert.doesNotMatch(screen.written, /\x1b\[\d*m/);
  screen.colours = true;
  reporter.problem('red');
  assert.match(screen.written, /\x1b\[31mred\x1b\[0m/);
});

test('elsewhere each step is a line, and progress within a step is none', () => {
  let [out, err] = ['', ''];
  const reporter = new LineReporter({ out: (text) => void (out += text), err: (text) => void (err += text) });
  reporter.machine(report('web1', { state: 'waiting' }));
  reporter.machine(report('web1', { text: 'connection refused' }));
  reporter.machine(report('web1', { text: '500 Internal\x1b[31m Server\nError' }));
  reporter.machine(report('web1', { state: 'done' }));
  reporter.problem('web2: \x1b]0;title\x07no\nway');
  assert.match(out, /^web1: waiting until it is healthy: connection refused\nweb1: done \(after \d\.\ds\)\n$/);
  assert.equal(err, `${stripVTControlCharacters('web2: \x1b]0;title\x07no')} way\n`);
});

test('for programs each line is an object with its time and event, and the same is not said twice', () => {
  const lines: Record<string, unknown>[] = [];
  const reporter = new JsonReporter({
    out: (text) => void lines.push(JSON.parse(text) as Record<string, unknown>),
    err: () => assert.fail('everything goes to stdout'),
  });
  reporter.machine(report('web1'));
  reporter.machine(report('web1'));
  reporter.problem('it failed', 'end', { ExitCode: 3 });
  assert.deepEqual(
    lines.map((line) => ({ ...line, Time: undefined })),
    [
      { Time: undefined, Event: 'machine', Machine: 'web1', State: 'health', Text: '', Fraction: 0.5 },
      { Time: undefined, Event: 'end', Message: 'it failed', ExitCode: 3 },
    ],
  );
  for (const { Time } of lines) assert.ok(Date.parse(String(Time)) > 0);
});
