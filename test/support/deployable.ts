import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Cleanup } from './processes.ts';
import { endPrograms } from './program.ts';

const APP = resolve(import.meta.dirname, 'app/server.js');

/** A directory store for `--runtime process`, and the test application's launch configs in it. */
export interface Workshop {
  /** As on the command line. */
  bucket: string;
  prefix: string;
  /** Folder with the environment's objects. */
  environment: string;
  stateDir: string;
  /** Stores a launch config of the test application with these settings and resolves to its hash. */
  config(revision: string, options?: ConfigOptions): string;
  /** Writes an object, whatever was there, whole for whoever reads it meanwhile. */
  write(key: string, text: string): void;
}

/** How a launch config is to differ from a healthy one. */
export interface ConfigOptions {
  /** Settings of app/server.js. */
  env?: Record<string, string>;
  /** Top-level keys that are added or replaced. */
  more?: object;
  algorithm?: 'md5' | 'sha256';
}

/** Gone when the test ends. */
export function workshop(t: Cleanup): Workshop {
  const folder = mkdtempSync(join(tmpdir(), 'wundertest-'));
  t.after(async () => {
    await endPrograms(t);
    rmSync(folder, { recursive: true, force: true });
  });
  const environment = join(folder, 'store/test');
  mkdirSync(environment, { recursive: true });
  return {
    bucket: `file://${join(folder, 'store')}`,
    prefix: 'test',
    environment,
    stateDir: join(folder, 'state'),
    write(key, text) {
      const path = join(environment, key);
      writeFileSync(`${path}.new`, text);
      renameSync(`${path}.new`, path);
    },
    config(revision, options = {}) {
      const { hash, bytes } = processConfig(revision, options);
      writeFileSync(join(environment, `container.${hash}.json`), bytes);
      return hash;
    },
  };
}

/** A launch config that runs the test application as a child process. */
export function processConfig(revision: string, options: ConfigOptions = {}): { hash: string; bytes: Buffer } {
  const env = Object.entries({ VERSION: revision, HOST: '127.0.0.1', ...options.env }).map(
    ([key, value]) => `${key}=${value}`,
  );
  return encode(
    {
      ContainerConfig: { Cmd: [process.execPath, APP], Env: env },
      HealthCheckPath: '/up',
      Revision: revision,
      ...options.more,
    },
    options.algorithm,
  );
}

/** A launch config as bytes with its hash. */
export function encode(config: object, algorithm: 'md5' | 'sha256' = 'md5'): { hash: string; bytes: Buffer } {
  const bytes = Buffer.from(`${JSON.stringify(config, null, 2)}\n`);
  return { hash: createHash(algorithm).update(bytes).digest('hex'), bytes };
}
