import * as z from 'zod';
import { WunderproxyError } from '../errors.ts';

/** One deployment, as it stands in `history.json`. */
export interface Deployment {
  Revision: string;
  /** ISO 8601. */
  DeployedAt: string;
  DeployedBy: string;
  Hash: string;
}

/** So many of the last deployments are kept. */
export const HISTORY_LENGTH = 10;

const schema = z.array(
  z.looseObject({ Revision: z.string(), DeployedAt: z.string(), DeployedBy: z.string().catch(''), Hash: z.string() }),
);

/** Reads `history.json`; null: there is none yet. Throws `store_unavailable` for one that can't be understood. */
export function parseHistory(bytes: Buffer | null): Deployment[] {
  if (bytes === null) return [];
  try {
    return schema.parse(JSON.parse(bytes.toString('utf8')));
  } catch (cause) {
    // Written over, it would be lost; so nothing is done until somebody has looked at it.
    throw new WunderproxyError('store_unavailable', { message: 'history.json in the store is damaged.', cause });
  }
}

export function formatHistory(history: Deployment[]): Buffer {
  return Buffer.from(`${JSON.stringify(history, null, 2)}\n`);
}

/**
 * With one more deployment at its end. The same config twice in a row is one deployment: several machines that share the
 * store each switch to it.
 */
export function withDeployment(history: Deployment[], next: Deployment): Deployment[] {
  return history.at(-1)?.Hash === next.Hash ? history : [...history, next].slice(-HISTORY_LENGTH);
}

/** Cut after the last deployment of this hash. */
export function cutAfter(history: Deployment[], hash: string): Deployment[] {
  return history.slice(0, history.findLastIndex((deployment) => deployment.Hash === hash) + 1);
}

/**
 * The deployment to roll back to: that of `hash`, else the one before the config in service (`activeHash`). When the
 * config in service is no longer in the history, another machine has already rolled back: then it is the last one.
 * Throws `not_in_history`, `empty_history`.
 */
export function rollbackTarget(history: Deployment[], activeHash: string | null, hash: string | null): Deployment {
  if (hash !== null) {
    const named = history.findLast((deployment) => deployment.Hash === hash);
    if (!named) throw new WunderproxyError('not_in_history');
    return named;
  }
  const active = history.findLastIndex((deployment) => deployment.Hash === activeHash);
  const previous = history[active === -1 ? history.length - 1 : active - 1];
  if (!previous) throw new WunderproxyError('empty_history');
  return previous;
}
