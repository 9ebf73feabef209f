import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { statSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { constants } from 'node:os';
import { deathSignalPrefix, findCommand } from './engine-command.ts';
import { LogTail } from './log-tail.ts';
import type { EngineLines, EngineProcess } from './engine-messages.ts';

/** Lines of output that are kept of each child. */
const KEPT_LINES = 200;
/** How long after its exit a child's output is still waited for, in ms. */
const OUTPUT_GRACE = 250;
/** Variables of the program's own environment that children get too: nothing that is worth stealing. */
const INHERITED = ['PATH', 'HOME', 'LANG', 'TZ'] as const;

/** What a child is made from. */
export interface ChildRecipe {
  hash: string;
  revision: string;
  argv: string[];
  env: Record<string, string>;
  cwd: string | null;
}

interface Child {
  readonly info: EngineProcess;
  readonly recipe: ChildRecipe;
  readonly output: LogTail;
  exited: Promise<void>;
}

/**
 * The application's child processes, each the leader of a process group and session of its own: a signal reaches all that
 * it has started, and a terminal's Ctrl-C none of them.
 *
 * Methods that name a child that is gone do nothing, except `start`. Errors are plain Errors with a message for a person.
 */
export class ChildProcesses {
  readonly #children = new Map<string, Child>();
  readonly #listener: { changed: (id: string) => void };

  constructor(listener: { changed: (id: string) => void }) {
    this.#listener = listener;
  }

  list(): EngineProcess[] {
    return [...this.#children.values()].map((child) => child.info);
  }

  /** Resolves to the id of a child that is yet to be started. It has a port of 127.0.0.1 for its own, as `PORT`. */
  async create(recipe: ChildRecipe): Promise<string> {
    const id = randomBytes(32).toString('hex');
    const info: EngineProcess = {
      id,
      pid: null,
      hash: recipe.hash,
      revision: recipe.revision,
      mark: 'launching',
      port: await this.#freePort(),
      running: false,
      exitCode: null,
      startedAt: 0,
    };
    const output = new LogTail(KEPT_LINES);
    this.#children.set(id, { info, recipe, output, exited: Promise.resolve() });
    return id;
  }

  /** Throws when the command does not exist or can't be run. */
  start(id: string): void {
    const child = this.#children.get(id);
    if (!child) throw new Error('The process is gone.');
    if (child.info.running) return;
    const env: Record<string, string> = { ...ownEnvironment(), ...child.recipe.env, PORT: String(child.info.port) };
    const cwd = child.recipe.cwd ?? process.cwd();
    if (!isDirectory(cwd)) throw new Error(`The working directory ${cwd} does not exist.`);
    const [command = '', ...args] = child.recipe.argv;
    const path = findCommand(command, cwd, env['PATH'] ?? '');
    if (path === null) throw new Error(`The command ${command} does not exist or can not be executed.`);
    this.#spawn(child, [...deathSignalPrefix(), path, ...args], cwd, env);
  }

  mark(id: string, mark: EngineProcess['mark']): void {
    const child = this.#children.get(id);
    if (child) child.info.mark = mark;
  }

  logs(id: string, lines: number): string[] {
    return this.#children.get(id)?.output.last(lines) ?? [];
  }

  /** What it has written since so many lines had ended; null: the last `lines` of them. Null when it is gone. */
  linesSince(id: string, ended: number | null, lines: number): EngineLines | null {
    const child = this.#children.get(id);
    if (!child) return null;
    const { output, info } = child;
    return { lines: output.since(ended ?? output.ended - lines), ended: output.ended, running: info.running };
  }

  /** SIGTERM to all of its group, SIGKILL after `timeoutMs`. Resolves when it has exited. */
  async stop(id: string, timeoutMs: number): Promise<void> {
    const child = this.#children.get(id);
    if (!child) return;
    signalGroup(child, 'SIGTERM');
    const timer = setTimeout(() => {
      signalGroup(child, 'SIGKILL');
    }, timeoutMs);
    await child.exited;
    clearTimeout(timer);
  }

  async remove(id: string): Promise<void> {
    const child = this.#children.get(id);
    if (!child) return;
    signalGroup(child, 'SIGKILL');
    await child.exited;
    if (this.#children.delete(id)) this.#listener.changed(id);
  }

  /** Stops all children, as `stop` does. */
  async stopAll(timeoutMs: number): Promise<void> {
    await Promise.all([...this.#children.keys()].map((id) => this.stop(id, timeoutMs)));
  }

  /** Ends all children at once; for the engine's own end. */
  killAll(): void {
    for (const child of this.#children.values()) signalGroup(child, 'SIGKILL');
  }

  #spawn(child: Child, argv: string[], cwd: string, env: Record<string, string>): void {
    const [file = '', ...args] = argv;
    const spawned = spawn(file, args, { cwd, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    // Asynchronous only where the system lacks resources; what can be foreseen was looked at before.
    spawned.on('error', (error) => {
      child.output.write('stderr', Buffer.from(`${error.message}\n`));
    });
    if (spawned.pid === undefined) throw new Error('The process can not be started: the system refuses.');
    const { info } = child;
    Object.assign(info, { pid: spawned.pid, running: true, exitCode: null, startedAt: Date.now() });
    spawned.stdout.on('data', (chunk: Buffer) => {
      child.output.write('stdout', chunk);
    });
    spawned.stderr.on('data', (chunk: Buffer) => {
      child.output.write('stderr', chunk);
    });
    child.exited = ended(spawned, () => {
      // What it leaves behind goes with it, as everything in a container goes with its first process.
      signalGroup(child, 'SIGKILL');
      info.pid = null;
    }).then((exitCode) => {
      Object.assign(info, { running: false, exitCode });
      this.#listener.changed(info.id);
    });
    this.#listener.changed(info.id);
  }

  /** A port that nothing listens on now and that no other child was given. */
  async #freePort(): Promise<number> {
    const taken = new Set(this.list().map(({ port }) => port));
    for (let attempt = 0; attempt < 100; attempt++) {
      const port = await new Promise<number>((resolve, reject) => {
        const probe = createServer();
        probe.once('error', reject);
        probe.listen(0, '127.0.0.1', () => {
          const { port } = probe.address() as AddressInfo;
          probe.close(() => {
            resolve(port);
          });
        });
      });
      if (!taken.has(port)) return port;
    }
    throw new Error('There is no free port on 127.0.0.1.');
  }
}

function signalGroup(child: Child, signal: 'SIGTERM' | 'SIGKILL'): void {
  if (child.info.pid === null) return;
  try {
    process.kill(-child.info.pid, signal);
  } catch {
    // ESRCH: it has ended meanwhile.
  }
}

/** Resolves to the exit code once the last output is in as well; `exited` is called before. */
async function ended(child: ChildProcess, exited: () => void): Promise<number> {
  return new Promise((resolve) => {
    child.once('exit', (code, signal) => {
      exited();
      const finish = () => {
        clearTimeout(timer);
        child.stdout?.destroy();
        child.stderr?.destroy();
        // As Docker and shells count: 128 and the signal's number.
        resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal]));
      };
      // A process that left the group may hold on to the pipes.
      const timer = setTimeout(finish, OUTPUT_GRACE);
      child.once('close', finish);
    });
  });
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

function ownEnvironment(): Record<string, string> {
  const inherited = INHERITED.map((key) => [key, process.env[key]] as const);
  return Object.fromEntries(inherited.filter((entry): entry is [(typeof entry)[0], string] => entry[1] !== undefined));
}
