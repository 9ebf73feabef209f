import type { ConnectionOptions } from 'node:tls';
import type { PeerStats } from '../peer-messages.ts';
import { Breaker } from './breaker.ts';
import type { Health } from './peer-probe.ts';
import type { PeerSecret } from './peer-secret.ts';
import { Tally } from './tally.ts';
import type { Sweeper } from './sweeper.ts';
import { Target } from './target.ts';
import type { UpstreamTimeouts } from './upstream-request.ts';

const PORTS: Record<string, number> = { 'http:': 80, 'https:': 443 };

/** What its connections work with. */
export interface PeerContext {
  readonly timeouts: UpstreamTimeouts;
  readonly sweeper: Sweeper;
}

/** Who this machine is. */
export interface OwnIds {
  readonly machine: string;
  /** Of this start of the program. */
  readonly instance: string;
}

/** Another machine: where it is, whether it can be asked, what runs there. */
export class Peer {
  /** Origin. */
  readonly url: string;
  readonly target: Target;
  readonly breaker = new Breaker();
  /** Its id, once it has proved that it knows the secret. */
  machine: string | null = null;
  /** What it has proved that with. */
  provedBy: PeerSecret | null = null;
  /** Whether its last health check went well. */
  healthy = false;
  /** Whether it turned out to be this machine: names list all of them. */
  self = false;
  /** Whether it is another one that has this machine's id: requests fall back to it as to any other. */
  clone = false;
  #late = false;
  lastError: string | null = null;
  lastErrorAt: number | null = null;

  /** @param secure how its certificate is checked; for https only */
  constructor(url: string, { timeouts, sweeper }: PeerContext, secure: ConnectionOptions) {
    this.url = url;
    const { protocol, hostname, port } = new URL(url);
    const host = hostname.replace(/^\[|\]$/g, '');
    const address = { host, port: port === '' ? (PORTS[protocol] ?? 0) : Number(port) };
    const tally = new Tally('', '', '', null);
    const route = { id: url, hash: '', revision: '', address };
    this.target = new Target(route, tally, timeouts, sweeper, () => {}, protocol === 'https:' ? secure : null);
  }

  /** Whether a request may be tried there. */
  get available(): boolean {
    return this.healthy && !this.self && this.breaker.passable;
  }

  note(error: string): void {
    this.lastError = error;
    this.lastErrorAt = Date.now();
  }

  /** One late answer may be the doing of a busy moment, on either machine; the second is not. */
  setHealth({ machine, instance = null, problem, late = false }: Health, own: OwnIds): void {
    this.healthy = problem === null || (late && this.healthy && !this.#late);
    this.#late = late;
    this.machine = machine ?? this.machine;
    if (machine !== null) {
      // One that does not tell its instance has no way to be told from this one.
      this.self = machine === own.machine && (instance === null || instance === own.instance);
      this.clone = machine === own.machine && !this.self;
    }
    if (problem !== null) this.note(problem);
  }

  get stats(): PeerStats {
    const { url, machine, lastError, lastErrorAt, breaker, target } = this;
    const working = breaker.state === 'closed' ? 'healthy' : breaker.state;
    return {
      url,
      machine,
      clone: this.clone,
      state: this.healthy ? working : 'unhealthy',
      inFlight: target.inFlight + target.upgraded,
      lastError,
      lastErrorAt,
    };
  }
}
