import { createHash } from 'node:crypto';
import type { Logger } from '../log.ts';
import { HeartbeatReader, type SeenMachine } from './heartbeat-reader.ts';
import { type HeartbeatContent, HeartbeatWriter } from './heartbeat-writer.ts';
import type { Standing } from './machine-state.ts';
import { type ConfiguredPeer, joinPeers, type PeerStatus } from './peers.ts';
import { Repeat } from './repeat.ts';
import type { ConfigStore } from './store.ts';
import { isoTime } from '../units.ts';

const CURRENT = 'current.json';

/** How often (ms) it is looked whether others have to know of something at once. */
const WATCH = 250;
/** However much changes, the others are looked at no more often than this (ms). */
const GAP = 1_000;

/** What stands still while the program runs, or is asked anew each time. */
export interface FleetOptions {
  machine: string;
  /** Of this start of the program. */
  instance: string;
  store: ConfigStore;
  /** Between two heartbeats, in ms. */
  every: number;
  about: Pick<HeartbeatContent, 'Name' | 'App' | 'Version' | 'StartedAt'>;
  addresses: () => Pick<HeartbeatContent, 'Api' | 'Proxy' | 'Tls'>;
  standing: () => Standing;
  counts: () => Pick<HeartbeatContent, 'InFlight' | 'Requests' | 'ErrorsLastMinute'>;
  log: Logger;
}

/**
 * All machines that share the store, as each tells of itself: this one's heartbeat goes out, those of the others come in.
 * It is a view: nothing is decided by it, and nothing waits for it.
 */
export class Fleet {
  readonly #options: FleetOptions;
  readonly #writer: HeartbeatWriter;
  readonly #reader: HeartbeatReader;
  readonly #reading: Repeat;
  #watch: NodeJS.Timeout | undefined;
  /** What others were told, or are about to be. */
  #told = '';
  /** Hashes of the config that `current.json` was last seen to hold; null: there was none, or it is not known. */
  #current: string[] | null = null;
  /** What was in service here at that time. */
  #servedThen: string | null = null;

  constructor(options: FleetOptions) {
    const { machine, instance: boot, store, every, log } = options;
    this.#options = options;
    this.#writer = new HeartbeatWriter({ machine, boot, store, every, log, content: () => this.#content() });
    this.#reader = new HeartbeatReader({ machine, store, every, log });
    const what = 'looking for other machines in the store';
    this.#reading = new Repeat(async () => this.#read(), { every, gap: GAP, what, log });
  }

  start(): void {
    this.#told = JSON.stringify(this.#options.standing());
    this.#writer.start();
    this.#reading.start();
    // There are many ways in which a machine's state changes, and for some of them nobody calls.
    this.#watch = setInterval(() => this.#look(), WATCH).unref();
  }

  /** This machine goes, on purpose. Takes 2 s at most. Never rejects. */
  async stop(): Promise<void> {
    clearInterval(this.#watch);
    const read = this.#reading.stop();
    await this.#writer.stop();
    // What it waits for ends with the store's own limits, which would take longer than a stop may.
    void read;
  }

  /** How many heartbeats could not be written. */
  get failures(): number {
    return this.#writer.failures;
  }

  /** Whether another machine writes heartbeats under the id of this one. */
  get cloned(): boolean {
    return this.#writer.clone !== null;
  }

  /** Why machines may not see one another as they are; null: they do. */
  get problem(): string | null {
    return this.#writer.problem ?? this.#reading.problem;
  }

  /** All machines by name, this one included, from memory, and the peers that options name. */
  peers(configured: readonly ConfiguredPeer[] = []): PeerStatus[] {
    return joinPeers([this.#self(), ...this.#reader.machines().map((seen) => this.#other(seen))], configured);
  }

  #content(): HeartbeatContent {
    const { about, addresses, standing, counts } = this.#options;
    return { ...about, ...addresses(), ...standing(), ...counts() };
  }

  #look(): void {
    const now = JSON.stringify(this.#options.standing());
    if (now === this.#told) return;
    this.#told = now;
    this.#writer.hurry();
    this.#reading.hurry();
  }

  /** In this order: a machine that has switched wrote `current.json` before its heartbeat. */
  async #read(): Promise<void> {
    await this.#reader.poll();
    const served = this.#options.standing().Active?.Hash ?? null;
    const current = await this.#options.store.read(CURRENT);
    this.#current = current && ['md5', 'sha256'].map((name) => createHash(name).update(current.bytes).digest('hex'));
    this.#servedThen = served;
  }

  #self(): PeerStatus {
    const content = this.#content();
    const hash = content.Active?.Hash ?? null;
    // Switched since then: what the store said before says nothing about it.
    const Differs = hash === this.#servedThen && this.#differs(content);
    const SeenAt = isoTime(Date.now());
    return entry(this.#options.machine, content, { Self: true, Stale: false, Differs, SeenAt });
  }

  #other({ heartbeat, stale, seenAt }: SeenMachine): PeerStatus {
    const Differs = this.#differs(heartbeat);
    return entry(heartbeat.Machine, heartbeat, { Self: false, Stale: stale, Differs, SeenAt: isoTime(seenAt) });
  }

  #differs({ Active }: HeartbeatContent): boolean {
    return Active !== null && this.#current !== null && !this.#current.includes(Active.Hash);
  }
}

function entry(
  Machine: string,
  content: HeartbeatContent,
  seen: Pick<PeerStatus, 'Self' | 'Stale' | 'Differs' | 'SeenAt'>,
): PeerStatus {
  const { Name, Version, Api, Proxy, Tls, Active, State, InFlight, Requests, ErrorsLastMinute } = content;
  const told = { Name, Version, Api, Proxy, Tls, Active, State, InFlight, Requests, ErrorsLastMinute };
  return { Machine, ...told, ...seen, Fallback: null };
}
