import { type ConnectionOptions, getCACertificates } from 'node:tls';
import type { Logger } from '../log.ts';
import { cloneAdvice } from '../machine.ts';
import type { FallbackKind, PeerMaterial, PeerStats, WorkerPeers } from '../peer-messages.ts';
import { Allowance } from './allowance.ts';
import { FallbackBudget } from './fallback-budget.ts';
import { Peer } from './peer.ts';
import { type NamesContext, PeerNames } from './peer-names.ts';
import { probe } from './peer-probe.ts';
import { PeerSecrets } from './peer-secret.ts';
import type { Sweeper } from './sweeper.ts';
import { Counts } from './tally.ts';
import type { UpstreamTimeouts } from './upstream-request.ts';

/** Peers are asked for their health so often (ms), give or take JITTER of it: not all workers at the same moment. */
const PROBE_INTERVAL = 2_000;
const JITTER = 0.25;
/** A worker that begins waits so long (ms) for the first of them to be known as healthy. */
const FIRST_LOOK = 1_000;
/** Fallbacks are logged one by one up to so many at once and so many a second in the long run. */
const LOGGED = 20;
const LOGGED_PER_SECOND = 2;
/** Peers that a name lists come and go: so many kinds are counted by peer, the rest as one. */
const MAX_KINDS = 256;
/** What peers share. */
export interface PeersContext {
  readonly config: WorkerPeers;
  readonly material: PeerMaterial;
  /** This machine's id. */
  readonly machine: string;
  /** Of this start of the program. */
  readonly instance: string;
  readonly timeouts: UpstreamTimeouts;
  readonly sweeper: Sweeper;
  readonly names: NamesContext;
  readonly log: Logger;
}

/** The other machines, as one worker knows them. */
export class Peers {
  readonly #context: PeersContext;
  readonly budget: FallbackBudget;
  readonly #peers = new Map<string, Peer>();
  readonly #counts = new Counts<string>();
  readonly #kinds = new Set<string>();
  readonly #logged = new Allowance(LOGGED, LOGGED_PER_SECOND);
  /** Peers check their certificates by it; changed in place. */
  readonly #secure: ConnectionOptions = { ALPNProtocols: ['http/1.1'] };
  readonly #names: PeerNames | null;
  #secrets: PeerSecrets;
  #started = false;
  /** Called when one has been found that can be asked. */
  #onFound = (): void => {};
  /** The health checks of those that a name has just named. */
  #newcomers: Promise<void> = Promise.resolve();

  constructor(context: PeersContext) {
    this.#context = context;
    const { config, material } = context;
    this.budget = new FallbackBudget(config.workers);
    this.#secrets = new PeerSecrets(material.secrets);
    this.#setAuthorities(material);
    this.#names = this.#openNames();
    this.#add([...config.urls, ...(this.#names?.urls ?? [])]);
  }

  /**
   * Checks the health of all from now on, and looks names up. Resolves when requests can fall back, or will not be able to
   * for the time being; after a second at the most. Never rejects.
   */
  async start(): Promise<void> {
    this.#started = true;
    const { promise: found, resolve } = Promise.withResolvers<void>();
    this.#onFound = resolve;
    const timer = setTimeout(resolve, FIRST_LOOK);
    void Promise.all([this.#keepProbing(), this.#lookFirst()]).then(() => resolve());
    await found;
    clearTimeout(timer);
  }

  async #lookFirst(): Promise<void> {
    await this.#names?.start();
    await this.#newcomers;
  }

  #openNames(): PeerNames | null {
    const { config, names, log } = this.#context;
    if (config.dns === null) return null;
    return new PeerNames(config.dns, names, log, (found) => {
      this.#newcomers = this.#follow([...config.urls, ...found]);
    });
  }

  /** Looks names up now. Never rejects. */
  async look(): Promise<void> {
    await this.#names?.look();
  }

  /** Why the name could not be looked up when that was last tried; null: it could, or there is none. */
  get namesProblem(): string | null {
    return this.#names?.problem ?? null;
  }

  get secrets(): PeerSecrets {
    return this.#secrets;
  }

  /** Statuses of the container that count as failures. */
  countsAsFailure(status: number): boolean {
    return this.#context.config.fallbackOn.includes(status);
  }

  /** Whether answers of peers say so. */
  get debugHeaders(): boolean {
    return this.#context.config.debugHeaders;
  }

  /** Other secrets: whose proof is worth nothing any more has to prove itself anew; requests go on falling back to the others. */
  setMaterial(material: PeerMaterial): void {
    this.#secrets = new PeerSecrets(material.secrets);
    this.#setAuthorities(material);
    for (const peer of this.#peers.values()) {
      if (peer.provedBy !== null && this.#secrets.has(peer.provedBy)) continue;
      peer.healthy = false;
      peer.provedBy = null;
    }
    if (this.#started) void this.#probeAll();
  }

  #setAuthorities({ ca }: PeerMaterial): void {
    if (ca === null) delete this.#secure.ca;
    else this.#secure.ca = [...getCACertificates('default'), ca];
  }

  /** Whether a request could be tried on one of them now. */
  get usable(): boolean {
    return this.budget.allows && [...this.#peers.values()].some((peer) => peer.available);
  }

  /** The one with the fewest requests of two at random, without those in `tried`; null when none can be asked. */
  choose(tried: readonly Peer[], random: () => number = Math.random): Peer | null {
    const able = [...this.#peers.values()].filter((peer) => peer.available && !tried.includes(peer));
    const take = () => able.splice(Math.floor(random() * able.length), 1)[0] ?? null;
    const first = take();
    const second = take();
    if (first === null || second === null) return first;
    return second.target.inFlight < first.target.inFlight ? second : first;
  }

  /** A fallback is over, or could not be begun. */
  count(kind: FallbackKind, request: string): void {
    const { peer, reason, outcome } = kind;
    let key = JSON.stringify({ peer, reason, outcome } satisfies FallbackKind);
    if (this.#kinds.size >= MAX_KINDS && !this.#kinds.has(key)) key = JSON.stringify({ ...kind, peer: 'others' });
    this.#kinds.add(key);
    this.#counts.add(key);
    if (this.#logged.spend(1)) this.#context.log.info({ ...kind, request }, 'a request fell back to another machine');
  }

  get counts(): Record<string, number> {
    return this.#counts.snapshot();
  }

  get stats(): PeerStats[] {
    return [...this.#peers.values()].filter(({ self }) => !self).map(({ stats }) => stats);
  }

  /** Breaks off everything that runs on them. */
  cutAll(): void {
    for (const peer of this.#peers.values()) peer.target.cut();
  }

  /** Until new ones have been asked for their health, those that are not named any more are better than none. Never rejects. */
  async #follow(urls: string[]): Promise<void> {
    if (this.#add(urls)) await this.#probeAll();
    this.#removeAllBut(urls);
  }

  /** Returns whether there are new ones. */
  #add(urls: string[]): boolean {
    const added = urls.filter((url) => !this.#peers.has(url));
    for (const url of added) this.#peers.set(url, new Peer(url, this.#context, this.#secure));
    return added.length > 0;
  }

  /** They finish what they have. */
  #removeAllBut(urls: string[]): void {
    for (const [url, peer] of this.#peers) {
      if (urls.includes(url)) continue;
      this.#peers.delete(url);
      peer.target.retire();
    }
  }

  /** A list of all machines is why one asks oneself; a copied disk, with its machine-id, why one meets a clone. */
  #noteOwnId({ url, self }: Peer): void {
    const { log, machine } = this.#context;
    if (self) log.info({ peer: url, machine }, 'a peer is this machine: it is left out');
    else log.warn({ peer: url, machine }, cloneAdvice(machine, url));
  }

  async #keepProbing(): Promise<void> {
    await this.#probeAll();
    const wait = PROBE_INTERVAL * (1 + JITTER * (2 * Math.random() - 1));
    setTimeout(() => void this.#keepProbing(), wait).unref();
  }

  /** Never rejects. */
  async #probeAll(): Promise<void> {
    const secrets = this.#secrets;
    await Promise.all(
      Array.from(this.#peers.values(), async (peer) => {
        const health = await probe(peer.url, secrets.first, this.#secure);
        if (secrets !== this.#secrets) return;
        if (health.machine !== null) peer.provedBy = secrets.first;
        const before = peer.self || peer.clone;
        peer.setHealth(health, this.#context);
        if ((peer.self || peer.clone) && !before) this.#noteOwnId(peer);
        if (peer.available) this.#onFound();
      }),
    );
  }
}
