import type { ChildProcess } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { encode, processConfig, type ConfigOptions, type Workshop } from './deployable.ts';
import { type Cleanup, exitOf, spawnForTest } from './processes.ts';
import { startProgram, type TestProgram } from './program.ts';

const bin = resolve(import.meta.dirname, '../../bin/wunderproxy');

/** How a command of the client ended. */
export interface ClientEnd {
  /** Null: by a signal. */
  code: number | null;
  out: string;
  err: string;
}

/** A command of the client that runs. */
export class TestClient {
  readonly #child: ChildProcess;
  readonly #onOutput = new Set<() => void>();
  out = '';
  err = '';

  /** `env` is all that it gets beside PATH and HOME. */
  constructor(t: Cleanup, args: string[], env: Record<string, string> = {}) {
    const { PATH = '', HOME = '', TMPDIR = '/tmp' } = process.env;
    this.#child = spawnForTest(t, bin, args, {
      env: { PATH, HOME, TMPDIR, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child.stdout?.on('data', (chunk: Buffer) => {
      this.out += chunk.toString();
      for (const look of this.#onOutput) look();
    });
    this.#child.stderr?.on('data', (chunk: Buffer) => {
      this.err += chunk.toString();
      for (const look of this.#onOutput) look();
    });
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Resolves once what it has said matches; rejects when it ends without. */
  async says(pattern: RegExp): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const look = () => {
      if (pattern.test(this.out + this.err)) resolve();
    };
    this.#onOutput.add(look);
    look();
    void this.ended().then(({ code, out, err }) => {
      look();
      reject(new Error(`it ended with ${code} without saying ${pattern}: ${out}${err}`));
    });
    try {
      await promise;
    } finally {
      this.#onOutput.delete(look);
    }
  }

  async ended(): Promise<ClientEnd> {
    const closed = new Promise<void>((done) => {
      const { stdout } = this.#child;
      if (stdout === null || stdout.closed) done();
      else stdout.once('close', () => done());
    });
    const { code } = await exitOf(this.#child);
    await closed;
    return { code, out: this.out, err: this.err };
  }
}

/** Runs a command of the client to its end. */
export async function runClient(t: Cleanup, args: string[], env?: Record<string, string>): Promise<ClientEnd> {
  return new TestClient(t, args, env).ended();
}

/** A file with a launch config of the test application; the store does not have it yet. */
export function configFile(
  shop: Pick<Workshop, 'stateDir'>,
  revision: string,
  options?: ConfigOptions,
): { path: string; hash: string } {
  const { hash, bytes } = processConfig(revision, options);
  return { hash, path: writeConfig(shop, `${hash}.json`, bytes) };
}

/** A file with any config. */
export function rawConfigFile(shop: Pick<Workshop, 'stateDir'>, config: object): { path: string; hash: string } {
  const { hash, bytes } = encode(config);
  return { hash, path: writeConfig(shop, `${hash}.json`, bytes) };
}

function writeConfig({ stateDir }: Pick<Workshop, 'stateDir'>, name: string, bytes: Buffer): string {
  // Beside the state directory: in the workshop's own folder, which goes with the test.
  const path = join(`${stateDir}/..`, name);
  writeFileSync(path, bytes);
  return path;
}

/** So many machines that share a store, each with state of its own, and `--on` for each. */
export async function startFleet(
  t: Cleanup,
  shop: Workshop,
  count: number,
  args: string[] | ((at: number) => string[]) = [],
): Promise<{ programs: TestProgram[]; on: string[] }> {
  const programs = await Promise.all(
    Array.from({ length: count }, async (_, at) =>
      startProgram(t, {
        args: [
          ...['--runtime', 'process', '--workers', '1'],
          ...(typeof args === 'function' ? args(at) : args),
          ...[shop.bucket, shop.prefix, 'shop'],
        ],
        stateDir: `${shop.stateDir}-${at}`,
      }),
    ),
  );
  return { programs, on: programs.flatMap(({ api }) => ['--on', `http://${api}`]) };
}
