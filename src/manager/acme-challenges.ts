import { messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import { pause } from './health.ts';
import { type Answers, TOKEN } from './acme-objects.ts';

/** The store is asked at most so often, in ms, however many want to know; after a failure less often. */
const PACE = 250;
const PACE_AFTER_FAILURE = 2_000;
/** So many may wait for one look into the store. */
const MAX_WAITING = 2_000;

interface Waiting {
  token: string;
  resolve: (answer: string | null) => void;
}

/**
 * Answers to challenges: those of this machine's order from memory, others' from the store.
 *
 * Anybody can ask for tokens that were never given out, so all who ask share one look into the store. It begins after they
 * asked: what another machine published before it called the authority is always found.
 */
export class ChallengeAnswers {
  readonly #read: () => Promise<Answers>;
  readonly #log: Logger;
  #own: Answers = {};
  #waiting: Waiting[] = [];
  #looking = false;

  /** `read` looks into the store. */
  constructor(read: () => Promise<Answers>, log: Logger) {
    this.#read = read;
    this.#log = log;
  }

  /** From now on these are this machine's own. */
  publish(answers: Answers): void {
    this.#own = answers;
  }

  /** The key authorization for a token (RFC 8555 section 8.1), or null when there is no such challenge. Never rejects. */
  async answer(token: string): Promise<string | null> {
    if (!TOKEN.test(token)) return null;
    const own = answerIn(this.#own, token);
    if (own !== null || this.#waiting.length >= MAX_WAITING) return own;
    return new Promise((resolve) => {
      this.#waiting.push({ token, resolve });
      if (!this.#looking) void this.#look();
    });
  }

  async #look(): Promise<void> {
    this.#looking = true;
    while (this.#waiting.length > 0) {
      const asking = this.#waiting;
      this.#waiting = [];
      const answers = await this.#tryRead();
      for (const { token, resolve } of asking) resolve(answers && answerIn(answers, token));
      await pause(answers ? PACE : PACE_AFTER_FAILURE);
    }
    this.#looking = false;
  }

  async #tryRead(): Promise<Answers | null> {
    try {
      return await this.#read();
    } catch (error) {
      this.#log.warn({ why: messageOf(error) }, 'challenges of other machines can not be answered');
      return null;
    }
  }
}

/** Tokens come from strangers: `constructor` is none. */
function answerIn(answers: Answers, token: string): string | null {
  return Object.hasOwn(answers, token) ? (answers[token] ?? null) : null;
}
