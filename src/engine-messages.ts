/** A child process of the `process` runtime, as the engine reports it. */
export interface EngineProcess {
  id: string;
  pid: number | null;
  hash: string;
  revision: string;
  /** See ContainerMark in manager/runtime.ts. */
  mark: 'launching' | 'launched' | 'superseded';
  port: number;
  running: boolean;
  exitCode: number | null;
  startedAt: number;
}

/**
 * From the manager to the engine (by way of the primary): calls of the `process` runtime, answered with a `reply` of the
 * same number.
 */
export type ToEngine = { type: 'call'; call: number } & (
  | { method: 'list' }
  | {
      method: 'create';
      hash: string;
      revision: string;
      argv: string[];
      env: Record<string, string>;
      cwd: string | null;
    }
  | { method: 'start'; id: string }
  | { method: 'mark'; id: string; mark: EngineProcess['mark'] }
  | { method: 'logs'; id: string; lines: number }
  /** What it has written since so many lines had ended; null: the last `lines`. Answered with EngineLines or null. */
  | { method: 'lines-since'; id: string; ended: number | null; lines: number }
  | { method: 'stop'; id: string; timeoutMs: number }
  | { method: 'remove'; id: string }
);

/** Lines that a child has written, and how many have ended so far. */
export interface EngineLines {
  lines: string[];
  ended: number;
  running: boolean;
}

/** From the engine. */
export type FromEngine =
  | { type: 'reply'; call: number; result: unknown }
  | { type: 'reply'; call: number; error: string }
  | { type: 'changed'; id: string };
