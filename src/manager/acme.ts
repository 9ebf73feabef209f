import { messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { Certificate } from '../worker-config.ts';
import { ChallengeAnswers } from './acme-challenges.ts';
import { AcmeLease, type HeldLease, LEASE_TIMES, type LeaseTimes } from './acme-lease.ts';
import { AcmeError, AcmeObjects, type Attempt, type CertificateObject, type Obtained } from './acme-objects.ts';
import { Renewal } from './acme-renewal.ts';
import { LONGEST_WAIT, renewalTime, retryDelay } from './acme-schedule.ts';
import { pause } from './health.ts';
import type { StateCopies } from './state-copies.ts';
import type { ConfigStore } from './store.ts';
import { isoTime } from '../units.ts';

const COPY = 'acme-certificate.json';

/** How often the store is looked at, in ms. */
export interface AcmeTimes {
  /** For a certificate that another machine has obtained. */
  poll: number;
  /** While another machine orders. */
  busyPoll: number;
  lease: LeaseTimes;
}

const TIMES: AcmeTimes = { poll: 60_000, busyPoll: 5_000, lease: LEASE_TIMES };

/** Never more often than this, in ms, whatever the clock says. */
const SHORTEST_POLL = 500;

/** What ACME works with. */
export interface AcmeOptions {
  domains: string[];
  email: string | null;
  directory: string;
  store: ConfigStore;
  copies: StateCopies;
  /** Names this machine's manager and those that take its place when it dies. */
  holder: string;
  log: Logger;
  /** What is to be served from now on. */
  onCertificates: (certificates: Certificate[]) => void;
  /** An order has come to its end. */
  onOrder?: (outcome: 'ok' | 'failed') => void;
  times?: AcmeTimes;
}

/** As in `/status`. Times are ISO 8601. */
export interface AcmeStatus {
  Domains: string[];
  Directory: string;
  /**
   * `ok`: there is a certificate, and it has not come to its time. `ordering`: this machine orders one. `waiting`: another
   * machine does. `failed`: the last order failed, or the store can't be had; what there is goes on being served.
   */
  State: 'ok' | 'ordering' | 'waiting' | 'failed';
  /** When the certificate that is served ends; null: there is none. */
  NotAfter: string | null;
  LastTry: string | null;
  LastError: string | null;
  NextTry: string | null;
}

/**
 * Keeps one certificate for the domains: obtained when there is none in the store, renewed when it has come to its time,
 * taken over when another machine has obtained it. Nothing that fails here touches what is served already.
 *
 *     look into the store ─▶ not due ───────────────────────────────────────▶ ok
 *           ▲                due, but a try failed lately ──────────────────▶ failed
 *           │                due, but another machine holds the lease ──────▶ waiting
 *           │                due ─▶ lease ─▶ look again ─▶ order ─▶ store it ─▶ ok or failed
 *           └──────────────── after a minute, or when it is time ◀──────────────┘
 */
export class Acme {
  readonly #options: AcmeOptions;
  readonly #times: AcmeTimes;
  readonly #log: Logger;
  readonly #objects: AcmeObjects;
  readonly #lease: AcmeLease;
  readonly #challenges: ChallengeAnswers;
  readonly #renewal: Renewal;
  readonly #stopping = new AbortController();
  /** Cuts a wait short. */
  #wake = new AbortController();
  /** Machines that share a certificate each have their own. */
  readonly #spread = Math.random();
  #served: Obtained | null = null;
  #state: AcmeStatus['State'] = 'waiting';
  #attempt: Attempt | null = null;
  #problem: string | null = null;
  #nextTry: number | null = null;
  /** The next look is to order although a try failed lately. */
  #impatient = false;
  #running: Promise<void> = Promise.resolve();

  constructor(options: AcmeOptions) {
    const { store, directory, domains, log, holder } = options;
    this.#options = options;
    this.#times = options.times ?? TIMES;
    this.#log = log;
    this.#objects = new AcmeObjects(store, directory, domains, log);
    this.#lease = new AcmeLease(store, holder, log, this.#times.lease);
    this.#challenges = new ChallengeAnswers(async () => this.#objects.answers(), log);
    this.#renewal = new Renewal(options, this.#objects, this.#challenges);
  }

  /** Hands out what there is: the last known good copy, else what the store has. Never rejects. */
  async load(): Promise<void> {
    const copy = await this.#options.copies.read(COPY);
    const known = copy && this.#objects.fromCopy(copy);
    if (known) return this.#serve(known);
    try {
      await this.#takeUp();
    } catch (error) {
      this.#log.warn({ why: messageOf(error) }, 'whether there is a certificate is not known at the moment');
    }
  }

  /** Obtains and renews from now on, until `stop`. */
  start(): void {
    this.#running = this.#run();
  }

  /** Looks at once, and orders if it is due, however lately a try failed. */
  hurry(): void {
    this.#impatient = true;
    this.#wake.abort();
  }

  /** Gives up an order that is under way, and the lease. Never rejects. */
  async stop(): Promise<void> {
    this.#stopping.abort(new AcmeError('wunderproxy is stopping.'));
    this.#wake.abort();
    await this.#running;
  }

  /** The key authorization for a token, or null. Never rejects. */
  async answer(token: string): Promise<string | null> {
    return this.#challenges.answer(token);
  }

  status(): AcmeStatus {
    return {
      Domains: this.#options.domains,
      Directory: this.#options.directory,
      State: this.#state,
      NotAfter: this.#served && isoTime(this.#served.notAfter),
      LastTry: this.#attempt?.At ?? null,
      LastError: this.#problem ?? this.#attempt?.Error ?? null,
      NextTry: this.#nextTry === null ? null : isoTime(this.#nextTry),
    };
  }

  async #run(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      const impatient = this.#impatient;
      this.#impatient = false;
      this.#wake = new AbortController();
      try {
        await this.#look(impatient);
        this.#problem = null;
      } catch (error) {
        if (this.#stopping.signal.aborted) return;
        if (this.#problem === null)
          this.#log.warn({ why: messageOf(error) }, 'the certificate can not be looked after');
        this.#problem = messageOf(error);
        this.#nextTry = null;
        if (this.#served === null || this.#isDue(this.#served)) this.#state = 'failed';
      }
      if (!this.#impatient) await pause(this.#wait(), this.#wake.signal);
    }
  }

  /** Until the next look, in ms: by the clock as it is now, which may have been set. */
  #wait(): number {
    const poll = this.#state === 'waiting' ? this.#times.busyPoll : this.#times.poll * (0.9 + 0.2 * Math.random());
    const due = this.#nextTry === null ? poll : this.#nextTry - Date.now();
    return Math.max(Math.min(poll, due), SHORTEST_POLL);
  }

  async #look(impatient: boolean): Promise<void> {
    if ((await this.#whatIsDue(impatient)) === null) return;
    this.#nextTry = null;
    const lease = await this.#lease.acquire();
    if (lease === null) {
      this.#state = 'waiting';
      return;
    }
    try {
      // In the meantime another may have obtained it, or failed.
      const due = await this.#whatIsDue(impatient);
      if (due !== null) await this.#order(due, lease);
    } finally {
      await lease.release();
    }
  }

  /** What is to be replaced; null when nothing is to be done now. */
  async #whatIsDue(impatient: boolean): Promise<CertificateObject | null> {
    const stored = await this.#takeUp();
    this.#attempt = await this.#objects.attempt();
    if (stored.obtained !== null && !this.#isDue(stored.obtained)) {
      this.#beOk();
      return null;
    }
    const retry = this.#retryTime();
    if (retry === null || impatient) return stored;
    this.#state = 'failed';
    this.#nextTry = retry;
    return null;
  }

  #beOk(): void {
    this.#state = 'ok';
    this.#nextTry = this.#served && this.#renewalTime(this.#served);
  }

  #isDue(certificate: Obtained): boolean {
    return Date.now() >= this.#renewalTime(certificate);
  }

  #renewalTime(certificate: Obtained): number {
    const { At = null, Error: error = null } = this.#attempt ?? {};
    const orderedAt = At === null || error !== null ? null : Date.parse(At);
    return renewalTime(certificate, orderedAt, Date.now(), this.#spread);
  }

  /** When the next try may be, in ms since the epoch; null: now. */
  #retryTime(): number | null {
    const { Error: error, NextTry } = this.#attempt ?? { Error: null, NextTry: null };
    if (error === null || NextTry === null) return null;
    const wait = Date.parse(NextTry) - Date.now();
    // So far ahead only the clock of somebody was wrong.
    return wait > 0 && wait <= LONGEST_WAIT ? Date.parse(NextTry) : null;
  }

  /** Serves what the store has for these domains, as long as there is nothing: what it has for others. */
  async #takeUp(): Promise<CertificateObject> {
    const stored = await this.#objects.certificate();
    if (stored.obtained) await this.#serveStored(stored.obtained);
    else if (this.#served === null) {
      const substitute = await this.#objects.substitute();
      if (substitute) await this.#serveStored(substitute);
    }
    return stored;
  }

  async #serveStored(stored: Obtained): Promise<void> {
    if (this.#served?.cert === stored.cert) return;
    this.#serve(stored);
    await this.#options.copies.write(COPY, stored.bytes);
  }

  #serve(certificate: Obtained): void {
    this.#served = certificate;
    const { domains, notAfter, cert, key } = certificate;
    this.#log.info({ domains, notAfter: isoTime(notAfter) }, 'a certificate by ACME is in service');
    this.#options.onCertificates([{ source: 'acme', cert, key }]);
  }

  async #order(stored: CertificateObject, lease: HeldLease): Promise<void> {
    const { domains, directory } = this.#options;
    this.#state = 'ordering';
    const at = isoTime(Date.now());
    this.#log.info({ domains, directory }, 'ordering a certificate');
    try {
      const signal = AbortSignal.any([this.#stopping.signal, lease.signal]);
      await this.#serveStored(await this.#renewal.obtain(stored.version, signal));
      this.#attempt = { At: at, Error: null, Failures: 0, NextTry: null };
      this.#beOk();
      this.#options.onOrder?.('ok');
    } catch (error) {
      if (this.#stopping.signal.aborted || lease.signal.aborted) throw error;
      this.#attempt = this.#failed(at, error);
      this.#options.onOrder?.('failed');
    }
    await this.#objects.putAttempt(this.#attempt);
  }

  #failed(at: string, error: unknown): Attempt {
    const failures = (this.#attempt?.Failures ?? 0) + 1;
    const asked = error instanceof AcmeError ? error.retryAfter : 0;
    this.#state = 'failed';
    this.#nextTry = Date.now() + retryDelay(failures, Math.random(), asked);
    const attempt = { At: at, Error: messageOf(error), Failures: failures, NextTry: isoTime(this.#nextTry) };
    const { domains, directory } = this.#options;
    const notAfter = this.#served && isoTime(this.#served.notAfter);
    const details = { domains, directory, why: messageOf(error), notAfter, nextTry: attempt.NextTry };
    this.#log.error(details, 'no certificate by ACME: what is served stays as it is');
    return attempt;
  }
}
