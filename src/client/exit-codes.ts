/** How a command ends, for scripts (README: "Deploy with one command"). */
export const EXIT = {
  done: 0,
  /** It failed, and every machine serves what it served before. */
  failed: 1,
  usage: 2,
  /** It failed, and not every machine serves what it served before. */
  mixed: 3,
  locked: 4,
  unreachable: 5,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** What keeps a command from being carried out; its message is meant for people. */
export class CommandFailure extends Error {
  readonly exitCode: ExitCode;
  constructor(exitCode: ExitCode, message: string) {
    super(message);
    this.name = 'CommandFailure';
    this.exitCode = exitCode;
  }
}
