import { hostname } from 'node:os';
import { messageOf } from '../errors.ts';
import type { ApiOptions } from '../manager/api.ts';
import { statusOf } from '../manager/status.ts';
import type { Acts } from './acts.ts';
import type { Html } from './html.ts';
import type { PageModel } from './model.ts';
import { numbers } from './numbers.ts';
import { renderSections, type Sections } from './sections.ts';

/** How old (ms) what the store knows may become while somebody looks. */
const REFRESH = 15_000;
/** The first page waits so long (ms) for the store, so that it is complete. */
const PATIENCE = 1_000;
/** A page that was rendered within so long (ms) is shown again. */
const FRESH = 900;

/** Where the page gets what it shows: from memory, as `/status`, and now and then from the store. */
export class PageSource {
  readonly #options: ApiOptions;
  readonly #acts: Acts;
  #journalProblem: string | null = null;
  #refreshing: Promise<void> | null = null;
  #refreshedAt = -Infinity;
  #rendered: { at: number; sections: Sections } | null = null;

  constructor(options: ApiOptions, acts: Acts) {
    this.#options = options;
    this.#acts = acts;
  }

  /** All parts of the page, rendered once for all who ask within a second. */
  sections(): Sections {
    const now = performance.now();
    if (this.#rendered && now - this.#rendered.at < FRESH) return this.#rendered.sections;
    if (now - this.#refreshedAt > REFRESH) void this.#refresh();
    const sections = renderSections(this.#model());
    this.#rendered = { at: now, sections };
    return sections;
  }

  /** The tables that are not on the page itself. */
  numbers(): Html {
    const { control, deployments, about } = this.#options;
    return numbers(statusOf(control, deployments, about), Date.now());
  }

  /** Forgets what was rendered: something has happened that is to be seen at once. */
  touch(): void {
    this.#rendered = null;
  }

  /** Resolves when history and journal were read from the store, at most a moment ago, or after a second. */
  async settled(): Promise<void> {
    if (this.#refreshedAt > -Infinity) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, PATIENCE);
    await Promise.race([this.#refresh(), promise]);
    clearTimeout(timer);
  }

  #model(): PageModel {
    const { control, deployments, about } = this.#options;
    const now = Date.now();
    return {
      status: statusOf(control, deployments, about),
      host: hostname(),
      now,
      journal: control.journal.known(),
      journalProblem: this.#journalProblem,
      acts: this.#acts.shown(now),
    };
  }

  /** Never rejects. */
  async #refresh(): Promise<void> {
    this.#refreshing ??= this.#read().finally(() => {
      this.#refreshing = null;
      this.#refreshedAt = performance.now();
    });
    await this.#refreshing;
  }

  async #read(): Promise<void> {
    const { control } = this.#options;
    try {
      await control.environment.history();
      await control.journal.recent();
      await control.lock.refresh();
      this.#journalProblem = null;
    } catch (error) {
      this.#journalProblem = messageOf(error);
    }
  }
}
