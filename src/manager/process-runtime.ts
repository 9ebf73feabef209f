import { randomInt } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { messageOf } from '../errors.ts';
import type { EngineLines, EngineProcess, FromEngine, ToEngine } from '../engine-messages.ts';
import { pause } from './health.ts';
import type { LaunchConfig } from './launch-config.ts';
import { launchCancelled, launchFailed, unavailable } from './runtime-errors.ts';
import type { ContainerInfo, ContainerMark, ContainerRuntime, CreateRequest } from './runtime.ts';

/** An engine that answers no call within this time is out of reach, in ms. */
const CALL_LIMIT = 5_000;
/** What `stop` may take longer than the process is given, in ms. */
const STOP_MARGIN = 5_000;
/** How often the engine is looked after, in ms: it may have been replaced, and its children with it. */
const LOOK_INTERVAL = 1_000;

/** How often the engine is asked for further lines of a log that somebody follows, in ms. */
const FOLLOW_INTERVAL = 250;

/** A call without its number. Distributes over the union. */
type Call = ToEngine extends infer M ? (M extends ToEngine ? Omit<M, 'type' | 'call'> : never) : never;

interface Pending {
  resolve: (result: unknown) => void;
  reject: (error: Error) => void;
}

/** The engine's own words about a call that it could not carry out. */
class EngineFailure extends Error {}

/**
 * Containers that are child processes of this program's engine (`src/engine.ts`). This is the engine's client: it talks
 * through `send`, and is to be handed what the engine says by `receive`.
 */
export class ProcessRuntime implements ContainerRuntime {
  readonly kind = 'process';
  readonly #send: (message: ToEngine) => void;
  readonly #pending = new Map<number, Pending>();
  /** A predecessor of this manager may have calls under way: their answers are not to be taken for ours. */
  #call = randomInt(2 ** 40);
  #problem: string | null = null;
  #onChange: (id: string | null) => void = () => {};
  #looking: NodeJS.Timeout | null = null;
  #last = new Map<string, EngineProcess>();

  constructor(options: { send: (message: ToEngine) => void }) {
    this.#send = options.send;
  }

  get problem(): string | null {
    return this.#problem;
  }

  /** Takes a message of the engine. */
  receive(message: FromEngine): void {
    if (message.type === 'changed') {
      this.#onChange(message.id);
      return;
    }
    const pending = this.#pending.get(message.call);
    this.#pending.delete(message.call);
    if ('error' in message) pending?.reject(new EngineFailure(message.error));
    else pending?.resolve(message.result);
  }

  watch(onChange: (id: string | null) => void): void {
    this.#onChange = onChange;
    this.#looking = setTimeout(() => void this.#look(), LOOK_INTERVAL);
  }

  close(): void {
    if (this.#looking) clearTimeout(this.#looking);
    this.#looking = null;
    this.#onChange = () => {};
  }

  async list(): Promise<ContainerInfo[]> {
    return (await this.#processes()).map(containerInfo);
  }

  async inspect(id: string): Promise<ContainerInfo | null> {
    return (await this.list()).find((container) => container.id === id) ?? null;
  }

  async create(request: CreateRequest): Promise<string> {
    const { hash, config, environment, signal, onProgress } = request;
    const argv = commandLine(config);
    if (argv.length === 0) throw launchFailed('ContainerConfig names no command: Cmd or Entrypoint is needed.');
    if (signal.aborted) throw launchCancelled(signal);
    onProgress('creating a process', 'create');
    const id = (await this.#launch({
      method: 'create',
      hash,
      revision: config.Revision,
      argv,
      env: { ...environment, ...parseEnvironment(config.ContainerConfig.Env ?? []) },
      cwd: config.ContainerConfig.WorkingDir || null,
    })) as string;
    if (!signal.aborted) return id;
    await this.remove(id);
    throw launchCancelled(signal);
  }

  async start(id: string): Promise<void> {
    await this.#launch({ method: 'start', id });
  }

  async mark(id: string, mark: ContainerMark): Promise<void> {
    await this.#ask({ method: 'mark', id, mark });
  }

  async logs(id: string, lines: number): Promise<string[]> {
    try {
      return (await this.#ask({ method: 'logs', id, lines })) as string[];
    } catch {
      return [];
    }
  }

  async *follow(id: string, lines: number, signal: AbortSignal): AsyncGenerator<string> {
    let ended: number | null = null;
    while (!signal.aborted) {
      const news = (await this.#ask({ method: 'lines-since', id, ended, lines })) as EngineLines | null;
      if (news === null) return;
      yield* news.lines;
      if (!news.running) return;
      ended = news.ended;
      await pause(FOLLOW_INTERVAL, signal);
    }
  }

  async stop(id: string, timeoutMs: number): Promise<void> {
    await this.#ask({ method: 'stop', id, timeoutMs }, timeoutMs + STOP_MARGIN);
  }

  async remove(id: string): Promise<void> {
    await this.#ask({ method: 'remove', id });
  }

  async #processes(): Promise<EngineProcess[]> {
    return (await this.#ask({ method: 'list' })) as EngineProcess[];
  }

  async #launch(call: Call): Promise<unknown> {
    return this.#ask(call, CALL_LIMIT, launchFailed);
  }

  /** `failure` says what it means when the engine answers that it can't. */
  async #ask(call: Call, limitMs = CALL_LIMIT, failure = unavailable): Promise<unknown> {
    if (this.#problem !== null) throw unavailable(this.#problem);
    try {
      return await this.#request(call, limitMs);
    } catch (error) {
      throw error instanceof EngineFailure ? failure(error.message) : error;
    }
  }

  async #request(call: Call, limitMs: number): Promise<unknown> {
    const number = ++this.#call;
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise((resolve, reject) => {
        this.#pending.set(number, { resolve, reject });
        timer = setTimeout(() => {
          reject(unavailable(`The process engine did not answer within ${limitMs / 1_000} s.`));
        }, limitMs);
        try {
          this.#send({ type: 'call', call: number, ...call });
        } catch (error) {
          reject(unavailable(`The process engine can not be reached: ${messageOf(error)}`));
        }
      });
    } finally {
      clearTimeout(timer);
      this.#pending.delete(number);
    }
  }

  /** Finds out whether the engine answers, and what has changed without its saying so. */
  async #look(): Promise<void> {
    try {
      const processes = (await this.#request({ method: 'list' }, CALL_LIMIT)) as EngineProcess[];
      const current = new Map(processes.map((each) => [each.id, each]));
      const recovered = this.#problem !== null;
      this.#problem = null;
      if (recovered) this.#onChange(null);
      else for (const id of changedIds(this.#last, current)) this.#onChange(id);
      this.#last = current;
    } catch {
      this.#setProblem('The process engine does not answer.');
    }
    if (this.#looking) this.#looking = setTimeout(() => void this.#look(), LOOK_INTERVAL);
  }

  #setProblem(problem: string): void {
    this.#problem = problem;
    for (const { reject } of this.#pending.values()) reject(unavailable(problem));
    this.#pending.clear();
  }
}

/** Docker's `Entrypoint` and `Cmd` as an argument list; a plain string is a shell's command line. */
export function commandLine(config: LaunchConfig): string[] {
  const { Entrypoint, Cmd } = config.ContainerConfig;
  const shell = (text: string) => (text === '' ? [] : ['/bin/sh', '-c', text]);
  // As in a Dockerfile: an entrypoint in shell form takes no arguments.
  if (typeof Entrypoint === 'string' && Entrypoint !== '') return shell(Entrypoint);
  return [...(Entrypoint || []), ...(typeof Cmd === 'string' ? shell(Cmd) : (Cmd ?? []))];
}

function parseEnvironment(lines: string[]): Record<string, string> {
  const entries = lines.filter((line) => line.includes('='));
  return Object.fromEntries(
    entries.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
}

function containerInfo(child: EngineProcess): ContainerInfo {
  return {
    id: child.id,
    hash: child.hash,
    revision: child.revision,
    image: 'process',
    mark: child.mark,
    running: child.running,
    exitCode: child.exitCode,
    lastExit: child.exitCode === null ? null : { status: child.exitCode, outOfMemory: false },
    address: child.running ? { host: '127.0.0.1', port: child.port } : null,
    startedAt: child.startedAt === 0 ? null : new Date(child.startedAt).toISOString(),
  };
}

function changedIds(before: Map<string, EngineProcess>, after: Map<string, EngineProcess>): string[] {
  const ids = new Set([...before.keys(), ...after.keys()]);
  return [...ids].filter((id) => !isDeepStrictEqual(before.get(id), after.get(id)));
}
