import { type ErrorCode, WunderproxyError } from '../errors.ts';

/** What is counted of deployments. */
export type DeployEvent = 'launch' | 'switch' | 'rollback' | 'drain';

/** How often deployments went well and how often not, since this manager started. */
export class DeployCounts {
  readonly #counts = new Map<DeployEvent, Map<string, number>>();

  /** @param outcome `ok`, or the code of what was thrown */
  add(event: DeployEvent, outcome: 'ok' | ErrorCode): void {
    const outcomes = this.#counts.get(event) ?? new Map<string, number>();
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    this.#counts.set(event, outcomes);
  }

  addFailure(event: DeployEvent, thrown: unknown): void {
    this.add(event, thrown instanceof WunderproxyError ? thrown.code : 'internal_error');
  }

  /** `ok` is always among them, so that a first failure can be told from a first look. */
  of(event: DeployEvent): [outcome: string, count: number][] {
    return [...new Map([['ok', 0], ...(this.#counts.get(event) ?? [])])];
  }
}
