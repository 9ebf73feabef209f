import { elapsed, oneLine } from './text.ts';

/** How far a machine is, in the order in which it gets there. */
export const STATES = {
  waiting: 'waiting',
  image: 'getting the image',
  create: 'creating the container',
  start: 'starting it',
  health: 'waiting until it is healthy',
  launched: 'launched',
  switching: 'switching',
  draining: 'draining the one before',
  done: 'done',
  failed: 'failed',
  stopping: 'stopping what was launched',
  stopped: 'what was launched is stopped',
  returning: 'going back',
  returned: 'went back',
} as const;
export type MachineState = keyof typeof STATES;

/** What is to be shown of a machine. */
export interface MachineReport {
  name: string;
  state: MachineState;
  /** More about it, for people; empty for nothing. */
  text: string;
  /** Share of the way to `done`. */
  fraction: number;
}

/** Where a command says how far it is. All texts may come from elsewhere: they are made printable here. */
export interface Reporter {
  /** A machine has come further; the same again is no news. */
  machine(report: MachineReport): void;
  /** Something about the whole. `event` and `fields` are for programs. */
  note(text: string, event: string, fields?: Record<string, unknown>): void;
  /** Something that went wrong. */
  problem(text: string, event: string, fields?: Record<string, unknown>): void;
  /** No more will come: the terminal is as it is to stay. */
  close(): void;
}

/** Where lines go. */
export interface Output {
  out(text: string): void;
  err(text: string): void;
}

/** A line for each step of each machine: for logs of CI systems. */
export class LineReporter implements Reporter {
  readonly #output: Output;
  readonly #began = new Map<string, { state: MachineState; at: number }>();

  constructor(output: Output) {
    this.#output = output;
  }

  machine({ name, state, text }: MachineReport): void {
    const last = this.#began.get(name);
    if (last?.state === state || state === 'waiting') return;
    const now = performance.now();
    this.#began.set(name, { state, at: now });
    const took = last ? ` (after ${elapsed(now - last.at)})` : '';
    this.#output.out(`${oneLine(`${name}: ${STATES[state]}${text === '' ? '' : `: ${text}`}${took}`)}\n`);
  }

  note(text: string): void {
    this.#output.out(`${oneLine(text)}\n`);
  }

  problem(text: string): void {
    this.#output.err(`${oneLine(text)}\n`);
  }

  close(): void {}
}

/** One JSON object a line, for programs. */
export class JsonReporter implements Reporter {
  readonly #output: Output;
  readonly #last = new Map<string, string>();

  constructor(output: Output) {
    this.#output = output;
  }

  machine({ name, state, text, fraction }: MachineReport): void {
    const fields = { Machine: name, State: state, Text: text };
    if (this.#last.get(name) === JSON.stringify(fields)) return;
    this.#last.set(name, JSON.stringify(fields));
    this.#write('machine', { ...fields, Fraction: Number(fraction.toFixed(2)) });
  }

  note(text: string, event: string, fields: Record<string, unknown> = {}): void {
    this.#write(event, { Message: text, ...fields });
  }

  problem(text: string, event: string, fields: Record<string, unknown> = {}): void {
    this.#write(event, { Message: text, ...fields });
  }

  close(): void {}

  #write(event: string, fields: Record<string, unknown>): void {
    this.#output.out(`${JSON.stringify({ Time: new Date().toISOString(), Event: event, ...fields })}\n`);
  }
}
