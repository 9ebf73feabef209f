import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { ProcessRuntime } from '../../src/manager/process-runtime.ts';
import type { FromEngine } from '../../src/messages.ts';
import { endProcess } from './processes.ts';

const ENGINE = join(import.meta.dirname, '../../src/engine.ts');

/** src/engine.ts as the primary runs it, with the test in the primary's place. */
export class TestEngine {
  readonly process: ChildProcess;
  readonly #runtimes = new Set<ProcessRuntime>();

  constructor() {
    this.process = fork(ENGINE, {
      // Of the environment that tests have, only what the primary would hand on.
      env: { PATH: process.env['PATH'], HOME: '/', LANG: 'C.UTF-8' },
      execArgv: ['--import', 'tsx'],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.process.on('message', (message: FromEngine) => {
      for (const runtime of this.#runtimes) runtime.receive(message);
    });
  }

  /** A client as each manager has one. */
  connect(): ProcessRuntime {
    const runtime = new ProcessRuntime({
      send: (message) => {
        if (!this.process.connected) throw new Error('the engine is gone');
        this.process.send(message);
      },
    });
    this.#runtimes.add(runtime);
    return runtime;
  }

  /** Ends it as the end of the primary does; resolves to its exit code. */
  async disconnect(): Promise<number | null> {
    const exited = once(this.process, 'exit');
    this.process.disconnect();
    const [code] = (await exited) as [number | null];
    return code;
  }

  async kill(): Promise<void> {
    await endProcess(this.process);
  }
}
