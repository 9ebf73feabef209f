import { type ChildProcess, fork } from 'node:child_process';
import { join } from 'node:path';
import { ProcessRuntime } from '../../src/manager/process-runtime.ts';
import type { FromEngine } from '../../src/engine-messages.ts';
import { endProcess, exitOf } from './processes.ts';

const ENGINE = join(import.meta.dirname, '../../src/engine.ts');

/** src/engine.ts as the primary runs it, with the test in the primary's place. */
export class TestEngine {
  readonly #env: Record<string, string>;
  readonly #runtimes = new Set<ProcessRuntime>();
  #process: ChildProcess;

  /** `env`: what its environment is to hold besides what the primary hands on. */
  constructor(env: Record<string, string> = {}) {
    this.#env = { PATH: process.env['PATH'] ?? '', HOME: '/', LANG: 'C.UTF-8', ...env };
    this.#process = this.#fork();
  }

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  /** A client as each manager has one. */
  connect(): ProcessRuntime {
    const runtime = new ProcessRuntime({
      send: (message) => {
        if (this.#process.connected) this.#process.send(message, () => {});
      },
    });
    this.#runtimes.add(runtime);
    return runtime;
  }

  /** Ends it as the end of the primary does; resolves to its exit code. */
  async disconnect(): Promise<number | null> {
    if (this.#process.connected) this.#process.disconnect();
    return (await exitOf(this.#process)).code;
  }

  /** SIGKILL; resolves when it is gone. */
  async kill(): Promise<void> {
    await endProcess(this.#process);
  }

  /** Another one in its place, as the primary makes when it has died. */
  replace(): void {
    this.#process = this.#fork();
  }

  #fork(): ChildProcess {
    const forked = fork(ENGINE, {
      env: this.#env,
      execArgv: [],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    forked.on('message', (message: FromEngine) => {
      for (const runtime of this.#runtimes) runtime.receive(message);
    });
    return forked;
  }
}
