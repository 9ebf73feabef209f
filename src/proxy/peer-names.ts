import type { Logger } from '../log.ts';
import { messageOf } from '../errors.ts';
import { formatHostPort } from '../units.ts';

/** How often (ms) a name is looked up again. */
const INTERVAL = 10_000;
/** More addresses would only make health checks. */
const MOST = 64;
/** What a server says when it knows the name but no such address, or not even the name. */
const NOTHING = new Set(['ENODATA', 'ENOTFOUND']);

/** What is asked for addresses: node:dns' Resolver. Rejects with `ENODATA` or `ENOTFOUND` when there are none. */
export interface NameResolver {
  resolve4(name: string): Promise<string[]>;
  resolve6(name: string): Promise<string[]>;
}

/** The peers behind a name: its A and AAAA records, looked up again and again. A failed lookup changes nothing. */
export class PeerNames {
  readonly #name: string;
  readonly #port: number;
  readonly #resolver: NameResolver;
  readonly #log: Logger;
  readonly #onUrls: (urls: string[]) => void;
  #known: { v4: string[]; v6: string[] } = { v4: [], v6: [] };
  #failing = false;

  /** `onUrls` is called with the origins after each lookup that gave some. */
  constructor(
    { name, port }: { name: string; port: number },
    resolver: NameResolver,
    log: Logger,
    onUrls: (urls: string[]) => void,
  ) {
    this.#name = name;
    this.#port = port;
    this.#resolver = resolver;
    this.#log = log;
    this.#onUrls = onUrls;
  }

  /** Looks again and again. Resolves when it has looked once. Never rejects. */
  async start(): Promise<void> {
    setInterval(() => void this.look(), INTERVAL).unref();
    await this.look();
  }

  /** One lookup. Never rejects. */
  async look(): Promise<void> {
    const v4 = this.#ask('A', this.#resolver.resolve4(this.#name));
    const v6 = this.#ask('AAAA', this.#resolver.resolve6(this.#name));
    const [some, more] = await Promise.all([v4, v6]);
    const before = this.#known;
    // Each kind by itself: there are name servers that know nothing of AAAA, and say so as if they were broken.
    const known = { v4: some ?? before.v4, v6: more ?? before.v6 };
    const failed = some === null || more === null;
    const all = [...new Set([...known.v4, ...known.v6])].toSorted().slice(0, MOST);
    if (all.length === 0) return this.#warn('it has no address');
    this.#known = known;
    if (!failed) this.#failing = false;
    this.#onUrls(all.map((address) => new URL(`http://${formatHostPort(address, this.#port)}`).origin));
  }

  /** Null: nobody knows. */
  async #ask(type: string, answer: Promise<string[]>): Promise<string[] | null> {
    try {
      return await answer;
    } catch (error) {
      if (NOTHING.has((error as NodeJS.ErrnoException).code ?? '')) return [];
      this.#warn(`${type}: ${messageOf(error)}`);
      return null;
    }
  }

  #warn(why: string): void {
    if (!this.#failing) this.#log.warn({ name: this.#name, why }, 'peers can not be looked up');
    this.#failing = true;
  }
}
