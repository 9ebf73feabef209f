import { peersOf, type Peer, type Status } from './answers.ts';
import { type ClientOptions, parseManagerUrl } from './command-line.ts';
import { CommandFailure, EXIT } from './exit-codes.ts';
import { ManagerClient } from './manager-client.ts';
import { oneLine } from './text.ts';

/** Told of machines that are left out. */
type OnSkip = (text: string) => void;

/**
 * The managers that a command is for. With `--fleet`: all machines that the first one knows.
 * Throws CommandFailure, Refusal, Unreachable.
 */
export async function openManagers(options: ClientOptions, onSkip: OnSkip): Promise<ManagerClient[]> {
  const named = options.on.map((url) => open(url, nameOf(url), options));
  const [first] = named;
  if (!options.fleet || !first) return named;
  const peers = peersOf(await first.status());
  if (peers.length === 0) {
    throw new CommandFailure(EXIT.failed, `${first.name} knows of no fleet: name the machines with --on.`);
  }
  const managers: ManagerClient[] = [];
  for (const peer of peers) {
    const manager = peer.Self ? open(first.url, oneLine(peer.Name), options) : await openPeer(peer, options, onSkip);
    if (manager) managers.push(manager);
  }
  await first.close();
  return managers;
}

/** That all are managers of one environment. Throws CommandFailure. */
export function checkSame(managers: readonly ManagerClient[], statuses: readonly Status[]): void {
  const [first] = statuses;
  for (const [at, { App, Store }] of statuses.entries()) {
    if (App === first?.App && Store === first.Store) continue;
    throw new CommandFailure(
      EXIT.failed,
      `${managers[at]?.name} serves ${App} from ${Store}, but ${managers[0]?.name} ${first?.App} from ${first?.Store}: ` +
        'what is deployed together must share a store.',
    );
  }
}

/** Null: it is to be left out. */
async function openPeer(peer: Peer, options: ClientOptions, onSkip: OnSkip): Promise<ManagerClient | null> {
  const name = oneLine(peer.Name || peer.Machine);
  const problem = await problemOf(peer, name, options);
  if (typeof problem !== 'string') return problem;
  if (!options.skipStale) {
    throw new CommandFailure(EXIT.unreachable, `${name}: ${problem}. Leave it out with --skip-stale.`);
  }
  onSkip(`${name} is left out: ${problem}`);
  return null;
}

/** Its manager, or why it can't be had. */
async function problemOf(peer: Peer, name: string, options: ClientOptions): Promise<ManagerClient | string> {
  if (peer.Stale) return 'it has not been heard of for some time';
  const url = urlOf(peer.Api ?? '');
  if (url === null) return 'its manager listens where only that machine reaches it (--api)';
  const manager = open(url, name, options);
  try {
    // An address may mean another machine than it is meant to: 127.0.0.1 always does.
    const self = peersOf(await manager.status()).find(({ Self }) => Self);
    if (self?.Machine === peer.Machine) return manager;
    await manager.close();
    return `at ${url} another machine answers`;
  } catch (error) {
    await manager.close();
    return `its manager at ${url} can not be asked: ${(error as Error).message}`;
  }
}

function open(url: string, name: string, { token, by }: ClientOptions): ManagerClient {
  return new ManagerClient({ url, name, token, by });
}

function nameOf(url: string): string {
  return url.replace(/^https?:\/\//, '');
}

function urlOf(api: string): string | null {
  try {
    return parseManagerUrl(api.includes('://') ? api : `http://${api}`);
  } catch {
    return null;
  }
}
