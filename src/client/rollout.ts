import { messageOf } from '../errors.ts';
import { evidenceIn } from './answers.ts';
import { CommandFailure, EXIT, type ExitCode } from './exit-codes.ts';
import { HeldLock } from './held-lock.ts';
import type { Machine, Served } from './machine.ts';
import { named, Refusal } from './manager-client.ts';
import type { Reporter } from './reporter.ts';
import { elapsed, short } from './text.ts';

/** How a deploy is to go. Times are in ms. */
export interface RolloutOptions {
  /** How many machines are switched at once. */
  batch: number;
  rollbackOnFailure: boolean;
  lockWait: number;
  lockLife: number;
  /** Aborts when the deploy is to stop after the step that runs. */
  interrupted: AbortSignal;
}

/** Why no further step is taken. What went wrong at a machine has been said already. */
class Stopped extends Error {}

/**
 * One deploy: config → lock → launch everywhere → switch batch by batch → lock released. The first failure stops it: what
 * was launched but not switched to is stopped, what was switched goes back if that is wanted, and it is said what is where.
 */
export class Rollout {
  readonly #machines: readonly Machine[];
  readonly #reporter: Reporter;
  readonly #options: RolloutOptions;
  #hash = '';
  #revision = '';

  /** The machines share a store; the first takes config and lock. */
  constructor(machines: readonly Machine[], reporter: Reporter, options: RolloutOptions) {
    this.#machines = machines;
    this.#reporter = reporter;
    this.#options = options;
  }

  /** Throws CommandFailure, Refusal, Unreachable only when nothing was begun. */
  async run(config: Buffer): Promise<ExitCode> {
    const began = performance.now();
    const { Hash, Revision } = await named(this.#first.client, this.#first.client.storeConfig(config));
    this.#hash = Hash;
    this.#revision = Revision;
    const lock = await this.#lock();
    try {
      await Promise.all(
        this.#machines.map(async (each) => each.remember(await named(each.client, each.client.status()))),
      );
      this.#say(`deploying ${Revision} (${short(Hash)}) on ${this.#names(this.#machines)}`, 'begin');
      for (const machine of this.#machines) machine.report('waiting');
      await this.#carryOut(lock);
      this.#say(
        `${Revision} is in service on ${this.#names(this.#machines)} after ${elapsed(performance.now() - began)}`,
        'end',
        {
          ExitCode: EXIT.done,
        },
      );
      return EXIT.done;
    } catch (error) {
      if (!(error instanceof Stopped)) throw error;
      this.#reporter.problem(error.message, 'failure');
      return await this.#afterFailure(lock);
    } finally {
      await this.#release(lock);
    }
  }

  async #carryOut(lock: HeldLock): Promise<void> {
    const { batch } = this.#options;
    await this.#mayGoOn(lock);
    await this.#onEach(this.#machines, 'launched', async (machine) => machine.launch(this.#hash));
    for (let from = 0; from < this.#machines.length; from += batch) {
      await this.#mayGoOn(lock);
      const next = this.#machines.slice(from, from + batch);
      await this.#onEach(next, 'switched', async (machine) => machine.switchTo(this.#hash));
    }
  }

  /** Throws Stopped when another step is not to be begun. */
  async #mayGoOn(lock: HeldLock): Promise<void> {
    await lock.confirm();
    if (lock.lost.aborted) throw new Stopped(messageOf(lock.lost.reason));
    if (this.#options.interrupted.aborted) throw new Stopped('Interrupted: no further step is taken.');
  }

  /** A step on several machines at once; all of them come to their end before it counts as failed. Throws Stopped. */
  async #onEach(machines: readonly Machine[], done: string, step: (machine: Machine) => Promise<void>): Promise<void> {
    const results = await Promise.all(machines.map(async (machine) => this.#succeeds(machine, step)));
    const failed = machines.filter((_, at) => results[at] === false);
    if (failed.length > 0) throw new Stopped(`${this.#revision} could not be ${done} on ${this.#names(failed)}.`);
  }

  /** Takes a step, and says what went wrong if it did. */
  async #succeeds(machine: Machine, step: (machine: Machine) => Promise<void>): Promise<boolean> {
    try {
      await step(machine);
      return true;
    } catch (error) {
      const fields = {
        Machine: machine.name,
        ...(error instanceof Refusal ? { Code: error.code, Detail: error.detail } : {}),
      };
      machine.report('failed', messageOf(error));
      this.#reporter.problem(`${machine.name}: ${messageOf(error)}`, 'problem', fields);
      if (error instanceof Refusal) {
        for (const line of evidenceIn(error.detail)) this.#reporter.problem(`${machine.name}:   ${line}`, 'evidence');
      }
      return false;
    }
  }

  async #afterFailure(lock: HeldLock): Promise<ExitCode> {
    // Whoever has the lock now works on the same machines.
    if (!lock.lost.aborted) {
      if (this.#options.rollbackOnFailure) await this.#goBack(lock);
      await this.#stopLeftovers(lock);
    }
    return this.#sayWhatIsWhere();
  }

  async #goBack(lock: HeldLock): Promise<void> {
    // One after the other, the last first: at any time as many serve as would during a deploy.
    for (const machine of this.#machines.toReversed()) {
      const { before } = machine;
      if (!machine.switchTried || lock.lost.aborted) continue;
      if (isSame(await machine.serves(), before)) continue;
      if (before === null)
        this.#reporter.problem(`${machine.name} served nothing before: it is left as it is.`, 'problem');
      else await this.#succeeds(machine, async (each) => each.goBack(before));
    }
  }

  /** The containers that nobody will switch to now. */
  async #stopLeftovers(lock: HeldLock): Promise<void> {
    if (lock.lost.aborted) return;
    const leftovers = this.#machines.filter((machine) => machine.hasLeftover);
    await Promise.all(
      leftovers.map(async (machine) => {
        const now = await machine.serves();
        if (now === 'unknown' || now?.hash === this.#hash) return;
        await this.#succeeds(machine, async (each) => each.stopLeftover(this.#hash));
      }),
    );
  }

  async #sayWhatIsWhere(): Promise<ExitCode> {
    const now = await Promise.all(this.#machines.map(async (machine) => machine.serves()));
    const asBefore = this.#machines.every((machine, at) => {
      const served = now[at] ?? null;
      return served === 'unknown' ? !machine.switchTried : isSame(served, machine.before);
    });
    const exitCode = asBefore ? EXIT.failed : EXIT.mixed;
    for (const [at, machine] of this.#machines.entries()) {
      const served = now[at] ?? null;
      const changed = served !== 'unknown' && !isSame(served, machine.before) ? ' (changed)' : '';
      this.#reporter.problem(`${machine.name} serves ${nameOf(served)}${changed}`, 'serves', {
        Machine: machine.name,
        Revision: served === 'unknown' ? undefined : (served?.revision ?? null),
        Hash: served === 'unknown' ? undefined : (served?.hash ?? null),
      });
    }
    const verdict = asBefore
      ? 'every machine serves what it served before'
      : 'not every machine serves what it served before';
    this.#reporter.problem(`${this.#revision} was not deployed: ${verdict}.`, 'end', { ExitCode: exitCode });
    return exitCode;
  }

  async #lock(): Promise<HeldLock> {
    const { lockWait, lockLife, interrupted } = this.#options;
    return HeldLock.take(
      this.#machines.map(({ client }) => client),
      {
        what: `${this.#revision} (${short(this.#hash)}) on ${this.#names(this.#machines)}`.slice(0, 200),
        life: lockLife,
        wait: lockWait,
        signal: interrupted,
        onWait: (message) => this.#say(`waiting: ${message}`, 'waiting'),
      },
    );
  }

  async #release(lock: HeldLock): Promise<void> {
    const problem = await lock.release();
    if (problem === null) return;
    const life = elapsed(this.#options.lockLife);
    this.#reporter.problem(
      `The deploy lock could not be released (${problem}): it ends by itself after ${life}.`,
      'problem',
    );
  }

  get #first(): Machine {
    const [first] = this.#machines;
    if (!first) throw new CommandFailure(EXIT.usage, 'There is no machine to deploy on.');
    return first;
  }

  #say(text: string, event: string, fields: Record<string, unknown> = {}): void {
    this.#reporter.note(text, event, { Hash: this.#hash, Revision: this.#revision, ...fields });
  }

  #names(machines: readonly Machine[]): string {
    return machines.map(({ name }) => name).join(', ');
  }
}

function isSame(now: Served | null | 'unknown', before: Served | null): boolean {
  return now !== 'unknown' && now?.hash === before?.hash;
}

function nameOf(served: Served | null | 'unknown'): string {
  if (served === 'unknown') return 'something unknown: its manager does not answer';
  return served === null ? 'nothing' : `${served.revision} (${short(served.hash)})`;
}
