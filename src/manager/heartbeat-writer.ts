import { messageOf } from '../errors.ts';
import { cloneAdvice } from '../machine.ts';
import type { Logger } from '../log.ts';
import { formatHeartbeat, type Heartbeat, heartbeatKey, LARGEST_HEARTBEAT, parseHeartbeat } from './heartbeat.ts';
import { Repeat } from './repeat.ts';
import type { ConfigStore } from './store.ts';
import { withinLimit } from './store-failure.ts';
import { isoTime } from '../units.ts';

/** A burst of changes is one heartbeat in so many ms. */
const GAP = 500;
/** Taking the heartbeat back may take so long (ms): nobody waits for a stop because of it. */
const LAST_WORD = 2_000;
/** Another that writes under the same id is believed in until it was not seen at so many heartbeats, of this one and of its own. */
const MEMORY = 3;

/** What the writer adds by itself. */
type Added = 'Machine' | 'At' | 'Every' | 'Boot' | 'Sequence';

/** What a heartbeat says, at the moment when it is asked for. */
export type HeartbeatContent = Omit<Heartbeat, Added>;

/** The last heartbeat of another program under this id, when it was seen by the steady clock (ms), and how often none since. */
interface Other {
  heartbeat: Heartbeat;
  seenAt: number;
  missed: number;
}

export interface HeartbeatWriterOptions {
  machine: string;
  /** Of this start of the program. */
  boot: string;
  store: ConfigStore;
  content: () => HeartbeatContent;
  /** In ms. */
  every: number;
  log: Logger;
}

/**
 * Writes this machine's heartbeat. Nothing waits for it, and a store that is down is tried again.
 *
 * Before each one it looks at what stands there. A program that finds the heartbeats of another that go on has the same
 * id: a state directory was copied. One start of it can't be taken for the next: the one before has ended, so its last
 * heartbeat changes no more.
 */
export class HeartbeatWriter {
  readonly #options: HeartbeatWriterOptions;
  readonly #key: string;
  readonly #boot: string;
  readonly #repeat: Repeat;
  #sequence = 0;
  #other: Other | null = null;
  #clash = false;

  constructor(options: HeartbeatWriterOptions) {
    const { machine, boot, every, log } = options;
    this.#options = options;
    this.#boot = boot;
    this.#key = heartbeatKey(machine);
    this.#repeat = new Repeat(async () => this.#write(), { every, gap: GAP, what: 'the heartbeat in the store', log });
  }

  /** How many could not be written. */
  get failures(): number {
    return this.#repeat.failures;
  }

  /** Why others do not see this machine as it is; null: they do. */
  get problem(): string | null {
    if (this.#repeat.problem !== null) return this.#repeat.problem;
    return this.clone === null ? null : cloneAdvice(this.#options.machine, this.clone);
  }

  /** Another machine that has the id of this one, by name and address; null: none is seen. */
  get clone(): string | null {
    if (!this.#clash || this.#other === null) return null;
    const { Name, Api, Proxy } = this.#other.heartbeat;
    const address = Api ?? Proxy;
    return address === null ? Name : `${Name} at ${address}`;
  }

  start(): void {
    this.#repeat.start();
  }

  /** Something has changed that others are to see at once. */
  hurry(): void {
    this.#repeat.hurry();
  }

  /** Takes the heartbeat out of the store: this machine is gone on purpose. Takes 2 s at most. Never rejects. */
  async stop(): Promise<void> {
    const { store, log } = this.#options;
    try {
      await withinLimit(LAST_WORD, async () => {
        // A write that came after would leave it there.
        await this.#repeat.stop();
        await store.remove(this.#key);
      });
    } catch (error) {
      log.warn({ why: messageOf(error) }, 'the heartbeat stays in the store: others will take this machine for dead');
    }
  }

  async #write(): Promise<void> {
    const { machine, store, content, every } = this.#options;
    if (this.#sequence > 0) this.#lookAt(await this.#found());
    this.#sequence++;
    const heartbeat = {
      Machine: machine,
      ...content(),
      At: isoTime(Date.now()),
      Every: every / 1_000,
      Boot: this.#boot,
      Sequence: this.#sequence,
    };
    await store.write(this.#key, formatHeartbeat(heartbeat));
  }

  /** What stands there, or null when that is not known. */
  async #found(): Promise<Heartbeat | null> {
    const { machine, store } = this.#options;
    try {
      const object = await store.read(this.#key, LARGEST_HEARTBEAT);
      return object && parseHeartbeat(machine, object.bytes);
    } catch {
      return null;
    }
  }

  #lookAt(found: Heartbeat | null): void {
    const other = this.#other;
    if (found === null || found.Boot === this.#boot) {
      if (other !== null) this.#miss(other);
      return;
    }
    // A single one may be the last write of a process that is dead.
    const before = other?.heartbeat;
    const goesOn = before !== undefined && before.Boot === found.Boot && before.Sequence !== found.Sequence;
    this.#other = { heartbeat: found, missed: 0, seenAt: performance.now() };
    if (!goesOn || this.#clash) return;
    this.#clash = true;
    const { Machine, Name, Api } = found;
    this.#options.log.warn({ machine: Machine, name: Name, api: Api }, cloneAdvice(Machine, this.clone ?? Name));
  }

  /** One that writes less often than this one is not to be forgotten in between. */
  #miss(other: Other): void {
    other.missed++;
    const quiet = performance.now() - other.seenAt;
    if (other.missed < MEMORY || quiet < MEMORY * other.heartbeat.Every * 1_000) return;
    this.#other = null;
    this.#clash = false;
  }
}
