import { type ChildProcess, execFile, fork } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Cleanup } from '../test/support/processes.ts';
import { quantile } from './statistics.ts';

const run = promisify(execFile);

/** Clients that ask again as soon as they have their answer. */
export interface Load {
  /**
   * `autocannon` keeps its connections; `new-connections` opens one for each request; `wrk` and `h2load` (HTTP/2) are
   * the programs of these names.
   */
  driver: 'autocannon' | 'new-connections' | 'wrk' | 'h2load';
  connections: number;
  path: string;
  headers?: Record<string, string>;
  /** Bytes of a POST; without it, GET. */
  upload?: number;
  /** HTTP/1.0, with `new-connections` only. */
  http10?: boolean;
}

/** Where it goes. */
export interface Target {
  /** `host:port`. */
  address: string;
  tls: boolean;
}

export interface LoadResult {
  /** Answers, all of them: what the processor time is divided by. */
  requests: number;
  /** Answers per second. */
  rate: number;
  /** Of the answers, in ms; null when the driver does not tell. */
  p50: number | null;
  p99: number | null;
  /** Connections that failed, and answers without a status of 200. */
  failed: number;
}

/** What the process that makes load is asked to do. */
export type Job =
  | { do: 'load'; load: Load; target: Target; ms: number }
  | { do: 'hold'; target: Target; path: string; connections: number }
  | { do: 'release' };

/** To a `hold`: connections that were answered and stay open, and those that were not. */
export interface Held {
  open: number;
  failed: number;
}

export type Reply = { id: number } & ({ value: LoadResult | Held | null } | { error: string });

/** TLS is the same for all: what clients offer decides, and not what each server likes best. */
export const TLS_OFFER = { ciphers: 'TLS_AES_128_GCM_SHA256', ecdhCurve: 'X25519', minVersion: 'TLSv1.3' } as const;

/** A process of its own that makes load, so that it has a processor to itself if there is one. */
export class LoadProcess {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  #lastId = 0;

  constructor(cleanup: Cleanup) {
    this.#child = fork(join(import.meta.dirname, 'load-process.ts'), {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    cleanup.after(() => void this.#child.kill('SIGKILL'));
    this.#child.on('message', (reply: Reply) => {
      const waiting = this.#waiting.get(reply.id);
      this.#waiting.delete(reply.id);
      if ('error' in reply) waiting?.reject(new Error(reply.error));
      else waiting?.resolve(reply.value);
    });
    this.#child.once('exit', (code, signal) => {
      for (const waiting of this.#waiting.values()) waiting.reject(new Error(`the load ended with ${code ?? signal}`));
    });
  }

  /** Rejects when the load can't be made; failed requests are part of the result. */
  async load(load: Load, target: Target, seconds: number): Promise<LoadResult> {
    if (load.driver === 'wrk') return wrk(load, target, seconds);
    if (load.driver === 'h2load') return h2load(load, target, seconds);
    return this.#ask<LoadResult>({ do: 'load', load, target, ms: seconds * 1_000 });
  }

  /** Opens connections that are idle after one request each, until `release`. */
  async hold(target: Target, path: string, connections: number): Promise<Held> {
    return this.#ask<Held>({ do: 'hold', target, path, connections });
  }

  async release(): Promise<void> {
    await this.#ask({ do: 'release' });
  }

  async #ask<T>(job: Job): Promise<T> {
    const waiting = Promise.withResolvers<unknown>();
    const id = ++this.#lastId;
    this.#waiting.set(id, waiting);
    this.#child.send({ id, job });
    return (await waiting.promise) as T;
  }
}

export function urlOf({ address, tls }: Target, path: string): string {
  return `${tls ? 'https' : 'http'}://${address}${path}`;
}

/** Programs of `load` that run as far as their own time; when one hangs, it is ended. */
async function output(command: string, args: string[], seconds: number): Promise<string> {
  const limits = { timeout: (seconds + 30) * 1_000, killSignal: 'SIGKILL', maxBuffer: 2 ** 24 } as const;
  return (await run(command, args, limits)).stdout;
}

function headerArgs(headers: Record<string, string> = {}): string[] {
  return Object.entries(headers).flatMap(([name, value]) => ['-H', `${name}: ${value}`]);
}

async function wrk(load: Load, target: Target, seconds: number): Promise<LoadResult> {
  const size = ['-t', '1', '-c', String(load.connections), '-d', `${Math.ceil(seconds)}s`];
  const args = [...size, '--latency', ...headerArgs(load.headers), urlOf(target, load.path)];
  return wrkResult(await output('wrk', args, seconds));
}

/** Reads what `wrk --latency` prints. Throws when that is something else. */
export function wrkResult(text: string): LoadResult {
  const [, requests] = /^ +(\d+) requests in /m.exec(text) ?? [];
  const [, rate] = /^Requests\/sec: +([\d.]+)/m.exec(text) ?? [];
  if (requests === undefined || rate === undefined) throw new Error(`wrk said: ${text}`);
  const socketErrors =
    /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(text)?.slice(1) ?? [];
  const otherStatus = /Non-2xx or 3xx responses: (\d+)/.exec(text)?.[1] ?? 0;
  const scale: Record<string, number> = { us: 0.001, ms: 1, s: 1_000, m: 60_000 };
  const percentile = (name: string) => {
    const [, value, unit = ''] = new RegExp(`^ +${name}(?:\\.0+)?% +([\\d.]+)(us|ms|s|m)$`, 'm').exec(text) ?? [];
    return value === undefined ? null : Number(value) * (scale[unit] ?? NaN);
  };
  return {
    requests: Number(requests),
    rate: Number(rate),
    p50: percentile('50'),
    p99: percentile('99'),
    failed: [...socketErrors, otherStatus].reduce<number>((sum, each) => sum + Number(each), 0),
  };
}

async function h2load(load: Load, target: Target, seconds: number): Promise<LoadResult> {
  const folder = mkdtempSync(join(tmpdir(), 'h2load-'));
  try {
    const log = join(folder, 'log');
    const size = ['-c', String(load.connections), '-m', '10', '-D', `${Math.ceil(seconds)}`];
    const args = [...size, ...headerArgs(load.headers), `--log-file=${log}`, urlOf(target, load.path)];
    const text = await output('h2load', args, seconds);
    return h2loadResult(text, readFileSync(log, 'utf8'));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Reads what h2load prints, and its log: start (µs), status, duration (µs). Throws when the output is something else. */
export function h2loadResult(text: string, log: string): LoadResult {
  const [, rate] = /^finished in [\d.]+\w*, ([\d.]+) req\/s/m.exec(text) ?? [];
  const [, done] = /^requests:.* (\d+) done,/m.exec(text) ?? [];
  const [, failed] = /, (\d+) failed,/.exec(text) ?? [];
  const [, ok] = /^status codes: (\d+) 2xx/m.exec(text) ?? [];
  if (rate === undefined || done === undefined || failed === undefined || ok === undefined)
    throw new Error(`h2load said: ${text}`);
  const durations = log.split('\n').flatMap((line) => {
    const [, , duration] = line.split('\t');
    return duration === undefined ? [] : [Number(duration) / 1_000];
  });
  return {
    requests: Number(done),
    rate: Number(rate),
    p50: quantile(durations, 0.5),
    p99: quantile(durations, 0.99),
    // Answers of another status may be among those that it calls successes.
    failed: Math.max(Number(failed), Number(done) - Number(ok)),
  };
}
