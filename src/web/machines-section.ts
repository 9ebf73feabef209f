import type { PeerStatus } from '../manager/peers.ts';
import type { Status } from '../manager/status.ts';
import * as format from './format.ts';
import type { Html } from './html.ts';
import type { Finding } from './verdict.ts';
import { render } from './views.ts';

/** So many machines are named in one sentence. */
const NAMED = 3;

/** So many kinds of fallbacks are shown, the most frequent ones. */
const FALLBACKS = 12;

/** So many are in the table: first this one, then those that there is something to say of. */
const MOST_ROWS = 40;

/** How a machine is shown: never by its colour alone. */
interface Look {
  sign: string;
  word: string;
  /** Class of the style sheet; empty: nothing is to be pointed out. */
  look: 'active' | 'draining' | 'failed' | 'low' | '';
}

const LOOKS: Record<string, Look> = {
  ready: { sign: '●', word: 'ready', look: 'active' },
  deploying: { sign: '…', word: 'deploying', look: 'draining' },
  draining: { sign: '◐', word: 'draining', look: 'draining' },
  docker_down: { sign: '✕', word: 'engine down', look: 'low' },
  no_active_container: { sign: '✕', word: 'not serving', look: 'failed' },
  no_workers: { sign: '✕', word: 'no workers', look: 'failed' },
  stopping: { sign: '◌', word: 'stopping', look: 'draining' },
};

/** Clients of a machine in these states are not served by it. */
const OUT_OF_SERVICE = ['no_active_container', 'no_workers'];

/** Whether a page can link to another machine's: what is on its loopback interface is out of reach, unless it is here. */
function linkTo({ Api, Name, Self }: PeerStatus, own: PeerStatus | undefined): string | null {
  if (Api === null || Self || !URL.canParse(Api)) return null;
  const { hostname } = new URL(Api);
  const loopback = /^(?:127\.|\[::1\]$|localhost$)/.test(hostname);
  return loopback && Name !== own?.Name ? null : Api;
}

/** The part of the page with all machines that share the store. */
export function machinesSection({ Peers, FleetState, Totals }: Status, now: number): Html {
  const own = Peers.find(({ Self }) => Self);
  const shown =
    Peers.length > MOST_ROWS ? Peers.toSorted((a, b) => weightOf(b) - weightOf(a)).slice(0, MOST_ROWS) : Peers;
  const rows = shown.map((peer) => ({
    peer,
    look: lookOf(peer),
    link: linkTo(peer, own),
    heard: peer.SeenAt === null ? null : format.age(now - Date.parse(peer.SeenAt)),
  }));
  const fallbacks = Totals.Fallbacks.toSorted((a, b) => b.Count - a.Count).slice(0, FALLBACKS);
  const problem = FleetState === 'Ok' ? null : FleetState;
  return render('machines', { f: format, rows, all: Peers.length, fallbacks, problem });
}

function weightOf(peer: PeerStatus): number {
  if (peer.Self) return 2;
  const asPeer = peer.Fallback === null || peer.Fallback.State === 'healthy';
  return peer.Stale || peer.Differs || peer.State !== 'ready' || !asPeer ? 1 : 0;
}

function lookOf({ Stale, State }: PeerStatus): Look {
  const known = LOOKS[State] ?? { sign: '?', word: State.replaceAll('_', ' '), look: '' };
  return Stale ? { sign: '?', word: `silent, was ${known.word}`, look: 'low' } : known;
}

/** What there is to say about other machines, and about seeing them. */
export function machineFindings({ Peers, FleetState, StoreState }: Status): Finding[] {
  const found: Finding[] = [];
  const say = (which: PeerStatus[], text: string) => {
    if (which.length > 0) found.push({ level: 'warn', text: `${namesOf(which)}: ${text}` });
  };
  const others = Peers.filter(({ Self }) => !Self);
  const alive = others.filter(({ Stale }) => !Stale);
  say(
    others.filter(({ Stale }) => Stale),
    'not heard of any more. Dead, or cut off from the store.',
  );
  say(
    alive.filter(({ State }) => OUT_OF_SERVICE.includes(State)),
    'clients there get 503.',
  );
  say(
    Peers.filter(({ Differs, Stale }) => Differs && !Stale),
    'another config is in service than the store names.',
  );
  say(
    alive.filter(({ Fallback }) => Fallback !== null && Fallback.State !== 'healthy'),
    'requests can not fall back there.',
  );
  // When the store is down, that says it all.
  if (FleetState !== 'Ok' && StoreState === 'Ok') {
    found.push({ level: 'warn', text: `Machines may not see one another as they are. ${FleetState}` });
  }
  return found;
}

function namesOf(peers: PeerStatus[]): string {
  const names = peers.map(({ Name, Self }) => (Self ? 'This machine' : Name));
  const more = names.length - NAMED;
  return more > 0 ? `${names.slice(0, NAMED).join(', ')} and ${more} more` : names.join(', ');
}

/** The same for `curl`: a line for each machine, if there is more than one. */
export function machineLines({ Peers }: Status, now: number): string[] {
  if (Peers.length < 2) return [];
  return Peers.map((peer) => {
    const { Name, Self, Active, Differs, SeenAt, Stale, InFlight, Api } = peer;
    const revision = Active === null ? 'nothing in service' : `${Active.Revision}${Differs ? ' (differs)' : ''}`;
    const heard = Stale && SeenAt !== null ? `, last heard of ${format.age(now - Date.parse(SeenAt))} ago` : '';
    const where = Self ? ' (this one)' : Api === null ? '' : ` at ${Api}`;
    return `machine ${Name}${where}: ${revision}, ${lookOf(peer).word}${heard}, ${InFlight ?? 0} in flight`;
  });
}
