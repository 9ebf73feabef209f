import { type MachineReport, type Output, type Reporter, STATES } from './reporter.ts';
import { elapsed, oneLine } from './text.ts';

/** How often lines are drawn anew, in ms. */
const FRAME = 200;
const BAR = 20;
const LONGEST_NAME = 30;

/** What a terminal can do. */
export interface Terminal extends Output {
  readonly columns: number;
  readonly rows: number;
  readonly colours: boolean;
  /** Whether it shows more than ASCII. */
  readonly unicode: boolean;
}

type Colour = 'red' | 'green' | 'cyan' | 'dim';
const CODES: Record<Colour, number> = { red: 31, green: 32, cyan: 36, dim: 2 };

interface Row extends MachineReport {
  began: number;
  /** When it stopped changing. */
  ended: number | null;
}

/**
 * A line a machine at the bottom of the terminal, drawn anew in place; what is said about the whole scrolls by above.
 * Lines are cut to the terminal's width: one that wrapped would make the count of lines wrong.
 */
export class TerminalReporter implements Reporter {
  readonly #terminal: Terminal;
  readonly #rows = new Map<string, Row>();
  readonly #timer: NodeJS.Timeout;
  #drawn = 0;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
    this.#timer = setInterval(() => this.#draw(), FRAME);
  }

  machine(report: MachineReport): void {
    const now = performance.now();
    const began = this.#rows.get(report.name)?.began ?? now;
    const resting = ['done', 'failed', 'stopped', 'returned'].includes(report.state);
    this.#rows.set(report.name, { ...report, began, ended: resting ? now : null });
  }

  note(text: string): void {
    this.#erase();
    this.#terminal.out(`${oneLine(text)}\n`);
    this.#draw();
  }

  problem(text: string): void {
    this.#erase();
    this.#terminal.out(`${this.#paint('red', oneLine(text))}\n`);
    this.#draw();
  }

  close(): void {
    clearInterval(this.#timer);
    this.#draw();
    this.#drawn = 0;
  }

  #erase(): void {
    // Cursor up, then erase to the end of the screen (ECMA-48: CUU, ED).
    if (this.#drawn > 0) this.#terminal.out(`\x1b[${this.#drawn}A\r\x1b[J`);
    this.#drawn = 0;
  }

  #draw(): void {
    const rows = [...this.#rows.values()];
    // What has scrolled out of the screen can't be drawn over: of a large fleet those show that are under way.
    const room = Math.max(1, this.#terminal.rows - 2);
    const shown = rows.length <= room ? rows : [...rows.filter(isMoving), ...rows.filter((row) => !isMoving(row))];
    const width = Math.min(widthOf(rows), Math.floor(this.#terminal.columns / 3));
    const lines = shown.slice(0, room).map((row) => this.#line(row, width));
    const up = this.#drawn > 0 ? `\x1b[${this.#drawn}A\r` : '';
    if (lines.length === 0 && up === '') return;
    this.#terminal.out(`${up}${lines.map((line) => `${line}\x1b[K\n`).join('')}\x1b[J`);
    this.#drawn = lines.length;
  }

  #line(row: Row, width: number): string {
    const { columns } = this.#terminal;
    const name = cut(oneLine(row.name), width).padEnd(width);
    const time = elapsed((row.ended ?? performance.now()) - row.began).padStart(6);
    const text = oneLine(row.text === '' ? STATES[row.state] : `${STATES[row.state]}: ${row.text}`);
    const bar = columns - width >= BAR + 30 ? `${this.#bar(row)} ` : '';
    const left = columns - 1 - width - 1 - (bar === '' ? 0 : BAR + 1) - time.length - 1;
    return `${name} ${bar}${this.#paint('dim', time)} ${this.#paint(colourOf(row), cut(text, Math.max(0, left)))}`;
  }

  #bar(row: Row): string {
    const full = Math.round(Math.min(1, Math.max(0, row.fraction)) * BAR);
    const [done, open] = this.#terminal.unicode ? ['█', '░'] : ['#', '-'];
    return this.#paint(colourOf(row), `${done.repeat(full)}${open.repeat(BAR - full)}`);
  }

  #paint(colour: Colour, text: string): string {
    return this.#terminal.colours ? `\x1b[${CODES[colour]}m${text}\x1b[0m` : text;
  }
}

function isMoving({ state, ended }: Row): boolean {
  return (ended === null && state !== 'waiting') || state === 'failed';
}

function colourOf({ state }: MachineReport): Colour {
  if (state === 'done') return 'green';
  if (state === 'failed') return 'red';
  return state === 'waiting' ? 'dim' : 'cyan';
}

function widthOf(rows: Row[]): number {
  return Math.min(LONGEST_NAME, Math.max(...rows.map(({ name }) => oneLine(name).length)));
}

/** Characters that take up two columns are left out: they would make a line longer than it is counted. */
function cut(text: string, width: number): string {
  return text.replace(/[\u1100-\u1fff\u2e80-\u{10ffff}]|\p{Emoji_Presentation}/gu, '?').slice(0, width);
}
