import { WunderproxyError } from '../errors.ts';
import type { Logger } from '../log.ts';

export const ACT_KINDS = ['launch', 'switch', 'rollback', 'stop-old'] as const;
export type ActKind = (typeof ACT_KINDS)[number];

/** Something that was asked for on the page. */
export interface Act {
  id: number;
  kind: ActKind;
  by: string;
  hash: string | null;
  revision: string | null;
  /** Ms since the epoch. */
  startedAt: number;
  endedAt: number | null;
  outcome: 'running' | 'ok' | 'failed';
  /** What came of it. */
  message: string;
  error: WunderproxyError | null;
}

/** So many are shown at the most, and so long (ms) after their end. */
const SHOWN = 6;
const SHOWN_FOR = 15 * 60_000;

/** What was asked for on the page, while it runs and a while longer. */
export class Acts {
  #acts: Act[] = [];
  #last = 0;
  readonly #log: Logger;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Starts it; it runs on by itself. `run` resolves to what came of it. */
  start(about: Pick<Act, 'kind' | 'by' | 'hash' | 'revision'>, run: () => Promise<string>): Act {
    const act: Act = {
      ...about,
      id: ++this.#last,
      startedAt: Date.now(),
      endedAt: null,
      outcome: 'running',
      message: '',
      error: null,
    };
    this.#acts = [...this.#acts, act].slice(-SHOWN);
    void this.#follow(act, run);
    return act;
  }

  /** Those to be shown at this time (ms since the epoch), newest first. */
  shown(now: number): readonly Act[] {
    this.#acts = this.#acts.filter(({ endedAt }) => endedAt === null || Math.abs(now - endedAt) < SHOWN_FOR);
    return this.#acts.toReversed();
  }

  async #follow(act: Act, run: () => Promise<string>): Promise<void> {
    try {
      act.message = await run();
      act.outcome = 'ok';
    } catch (thrown) {
      act.error =
        thrown instanceof WunderproxyError ? thrown : new WunderproxyError('internal_error', { cause: thrown });
      act.outcome = 'failed';
      act.message = act.error.message;
      if (act.error.code === 'internal_error') this.#log.error({ err: thrown, act: act.kind }, 'request failed');
      else this.#log.warn({ act: act.kind, code: act.error.code, why: act.message }, 'request refused');
    }
    act.endedAt = Date.now();
  }
}
