import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { type Answer, type Call, type ListenText, send } from './http.ts';
import { type Cleanup, descendantsOf, killIfThere, type RunningProcess, spawnForTest } from './processes.ts';

const ownBin = join(import.meta.dirname, '../../bin/wunderproxy');

const READY_LIMIT_MS = 60_000;
const LOG_LIMIT_MS = 30_000;
const LAST_WORDS_MS = 2_000;

export interface ProgramOptions {
  /** Options and the three arguments. Listeners that they do not name get free ports of 127.0.0.1. */
  args: string[];
  /** Added to an environment that has nothing but what every program needs. */
  env?: Record<string, string>;
  /** Default: a fresh folder, removed after the test. */
  stateDir?: string;
  /** Default: this tree's. */
  bin?: string;
}

/** A line of the program's log. */
export type LogLine = Record<string, unknown> & { level?: string; role?: string; pid?: number; msg?: string };

/** How a program ended, and what it said. */
export interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** The program ended before it was ready. */
export class StartFailure extends Error {
  readonly ended: Ended;
  constructor(ended: Ended) {
    super(`the program ended with ${ended.code ?? ended.signal}: ${ended.stderr || ended.stdout}`);
    this.ended = ended;
  }
}

/** A process of the program, by what it does. */
export interface ProgramProcess extends RunningProcess {
  role: 'primary' | 'manager' | 'worker' | 'engine' | 'other';
}

/** Spawns the built program and resolves once it is ready. Rejects with StartFailure when it ends before. */
export async function startProgram(t: Cleanup, options: ProgramOptions): Promise<TestProgram> {
  const program = new TestProgram(t, options);
  await program.ready();
  return program;
}

/** Runs the program to its end, which is to come by itself: for command lines that it refuses. */
export async function runProgram(t: Cleanup, options: ProgramOptions): Promise<Ended> {
  return new TestProgram(t, options).ended;
}

const programs = new WeakMap<Cleanup, TestProgram[]>();

/**
 * Kills what this test started. Programs end with their test anyway, but hooks run in the order in which they were
 * registered: who removes what a program works with ends it first.
 */
export async function endPrograms(t: Cleanup): Promise<void> {
  await Promise.all((programs.get(t) ?? []).map(async (program) => program.kill()));
}

/** The program as people start it. Ends with the test, with everything below it. */
export class TestProgram {
  /** Everything that it logged, in order. */
  readonly log: LogLine[] = [];
  /** Resolves when it has ended, however. */
  readonly ended: Promise<Ended>;
  readonly pid: number;
  /** From its `ready` line. */
  proxy: ListenText = '';
  /** Empty without TLS. */
  tls: ListenText = '';
  api: ListenText = '';

  readonly #child: ChildProcess;
  readonly #onLine = new Set<() => void>();
  #stdout = '';
  #stderr = '';

  /** Use startProgram or runProgram. */
  constructor(t: Cleanup, { args, env = {}, stateDir, bin = ownBin }: ProgramOptions) {
    const state = stateDir ?? mkdtempSync(join(tmpdir(), 'state-'));
    const given = (option: string) => args.some((arg) => arg === option || arg.startsWith(`${option}=`));
    const defaults = { '--proxy': '127.0.0.1:0', '--tls': '127.0.0.1:0', '--api': '127.0.0.1:0', '--state-dir': state };
    const added = Object.entries(defaults).filter(([option]) => !given(option));
    this.#child = spawnForTest(t, bin, [...added.flat(), ...args], {
      env: { ...bareEnvironment(), ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      // A group of its own: Ctrl-C in a terminal is the runner's business.
      detached: true,
    });
    this.pid = this.#child.pid ?? 0;
    this.ended = this.#follow();
    programs.set(t, [...(programs.get(t) ?? []), this]);
    t.after(async () => {
      await this.#endAll();
      if (stateDir === undefined) rmSync(state, { recursive: true, force: true });
    });
  }

  /** Resolves once every listener is open. */
  async ready(): Promise<void> {
    const line = await this.waitForLog(({ msg }) => msg === 'ready', { limit: READY_LIMIT_MS }).catch(
      async (error: unknown) => {
        // Still running: it hangs, which is for the test's own message to say.
        if (this.#child.exitCode === null && this.#child.signalCode === null) throw error;
        throw new StartFailure(await this.ended);
      },
    );
    this.proxy = String(line.proxy);
    this.tls = String(line.tls ?? '');
    this.api = String(line.api);
  }

  /**
   * The first log line that matches, from line number `from` on (default: all, also those that came already). Rejects
   * after `limit` ms and when the program ends without having written one.
   */
  async waitForLog(
    matches: (line: LogLine) => boolean,
    { from = 0, limit = LOG_LIMIT_MS }: { from?: number; limit?: number } = {},
  ): Promise<LogLine> {
    const { promise, resolve, reject } = Promise.withResolvers<LogLine>();
    const look = () => {
      const found = this.log.slice(from).find(matches);
      if (found) resolve(found);
    };
    const last = () =>
      this.log
        .slice(-5)
        .map((line) => JSON.stringify(line))
        .join('\n');
    const timer = setTimeout(() => {
      reject(new Error(`no such line within ${limit} ms; the last ones:\n${last()}`));
    }, limit);
    void this.ended.then(({ code, signal, stderr }) => {
      reject(new Error(`the program ended with ${code ?? signal} before such a line: ${stderr}\n${last()}`));
    });
    this.#onLine.add(look);
    look();
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#onLine.delete(look);
    }
  }

  /** Asks the application, through the proxy. */
  async get(path: string, call?: Call): Promise<Answer> {
    return send(this.proxy, path, call);
  }

  /** Calls the manager. */
  async call(method: string, path: string, body?: string, headers?: Record<string, string>): Promise<Answer> {
    return send(this.api, path, { method, ...(body === undefined ? {} : { body }), ...(headers && { headers }) });
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** SIGTERM, and how it ended. */
  async stop(): Promise<Ended> {
    this.signal('SIGTERM');
    return this.ended;
  }

  /** SIGKILL for all of its processes at once, as when the machine loses power; what runs in containers goes on. */
  async kill(): Promise<void> {
    const all = this.processes().filter(({ role }) => role !== 'other');
    // The primary first, so that it replaces nobody.
    for (const { pid } of all) killIfThere(pid, 'SIGKILL');
    await this.ended;
  }

  /** Its processes that run now, the primary first. */
  processes(): ProgramProcess[] {
    return descendantsOf(this.pid).map((each) => ({ ...each, role: this.#roleOf(each) }));
  }

  /** The process ids of a role. */
  pids(role: ProgramProcess['role']): number[] {
    return this.processes().flatMap((each) => (each.role === role ? [each.pid] : []));
  }

  #roleOf({ pid, command }: RunningProcess): ProgramProcess['role'] {
    if (pid === this.pid) return 'primary';
    const [, role] = /(?:wunderproxy: |\/)(manager|worker|engine)(?:\.js)?(?: |$)/.exec(command) ?? [];
    return (role as ProgramProcess['role'] | undefined) ?? 'other';
  }

  async #follow(): Promise<Ended> {
    const { stdout, stderr } = this.#child;
    stderr?.on('data', (chunk: Buffer) => (this.#stderr += chunk.toString()));
    if (stdout) createInterface({ input: stdout }).on('line', (line) => this.#take(line));
    const { promise, resolve } = Promise.withResolvers<void>();
    const closed = Promise.withResolvers<void>();
    this.#child.once('error', (error) => {
      this.#stderr += error.message;
      resolve();
    });
    this.#child.once('exit', () => resolve());
    // Its last words may come after its end, but a child of it that lives on may keep the pipe open.
    this.#child.once('close', () => closed.resolve());
    await promise;
    await Promise.race([closed.promise, delay(LAST_WORDS_MS, undefined, { ref: false })]);
    return {
      code: this.#child.exitCode,
      signal: this.#child.signalCode,
      stdout: this.#stdout,
      stderr: this.#stderr,
    };
  }

  #take(line: string): void {
    this.#stdout += `${line}\n`;
    try {
      this.log.push(JSON.parse(line) as LogLine);
    } catch {
      this.log.push({ msg: line });
    }
    for (const each of this.#onLine) each();
  }

  /** Also what the program would have ended itself, had it been asked. */
  async #endAll(): Promise<void> {
    for (const { pid } of this.processes()) killIfThere(pid, 'SIGKILL');
    await this.ended;
  }
}

function bareEnvironment(): Record<string, string> {
  const names = ['PATH', 'HOME', 'LANG', 'TMPDIR'];
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = process.env[name];
      return value === undefined ? [] : [[name, value]];
    }),
  );
}
