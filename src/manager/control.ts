import type { Logger } from '../log.ts';
import type { Containers } from './containers.ts';
import type { DeployCounts } from './deploy-counts.ts';
import type { DeployLock } from './deploy-lock.ts';
import type { Environment } from './environment.ts';
import type { Journal } from './journal.ts';
import type { Recent } from './recent.ts';
import type { ContainerRuntime } from './runtime.ts';
import type { Traffic } from './traffic.ts';

/** What every part of the control plane works with. */
export interface Control {
  app: string;
  /** In ms. */
  drainTimeout: number;
  /** In ms. */
  launchTimeout: number;
  /** Environment for every container (`--cfg`). */
  environmentForContainers: () => Record<string, string>;
  containers: Containers;
  runtime: ContainerRuntime;
  environment: Environment;
  journal: Journal;
  traffic: Traffic;
  recent: Recent;
  counts: DeployCounts;
  lock: DeployLock;
  log: Logger;
  /** Aborts when the manager stops. */
  stopping: AbortSignal;
}
