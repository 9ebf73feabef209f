import { type ErrorCode, WunderproxyError } from '../errors.ts';
import type { DeployTally } from '../messages.ts';

/** What is counted of deployments; `certificate`: orders at the ACME authority. */
export type DeployEvent = 'launch' | 'switch' | 'rollback' | 'drain' | 'certificate';

/** How often deployments went well and how often not, since the program started: what earlier managers counted included. */
export class DeployCounts {
  readonly #counts: DeployTally;
  readonly #onChange: (counts: DeployTally) => void;

  /** @param onChange is given all counts whenever one has changed, to keep them for the next manager */
  constructor(earlier: DeployTally = {}, onChange: (counts: DeployTally) => void = () => {}) {
    this.#counts = structuredClone(earlier);
    this.#onChange = onChange;
  }

  /** @param outcome `ok`, or the code of what was thrown */
  add(event: DeployEvent, outcome: 'ok' | 'failed' | ErrorCode): void {
    const outcomes = (this.#counts[event] ??= {});
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    this.#onChange(this.#counts);
  }

  addFailure(event: DeployEvent, thrown: unknown): void {
    this.add(event, thrown instanceof WunderproxyError ? thrown.code : 'internal_error');
  }

  /** `ok` is always among them, so that a first failure can be told from a first look. */
  of(event: DeployEvent): [outcome: string, count: number][] {
    return Object.entries({ ok: 0, ...this.#counts[event] });
  }
}
