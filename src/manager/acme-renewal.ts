import { messageOf, WunderproxyError } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { ChallengeAnswers } from './acme-challenges.ts';
import { AcmeError, type AcmeObjects, type Answers, type Obtained } from './acme-objects.ts';
import { orderCertificate } from './acme-order.ts';
import { pause } from './health.ts';

/** How often, and how long (ms) apart, it is tried to store a new certificate. */
const STORE_TRIES = 20;
const STORE_RETRY = 3_000;

/** What is to be obtained, and from whom. */
export interface RenewalOptions {
  domains: string[];
  email: string | null;
  /** URL of the authority's directory. */
  directory: string;
  log: Logger;
}

/** From the account's key to a certificate in the store. Only whoever holds the lease may do it. */
export class Renewal {
  readonly #options: RenewalOptions;
  readonly #objects: AcmeObjects;
  readonly #challenges: ChallengeAnswers;

  constructor(options: RenewalOptions, objects: AcmeObjects, challenges: ChallengeAnswers) {
    this.#options = options;
    this.#objects = objects;
    this.#challenges = challenges;
  }

  /**
   * Orders a certificate and stores it in the place of version `expected` (null: where there is none). Throws AcmeError,
   * CertificateError and `store_unavailable`, and what `signal` was aborted with: then the lease may be another's.
   */
  async obtain(expected: string | null, signal: AbortSignal): Promise<Obtained> {
    const { domains, directory, email } = this.#options;
    const accountKey = await this.#objects.accountKey();
    try {
      const publish = async (answers: Answers) => this.#publish(answers);
      const { cert, key } = await orderCertificate({ directory, email, domains, accountKey, publish, signal });
      return await this.#keep(cert, key, expected, signal);
    } finally {
      await this.#withdraw(signal);
    }
  }

  /** A store that is down now must not cost a certificate: authorities give out few of the same in a week. */
  async #keep(cert: string, key: string, expected: string | null, signal: AbortSignal): Promise<Obtained> {
    for (let tries = 1; ; tries++) {
      try {
        const kept = await this.#objects.putCertificate(cert, key, expected);
        if (kept !== null) return kept;
        // It may be our own write, whose answer was lost.
        const { obtained } = await this.#objects.certificate();
        if (obtained?.cert === cert) return obtained;
        throw new AcmeError('The new certificate can not be stored: something else was put in its place.');
      } catch (error) {
        const hopeless = !(error instanceof WunderproxyError) || tries === STORE_TRIES;
        if (hopeless || signal.aborted) throw error;
        this.#options.log.warn({ why: messageOf(error), tries }, 'the new certificate can not be stored at the moment');
        await pause(STORE_RETRY, signal);
      }
    }
  }

  async #publish(answers: Answers): Promise<void> {
    this.#challenges.publish(answers);
    await this.#objects.putAnswers(answers);
  }

  async #withdraw(signal: AbortSignal): Promise<void> {
    this.#challenges.publish({});
    // Those in the store may be another's by now.
    if (signal.aborted) return;
    try {
      await this.#objects.putAnswers({});
    } catch (error) {
      this.#options.log.warn({ why: messageOf(error) }, 'answers to challenges stay in the store until the next order');
    }
  }
}
