import type { Logger } from '../log.ts';
import { messageOf } from '../errors.ts';
import type { NamedAddresses } from '../peer-messages.ts';
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

/** How names are looked up, and what is known of them beside. */
export interface NamesContext {
  readonly resolver: NameResolver;
  /** What another worker has found; null: nothing. */
  readonly known: NamedAddresses | null;
  /** Called when there are other addresses than before. */
  readonly onFound: (addresses: NamedAddresses) => void;
}

/**
 * The peers behind a name: its A and AAAA records, looked up again and again. A lookup that fails, or finds nothing, changes
 * nothing: the last known ones are better than none, and whether one of them can be asked is found out by its health check.
 */
export class PeerNames {
  readonly #name: string;
  readonly #port: number;
  readonly #context: NamesContext;
  readonly #log: Logger;
  readonly #onUrls: (urls: string[]) => void;
  #known: NamedAddresses;
  /** Why the last lookup failed, or changed nothing; null: it did not. */
  problem: string | null = null;

  /** `onUrls` is called with the origins after each lookup that gave some. */
  constructor(
    { name, port }: { name: string; port: number },
    context: NamesContext,
    log: Logger,
    onUrls: (urls: string[]) => void,
  ) {
    this.#name = name;
    this.#port = port;
    this.#context = context;
    this.#known = context.known ?? { v4: [], v6: [] };
    this.#log = log;
    this.#onUrls = onUrls;
  }

  /** Origins, of all that is known. */
  get urls(): string[] {
    return addressesIn(this.#known).map((address) => new URL(`http://${formatHostPort(address, this.#port)}`).origin);
  }

  /** Looks again and again. Resolves when it has looked once. Never rejects. */
  async start(): Promise<void> {
    setInterval(() => void this.look(), INTERVAL).unref();
    await this.look();
  }

  /** One lookup. Never rejects. */
  async look(): Promise<void> {
    const v4 = this.#ask('A', async (name) => this.#context.resolver.resolve4(name));
    const v6 = this.#ask('AAAA', async (name) => this.#context.resolver.resolve6(name));
    const [some, more] = await Promise.all([v4, v6]);
    const before = this.#known;
    // Each kind by itself: there are name servers that know nothing of AAAA, and say so as if they were broken. That is
    // nothing to be told of, as long as there were no such addresses.
    const found = { v4: some.addresses ?? before.v4, v6: more.addresses ?? before.v6 };
    const nothing = addressesIn(found).length === 0;
    const failed = [
      before.v4.length > 0 || nothing ? some.problem : null,
      before.v6.length > 0 || nothing ? more.problem : null,
    ].find((problem) => problem !== null);
    this.#note(failed ?? (nothing ? 'it has no address' : null));
    if (nothing) return;
    this.#known = found;
    if (addressesIn(found).join() !== addressesIn(before).join()) this.#context.onFound(found);
    this.#onUrls(this.urls);
  }

  async #ask(type: string, resolve: (name: string) => Promise<string[]>): Promise<Answer> {
    try {
      return { addresses: await resolve(this.#name), problem: null };
    } catch (error) {
      if (NOTHING.has((error as NodeJS.ErrnoException).code ?? '')) return { addresses: [], problem: null };
      return { addresses: null, problem: `${type}: ${messageOf(error)}` };
    }
  }

  #note(problem: string | null): void {
    if (problem !== null && this.problem === null) {
      this.#log.warn(
        { name: this.#name, why: problem },
        'peers can not be looked up: the last known addresses are used',
      );
    }
    if (problem === null && this.problem !== null) this.#log.info({ name: this.#name }, 'peers can be looked up again');
    this.problem = problem;
  }
}

interface Answer {
  /** Null: nobody knows. */
  addresses: string[] | null;
  problem: string | null;
}

function addressesIn({ v4, v6 }: NamedAddresses): string[] {
  return [...new Set([...v4, ...v6])].toSorted().slice(0, MOST);
}
