import { DECIDED_BY } from '../deciding-options.ts';
import type { ErrorCode } from '../errors.ts';
import type { Exchange } from './exchange.ts';
import { firstValue, realClient, type Trust } from './headers.ts';
import { type LineWriter, PIPE_BUF } from './line-writer.ts';
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
      if (Buffer.byteLength(line) <= PIPE_BUF) break;
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
    const cut = (text: string | null) => text?.slice(0, longest) ?? undefined;
    const referer = firstValue(head, 'referer');
    const read = { method: cut(head.method), host: cut(head.host), target: cut(this.#shown(head.target)) };
    const { tally, protocol, bytesIn, bodyIn, bytesOut, bodyOut } = trace;
    return quoted({
      time: new Date().toISOString(),
      msg: 'request',
      request: id,
      client: realClient(head, client, this.#trust),
      scheme: client.scheme,
      ...(trace.readable ? read : {}),
      protocol,
      status,
      bytesIn,
      bodyIn,
      bytesOut,
      bodyOut,
      ...rounded(trace.stages(endedAt)),
      revision: tally?.revision,
      hash: tally?.hash,
      container: tally?.id.slice(0, 8),
      retries: trace.retries > 0 ? trace.retries : undefined,
      error: code ?? undefined,
      limit: code === null ? undefined : DECIDED_BY[code],
      referer: referer === null ? undefined : cut(this.#shown(referer)),
      agent: cut(firstValue(head, 'user-agent')),
      cut: longest === Infinity ? undefined : true,
    });
  }

  #shown(target: string): string {
    if (this.#query) return target;
    const at = target.search(/[?#]/);
    return at === -1 ? target : target.slice(0, at);
  }
}

/** The line that says how many lines are missing. */
export function linesLost(lines: number): string {
  return quoted({ time: new Date().toISOString(), msg: 'access log lines were lost', lines });
}

/** To the microsecond, without stages that were not reached. */
function rounded(stages: Stages): Record<string, number> {
  const result: Record<string, number> = {};
  for (const stage of STAGES) {
    const ms = stages[stage];
    if (ms !== null) result[stage] = Math.round(ms * 1_000) / 1_000;
  }
  return result;
}

/** As a line of JSON; what terminals may take for commands is written as an escape too. */
function quoted(entry: object): string {
  return `${JSON.stringify(entry).replace(/[\u007f-\u009f\u2028\u2029]/g, escaped)}\n`;
}

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}
