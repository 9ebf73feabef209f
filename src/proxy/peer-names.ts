import type { Resolver } from 'node:dns/promises';
import type { Logger } from '../log.ts';
import { messageOf } from '../errors.ts';
import { formatHostPort } from '../units.ts';

/** How often (ms) a name is looked up again. */
const INTERVAL = 10_000;
/** More addresses would only make health checks. */
const MOST = 64;
/** What a server says when it knows the name but no such address, or not even the name. */
const NOTHING = new Set(['ENODATA', 'ENOTFOUND']);

/** The peers behind a name: its A and AAAA records, looked up again and again. A failed lookup changes nothing. */
export class PeerNames {
  readonly #name: string;
  readonly #port: number;
  readonly #resolver: Pick<Resolver, 'resolve4' | 'resolve6'>;
  readonly #log: Logger;
  readonly #onUrls: (urls: string[]) => void;
  #failing = false;

  /** `onUrls` is called with the origins after each lookup that gave some. */
  constructor(
    { name, port }: { name: string; port: number },
    resolver: Pick<Resolver, 'resolve4' | 'resolve6'>,
    log: Logger,
    onUrls: (urls: string[]) => void,
  ) {
    this.#name = name;
    this.#port = port;
    this.#resolver = resolver;
    this.#log = log;
    this.#onUrls = onUrls;
  }

  start(): void {
    void this.look();
    setInterval(() => void this.look(), INTERVAL).unref();
  }

  /** One lookup. Never rejects. */
  async look(): Promise<void> {
    try {
      const found = await Promise.all([
        addresses(this.#resolver.resolve4(this.#name)),
        addresses(this.#resolver.resolve6(this.#name)),
      ]);
      const all = [...new Set(found.flat())].toSorted().slice(0, MOST);
      if (all.length === 0) throw new Error('it has no address');
      this.#failing = false;
      this.#onUrls(all.map((address) => new URL(`http://${formatHostPort(address, this.#port)}`).origin));
    } catch (error) {
      if (!this.#failing) this.#log.warn({ name: this.#name, why: messageOf(error) }, 'peers can not be looked up');
      this.#failing = true;
    }
  }
}

async function addresses(answer: Promise<string[]>): Promise<string[]> {
  try {
    return await answer;
  } catch (error) {
    if (NOTHING.has((error as NodeJS.ErrnoException).code ?? '')) return [];
    throw error;
  }
}
