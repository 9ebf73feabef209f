import type { ContainerInfo, ContainerRuntime } from '../../src/manager/runtime.ts';

/** Longest wait for anything that a runtime is to report. */
const LIMIT_MS = 20_000;

/** Watches a runtime, for tests that wait for what it reports. */
export class Changes {
  readonly #runtime: ContainerRuntime;
  #wake = Promise.withResolvers<void>();
  /** Everything reported so far. */
  readonly seen: (string | null)[] = [];

  constructor(runtime: ContainerRuntime) {
    this.#runtime = runtime;
    runtime.watch((id) => {
      this.seen.push(id);
      this.#wake.resolve();
      this.#wake = Promise.withResolvers();
    });
  }

  /** Resolves once something is reported after which `holds` is true. */
  async until(holds: () => boolean | Promise<boolean>, what: string): Promise<void> {
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => {
      late.reject(new Error(`not reported within ${LIMIT_MS} ms: ${what}`));
    }, LIMIT_MS);
    try {
      for (;;) {
        const { promise } = this.#wake;
        if (await holds()) return;
        await Promise.race([promise, late.promise]);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  /** Resolves to the container as soon as a report leads to it being as `holds` says. */
  async untilContainer(id: string, holds: (info: ContainerInfo | null) => boolean, what: string): Promise<void> {
    await this.until(async () => holds(await this.#runtime.inspect(id)), what);
  }
}
