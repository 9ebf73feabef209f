/** Something real that several test files share, started once for the whole run. */
export interface Service {
  /** As it is named in the runner's lines. */
  name: string;
  /**
   * Starts it with all of its files below `dir`. `env` says to the test files where it is. Rejects, with nothing left
   * running, when it does not come up.
   */
  start(dir: string): Promise<StartedService>;
}

export interface StartedService {
  env: Record<string, string>;
  /** Ends its processes, by their ids. */
  stop(): Promise<void>;
}
