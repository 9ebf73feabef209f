import { setTimeout as delay } from 'node:timers/promises';
import type { Progress, Status } from './answers.ts';
import { type ManagerClient, Refusal, Unreachable } from './manager-client.ts';
import { type MachineState, type Reporter } from './reporter.ts';
import { elapsed, short } from './text.ts';

/** How often (ms) a machine is asked how far it is. */
const LOOK = 500;
/** A manager that dies is replaced within a second or two; it is given so long, in ms. */
const COMES_BACK = 20_000;
const TRY_AGAIN = 500;
/** For what is only looked at, in ms. */
const GLANCE = 5_000;

const FRACTIONS: Record<MachineState, number> = {
  waiting: 0,
  image: 0.1,
  create: 0.25,
  start: 0.3,
  health: 0.4,
  launched: 0.55,
  switching: 0.6,
  draining: 0.7,
  done: 1,
  failed: 1,
  stopping: 0.3,
  stopped: 0,
  returning: 0.3,
  returned: 0,
};

/** What a machine serves. */
export interface Served {
  hash: string;
  revision: string;
}

/** One machine of a deploy: its steps, and what was seen of it. */
export class Machine {
  readonly client: ManagerClient;
  readonly #reporter: Reporter;
  /** For one step, in ms. */
  readonly #limit: number;
  /** What it served before the deploy; null: nothing. */
  before: Served | null = null;
  #containersBefore: ReadonlySet<string> = new Set();
  /** The container that this deploy has launched, or found healthy. */
  #launched: string | null = null;
  /** From the first try on: then it is not known what it serves until it is asked. */
  switchTried = false;

  constructor(client: ManagerClient, reporter: Reporter, limit: number) {
    this.client = client;
    this.#reporter = reporter;
    this.#limit = limit;
  }

  get name(): string {
    return this.client.name;
  }

  report(state: MachineState, text = '', fraction = FRACTIONS[state]): void {
    this.#reporter.machine({ name: this.name, state, text, fraction });
  }

  /** Remembers how it is now. */
  remember(status: Status): void {
    this.before = servedIn(status);
    this.#containersBefore = new Set(status.Containers.map(({ Id }) => Id));
  }

  /** Throws Refusal, Unreachable. */
  async launch(hash: string): Promise<void> {
    this.report('image', 'asking for the launch');
    const answer = await this.#watched(hash, async () => this.#steadily(() => this.client.launch(hash, this.#limit)));
    this.#launched = answer.Id;
    this.report('launched', `container ${short(answer.Id)}`);
  }

  /** Throws Refusal, Unreachable; also when the container does not stay in service. */
  async switchTo(hash: string): Promise<void> {
    this.report('switching');
    this.switchTried = true;
    await this.#watched(hash, async () => this.#steadily(() => this.client.switchTo(hash, this.#limit)));
    await this.#untilDrained(hash);
    this.report('done', `container ${short(this.#launched ?? '')}`);
  }

  /** Whether this deploy has brought a container here that nobody else can be waiting for. */
  get hasLeftover(): boolean {
    return this.#launched !== null && !this.#containersBefore.has(this.#launched);
  }

  /** Stops what this deploy has launched. Throws Refusal, Unreachable. */
  async stopLeftover(hash: string): Promise<void> {
    this.report('stopping');
    await this.#steadily(() => this.client.stopOld(hash, this.#limit));
    this.report('stopped');
  }

  /**
   * Back to what it served before. A rollback, which cuts the history, where the history still has that deployment; else
   * it is launched and switched to like a new one. Throws Refusal, Unreachable.
   */
  async goBack(to: Served): Promise<void> {
    this.report('returning', `to ${to.revision}`);
    try {
      await this.#watched(to.hash, async () => this.#steadily(() => this.client.rollback(to.hash, this.#limit)));
    } catch (error) {
      if (!(error instanceof Refusal) || error.code !== 'not_in_history') throw error;
      await this.#watched(to.hash, async () => this.#steadily(() => this.client.launch(to.hash, this.#limit)));
      await this.#watched(to.hash, async () => this.#steadily(() => this.client.switchTo(to.hash, this.#limit)));
    }
    // It drains, or is gone.
    this.#launched = null;
    this.report('returned', `to ${to.revision}`);
  }

  /** What it serves now; `unknown` when it does not say. */
  async serves(): Promise<Served | null | 'unknown'> {
    try {
      return servedIn(await this.#steadily(() => this.client.progress(GLANCE), GLANCE));
    } catch {
      return 'unknown';
    }
  }

  /**
   * A manager that was replaced meanwhile does not know whom to wait for: so it is looked whether anything drains, and
   * whether the new container is still in service.
   */
  async #untilDrained(hash: string): Promise<void> {
    const deadline = performance.now() + this.#limit;
    for (;;) {
      const { Active, Containers } = await this.#steadily(() => this.client.progress());
      if (Active?.Hash !== hash) throw new Refusal(0, '', `${Active?.Revision ?? 'Nothing'} is in service instead.`);
      if (Active.State !== 'active') {
        throw new Refusal(0, '', `The container is ${Active.State}${Active.Failure ? `: ${Active.Failure}` : ''}.`);
      }
      if (!Containers.some(({ State }) => State === 'draining' || State === 'stopping')) return;
      if (performance.now() > deadline) throw new Refusal(0, 'timeout', 'The container before does not go away.');
      await delay(LOOK);
    }
  }

  /** Asks again while the manager is being replaced: for calls that may be made twice. */
  async #steadily<T>(call: () => Promise<T>, patience = COMES_BACK): Promise<T> {
    let since: number | null = null;
    for (;;) {
      try {
        return await call();
      } catch (error) {
        const again = error instanceof Unreachable || (error instanceof Refusal && error.code === 'shutting_down');
        since ??= performance.now();
        if (!again || performance.now() - since > patience) throw error;
        await delay(TRY_AGAIN);
      }
    }
  }

  /** Reports how far it is for as long as `step` takes. */
  async #watched<T>(hash: string, step: () => Promise<T>): Promise<T> {
    const ended = new AbortController();
    const watching = this.#watch(hash, ended.signal);
    try {
      return await step();
    } finally {
      ended.abort();
      await watching;
    }
  }

  /** Never rejects. */
  async #watch(hash: string, ended: AbortSignal): Promise<void> {
    while (!ended.aborted) {
      await delay(LOOK, undefined, { signal: ended }).catch(() => {});
      if (ended.aborted) return;
      const seen = await this.client.progress(GLANCE).catch(() => null);
      if (seen && !ended.aborted) this.#show(seen, hash);
    }
  }

  #show({ Launches, Containers }: Progress, hash: string): void {
    const launch = Launches.find(({ Hash }) => Hash === hash);
    if (launch) {
      const state = (['image', 'create', 'start', 'health'] as const).find((each) => each === launch.Phase) ?? 'image';
      const probe = launch.Probes.at(-1)?.Result;
      return this.report(state, state === 'health' && probe ? probe : launch.Step);
    }
    const draining = Containers.find(({ State }) => State === 'draining');
    if (draining) {
      const { Revision, InFlight, Upgraded, DrainSince, DrainDeadline } = draining;
      const [from, to] = [Date.parse(DrainSince ?? ''), Date.parse(DrainDeadline ?? '')];
      const share = to > from ? Math.min(1, Math.max(0, (Date.now() - from) / (to - from))) : 0;
      const limit = to > from ? `, for ${elapsed(to - from)} at the most` : '';
      const text = `${Revision} has ${InFlight} requests and ${Upgraded} tunnels left${limit}`;
      this.report('draining', text, FRACTIONS.draining + 0.25 * share);
    }
  }
}

function servedIn({ Active }: Progress): Served | null {
  return Active && { hash: Active.Hash, revision: Active.Revision };
}
