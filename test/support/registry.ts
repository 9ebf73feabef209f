import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from './free-port.ts';
import { endProcess } from './processes.ts';

const START_LIMIT_MS = 20_000;

/** A registry of images on 127.0.0.1, which Docker takes without TLS. */
export class ImageRegistry {
  readonly port: number;
  readonly #dir: string;
  readonly #process: ChildProcess;

  private constructor(dir: string, port: number, process: ChildProcess) {
    this.#dir = dir;
    this.port = port;
    this.#process = process;
  }

  /** With all of its files below `dir`. */
  static async start(dir: string): Promise<ImageRegistry> {
    mkdirSync(dir, { recursive: true });
    const port = await freePort();
    const config = {
      version: '0.1',
      log: { level: 'error' },
      storage: { filesystem: { rootdirectory: join(dir, 'data') } },
      http: { addr: `127.0.0.1:${port}` },
    };
    // JSON is YAML.
    writeFileSync(join(dir, 'config.yml'), JSON.stringify(config));
    const log = openSync(join(dir, 'log'), 'a');
    const args = ['serve', join(dir, 'config.yml')];
    const child = spawn('docker-registry', args, { stdio: ['ignore', log, log], detached: true });
    closeSync(log);
    await once(child, 'spawn');
    const registry = new ImageRegistry(dir, port, child);
    const deadline = Date.now() + START_LIMIT_MS;
    while (!(await answers(port))) {
      if (child.exitCode !== null || Date.now() > deadline) {
        await registry.stop();
        throw new Error('docker-registry does not come up');
      }
      await delay(50);
    }
    return registry;
  }

  /** The registry's process, for a test that stops or kills it. */
  get pid(): number {
    return this.#process.pid ?? 0;
  }

  async stop(): Promise<void> {
    await endProcess(this.#process);
    rmSync(this.#dir, { recursive: true, force: true });
  }
}

async function answers(port: number): Promise<boolean> {
  try {
    return (await fetch(`http://127.0.0.1:${port}/v2/`, { signal: AbortSignal.timeout(1_000) })).ok;
  } catch {
    return false;
  }
}
