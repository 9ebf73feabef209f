import type { Address } from '../messages.ts';
import type { LaunchConfig } from './launch-config.ts';

/**
 * How far a container has come, as the engine itself keeps it (never wunderproxy's memory alone), so that a start after a
 * crash knows what to do with what it finds:
 *
 * - `launching`: its launch has not ended; after a crash it is removed.
 * - `launched`: it was healthy; it is in service or waits for its switch.
 * - `superseded`: another took its place, it drains; after a crash it is stopped and removed.
 */
export type ContainerMark = 'launching' | 'launched' | 'superseded';

/** A container of this app, as the engine reports it. */
export interface ContainerInfo {
  id: string;
  hash: string;
  revision: string;
  image: string;
  mark: ContainerMark;
  running: boolean;
  /** Set once it has exited for good. */
  exitCode: number | null;
  /** How its last run ended, also while its restart policy waits; null while it runs, and before. */
  lastExit: LastExit | null;
  /** Null when it does not run or listens nowhere that this host reaches. */
  address: Address | null;
  /** ISO 8601, when the engine last started it. */
  startedAt: string | null;
}

/** How a run of a container ended. */
export interface LastExit {
  status: number;
  /** The kernel killed it, because it took more memory than `HostConfig` gives it. */
  outOfMemory: boolean;
}

/** For people, behind "it" or "the container". */
export function exitInWords({ status, outOfMemory }: LastExit): string {
  return outOfMemory ? 'ran out of memory and was killed' : `exited with status ${status}`;
}

/** What `create` is given. */
export interface CreateRequest {
  hash: string;
  config: LaunchConfig;
  /** Environment for every container (`--cfg`); the config's own wins. */
  environment: Record<string, string>;
  /** Aborts pulling and creating; nothing is left behind. */
  signal: AbortSignal;
  /** Told what goes on, for log and progress: `pulling …`, `loading …`, `creating …`. */
  onProgress: (text: string, phase: 'image' | 'create') => void;
}

/**
 * Runs containers. All methods throw WunderproxyError: `runtime_unavailable` (at once, not after a hang) when the engine
 * can't be reached, else what each says. Those that name a container that is gone resolve as if it had been done.
 */
export interface ContainerRuntime {
  readonly kind: 'docker' | 'process';
  /** Null when the engine answers, else why it does not. Kept up to date in the background. */
  readonly problem: string | null;
  /**
   * Starts watching the engine. `onChange` is called within a second of any change of a container of this app (died,
   * restarted, new address, removed) with its id, and with null when everything may have changed (the engine came back).
   */
  watch(onChange: (id: string | null) => void): void;
  /** All containers with this app's label, in any state. */
  list(): Promise<ContainerInfo[]>;
  /** The container, or null when it is gone. */
  inspect(id: string): Promise<ContainerInfo | null>;
  /**
   * Creates a container marked `launching` and resolves to its id; gets its image first where needed.
   * Throws `image_unavailable`, `launch_failed` (the engine's own words in `message`).
   */
  create(request: CreateRequest): Promise<string>;
  /** Throws `launch_failed`, also when the container is gone. */
  start(id: string): Promise<void>;
  mark(id: string, mark: ContainerMark): Promise<void>;
  /** The last lines of what it wrote to stdout and stderr, oldest first; empty when they can't be had. */
  logs(id: string, lines: number): Promise<string[]>;
  /**
   * The last lines that have ended, then each as it ends, until the container has exited or `signal` aborts. Safe to print;
   * lines may be missing if they are not taken as fast as they come.
   */
  follow(id: string, lines: number, signal: AbortSignal): AsyncGenerator<string>;
  /** SIGTERM (or the image's StopSignal), then SIGKILL after `timeoutMs`. Resolves when it has exited. */
  stop(id: string, timeoutMs: number): Promise<void>;
  /** Removes it with its anonymous volumes, running or not. */
  remove(id: string): Promise<void>;
  /** Stops watching; containers keep running. */
  close(): void;
}
