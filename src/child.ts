import { type ChildProcess, fork } from 'node:child_process';

/** How a child is started. */
export interface ChildOptions {
  /** Its whole environment. */
  env: Record<string, string>;
  /** Descriptors to inherit; the first is number FIRST_INHERITED_FD in the child. */
  fds: number[];
  execArgv?: string[];
}

/** stdin, stdout, stderr and the message channel come first. */
export const FIRST_INHERITED_FD = 4;

/** A child process with typed messages. */
export class Child<Sent, Received> {
  readonly pid: number;
  readonly startedAt = Date.now();
  readonly #process: ChildProcess;

  /**
   * Forks a module of this program. `onExit` is called exactly once, after the last message, with a text for people:
   * `status 1`, `signal SIGKILL` or why it could not be started.
   */
  constructor(
    module: string,
    options: ChildOptions,
    onMessage: (message: Received) => void,
    onExit: (how: string, clean: boolean) => void,
  ) {
    this.#process = fork(new URL(module, import.meta.url), [], {
      env: options.env,
      execArgv: options.execArgv ?? [],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc', ...options.fds],
    });
    this.pid = this.#process.pid ?? 0;
    this.#process.on('message', (message) => onMessage(message as Received));
    let over = false;
    const end = (how: string, clean: boolean) => {
      if (over) return;
      over = true;
      onExit(how, clean);
    };
    // 'close' comes after the channel has been read to its end, 'exit' may come before its last messages; but after
    // `disconnect` there is no 'close'.
    const ended = (code: number | null, signal: NodeJS.Signals | null) =>
      end(signal === null ? `status ${code}` : `signal ${signal}`, code === 0);
    this.#process.once('close', ended);
    this.#process.once('exit', (code, signal) => {
      if (!this.#process.connected) setImmediate(ended, code, signal);
    });
    this.#process.on('error', (error) => {
      // Only a child that never ran gets no 'close'; other errors (a message that can't be sent) end in one.
      if (this.#process.pid === undefined) end(error.message, false);
    });
  }

  /** A message to a child that is gone is dropped: its end is told by `onExit`. */
  send(message: Sent): void {
    if (this.#process.connected) this.#process.send(message as object, () => {});
  }

  /** Ends it at once. */
  kill(): void {
    this.#process.kill('SIGKILL');
  }

  /** Closes the message channel: the child takes it as the end of the program. */
  disconnect(): void {
    if (this.#process.connected) this.#process.disconnect();
  }
}
