import type { Cleanup } from '../test/support/processes.ts';
import type { TestProgram } from '../test/support/program.ts';
import type { Target } from './load.ts';

/** An application: `node FILE`, with its address in PORT. */
export interface App {
  file: string;
  env: Record<string, string>;
}

/** Files in PEM. */
export interface TlsFiles {
  cert: string;
  key: string;
}

/** How a subject is to be set up. */
export interface Setup {
  app: App;
  /** Without it, plain HTTP. */
  tls: TlsFiles | null;
  workers: number;
}

/** A subject that answers. */
export interface Running {
  target: Target;
  /** Its processes that run now, without the application's. */
  pids(): number[];
  deployment?: Deployment;
}

/** Of wunderproxy: what it takes to deploy the application anew. */
export interface Deployment {
  program: TestProgram;
  /** Stores a launch config of the application under this revision and returns its hash. */
  config(revision: string): string;
}

/** Something that requests can be sent through to an application. */
export interface Subject {
  name: string;
  /** What it is measured with, for the record. */
  version: string;
  /** Whether it can do TLS at all. */
  tls: boolean;
  /** A variant that is of interest in this case only. */
  only?: string;
  /**
   * Starts it in front of an application of its own that is made from `app`, and resolves once it answers; ends with
   * `cleanup`.
   */
  start(cleanup: Cleanup, setup: Setup): Promise<Running>;
}
