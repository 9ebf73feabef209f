import { DECIDED_BY } from '../deciding-options.ts';
import type { ErrorCode } from '../errors.ts';
import type { Exchange } from './exchange.ts';
import { firstValue, realClient, type Trust } from './headers.ts';
import { type LineWriter, PIPE_BUF } from './line-writer.ts';
import type { Tally } from './tally.ts';
import type { Stages } from './trace.ts';

/** When a line is too long, texts that clients choose are cut to so many characters, step by step. */
const CUTS = [1_000, 250, 60];

const STAGES = [
  'receive',
  'queue',
  'connect',
  'firstByte',
  'upstream',
  'send',
  'total',
] as const satisfies (keyof Stages)[];

/**
 * One JSON line for each request, at its end. It never holds headers that carry credentials; query strings may, so they can be
 * left out.
 */
export class AccessLog {
  readonly #writer: LineWriter;
  readonly #query: boolean;
  readonly #trust: Trust;

  /** @param query whether query strings are written */
  constructor(writer: LineWriter, query: boolean, trust: Trust) {
    this.#writer = writer;
    this.#query = query;
    this.#trust = trust;
  }

  get counts(): { lines: number; lost: number } {
    return { lines: this.#writer.written, lost: this.#writer.lost };
  }

  /**
   * @param code why it failed, or null
   * @param endedAt by `performance.now()`
   */
  add(exchange: Exchange, code: ErrorCode | null, endedAt: number): void {
    let line = this.#line(exchange, code, endedAt, Infinity);
    for (const cut of CUTS) {
      // No character takes more than three bytes.
      if (3 * line.length <= PIPE_BUF || Buffer.byteLength(line) <= PIPE_BUF) break;
      line = this.#line(exchange, code, endedAt, cut);
    }
    this.#writer.write(line);
  }

  /** Resolves when everything has been written, or can't be in time. */
  async end(): Promise<void> {
    await this.#writer.end();
  }

  /** @param longest of texts that clients choose, in characters */
  #line(
    { id, head, client, status, trace }: Exchange,
    code: ErrorCode | null,
    endedAt: number,
    longest: number,
  ): string {
    const { tally, protocol, bytesIn, bodyIn, bytesOut, bodyOut } = trace;
    const cut = (text: string) => (text.length > longest ? text.slice(0, longest) : text);
    let line = `{"time":"${isoTime(Date.now())}","msg":"request","request":${quoted(id)}`;
    const address = realClient(head, client, this.#trust);
    line += `,"client":${address === null ? 'null' : quoted(address)},"scheme":"${client.scheme}"`;
    if (trace.readable) {
      line += `,"method":${quoted(cut(head.method))}`;
      if (head.host !== null) line += `,"host":${quoted(cut(head.host))}`;
      line += `,"target":${quoted(cut(this.#shown(head.target)))}`;
    }
    line += `,"protocol":"${protocol}","status":${status}`;
    line += `,"bytesIn":${bytesIn},"bodyIn":${bodyIn},"bytesOut":${bytesOut},"bodyOut":${bodyOut}`;
    const stages = trace.stages(endedAt);
    for (const stage of STAGES) {
      const ms = stages[stage];
      if (ms !== null) line += `,"${stage}":${toMicroseconds(ms)}`;
    }
    if (tally !== null) line += containerText(tally);
    if (trace.retries > 0) line += `,"retries":${trace.retries}`;
    if (code !== null) line += `,"error":"${code}"`;
    const limit = code === null ? undefined : DECIDED_BY[code];
    if (limit !== undefined) line += `,"limit":"${limit}"`;
    const referer = firstValue(head, 'referer');
    if (referer !== null) line += `,"referer":${quoted(cut(this.#shown(referer)))}`;
    const agent = firstValue(head, 'user-agent');
    if (agent !== null) line += `,"agent":${quoted(cut(agent))}`;
    return `${line}${longest === Infinity ? '' : ',"cut":true'}}\n`;
  }

  #shown(target: string): string {
    if (this.#query) return target;
    const at = target.search(/[?#]/);
    return at === -1 ? target : target.slice(0, at);
  }
}

/** The line that says how many lines are missing. */
export function linesLost(lines: number): string {
  return `{"time":"${isoTime(Date.now())}","msg":"access log lines were lost","lines":${lines}}\n`;
}

const containerTexts = new WeakMap<Tally, string>();

/** What does not change between the requests to one container. */
function containerText(tally: Tally): string {
  let text = containerTexts.get(tally);
  if (text === undefined) {
    const { revision, hash, id } = tally;
    text = `,"revision":${quoted(revision)},"hash":${quoted(hash)},"container":${quoted(id.slice(0, 8))}`;
    containerTexts.set(tally, text);
  }
  return text;
}

let secondText = '';
let second = NaN;

/** As `Date.prototype.toISOString`, which takes longer than all numbers of a line. */
function isoTime(now: number): string {
  const ms = now % 1_000;
  if (now - ms !== second) {
    second = now - ms;
    secondText = new Date(second).toISOString().slice(0, -4);
  }
  return `${secondText}${threeDigits(ms)}Z`;
}

/** A duration as JSON, to the microsecond. Two whole numbers are written in a fraction of the time of one with a point. */
function toMicroseconds(ms: number): string {
  const us = Math.round(Math.abs(ms) * 1_000);
  const whole = Math.trunc(us / 1_000);
  return `${ms < 0 && us > 0 ? '-' : ''}${whole}.${threeDigits(us - whole * 1_000)}`;
}

function threeDigits(number: number): string {
  return number > 99 ? String(number) : number > 9 ? `0${number}` : `00${number}`;
}

const PLAIN = /^[\x20\x21\x23-\x5b\x5d-\x7e]*$/;
const SPECIAL = /[\u007f-\u009f\u2028\u2029]/g;

/** As a JSON string; what terminals may take for commands is written as an escape too. */
function quoted(text: string): string {
  return PLAIN.test(text) ? `"${text}"` : JSON.stringify(text).replace(SPECIAL, escaped);
}

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}
