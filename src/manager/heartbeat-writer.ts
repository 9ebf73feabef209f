import { randomBytes } from 'node:crypto';
import { messageOf } from '../errors.ts';
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
/** Another that writes under the same id is believed in until it was not seen at so many heartbeats. */
const MEMORY = 3;

/** What the writer adds by itself. */
type Added = 'Machine' | 'At' | 'Every' | 'Boot' | 'Sequence';

/** What a heartbeat says, at the moment when it is asked for. */
export type HeartbeatContent = Omit<Heartbeat, Added>;

export interface HeartbeatWriterOptions {
  machine: string;
  store: ConfigStore;
  content: () => HeartbeatContent;
  /** In ms. */
  every: number;
  log: Logger;
}

/**
 * Writes this machine's heartbeat. Nothing waits for it, and a store that is down is tried again.
 *
 * Before each one it looks at what stands there. A process that finds the heartbeats of another that go on has the same
 * id: a state directory was copied.
 */
export class HeartbeatWriter {
  readonly #options: HeartbeatWriterOptions;
  readonly #key: string;
  readonly #boot = randomBytes(8).toString('hex');
  readonly #repeat: Repeat;
  #sequence = 0;
  /** The last heartbeat of another process under this id that was seen, and how often none was seen since. */
  #other: { Boot: string; Sequence: number; missed: number } | null = null;
  #clash = false;

  constructor(options: HeartbeatWriterOptions) {
    const { machine, every, log } = options;
    this.#options = options;
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
    if (!this.#clash) return null;
    return `Another machine has the id of this one, ${this.#options.machine}: it needs a --state-dir of its own.`;
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
      if (other && ++other.missed >= MEMORY) {
        this.#other = null;
        this.#clash = false;
      }
      return;
    }
    // A single one may be the last write of a process that is dead.
    const goesOn = other !== null && other.Boot === found.Boot && other.Sequence !== found.Sequence;
    this.#other = { Boot: found.Boot, Sequence: found.Sequence, missed: 0 };
    if (!goesOn || this.#clash) return;
    this.#clash = true;
    this.#options.log.warn({ machine: found.Machine, name: found.Name }, this.problem ?? '');
  }
}
