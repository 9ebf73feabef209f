import type { PeerFallback, PeerStatus } from '../manager/peers.ts';
import type { Status } from '../manager/status.ts';
import * as format from './format.ts';
import type { Html } from './html.ts';
import type { Finding } from './verdict.ts';
import { render } from './views.ts';

/** So many machines are named in one sentence. */
const NAMED = 3;

/** With more machines than these, those that are fine have no row of their own. */
const ROWS = 8;

/** So many are in the table, and as many in that line: first this one, then those that there is most to say of. */
const MOST = 40;

/** So many kinds of fallbacks are shown, the most frequent ones. */
const FALLBACKS = 12;

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

/** How a machine does as a peer to fall back to. */
const FALLBACK_LOOKS: Record<PeerFallback['State'], Look> = {
  healthy: { sign: '✓', word: 'healthy', look: 'active' },
  unhealthy: { sign: '✕', word: 'unhealthy', look: 'failed' },
  open: { sign: '✕', word: 'open', look: 'failed' },
  'half-open': { sign: '◐', word: 'half-open', look: 'draining' },
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

/** The part of the page with all machines that share the store, and peers of which only the address is known. */
export function machinesSection({ Peers, FleetState, Totals }: Status, now: number): Html {
  const own = Peers.find(({ Self }) => Self);
  const all = Peers.map((peer) => ({
    peer,
    look: lookOf(peer),
    fallback: peer.Fallback && { ...peer.Fallback, ...FALLBACK_LOOKS[peer.Fallback.State] },
    link: linkTo(peer, own),
    key: peer.SeenAt === null ? peer.Proxy : (peer.Machine?.slice(-8) ?? null),
    heard: peer.SeenAt === null ? null : format.age(now - Date.parse(peer.SeenAt)),
    same: !peer.Self && peer.Active?.Hash === own?.Active?.Hash,
  }));
  const fine = all.length > ROWS ? all.filter(({ peer, same }) => same && isFine(peer)) : [];
  const rest = all.filter((each) => !fine.includes(each));
  const rows = rest.length > MOST ? rest.toSorted((a, b) => weightOf(b.peer) - weightOf(a.peer)).slice(0, MOST) : rest;
  const sharing = new Set(Peers.flatMap(({ Machine }) => Machine ?? []));
  return render('machines', {
    f: format,
    rows,
    hidden: rest.length - rows.length,
    fine: fine.slice(0, MOST),
    fineCount: fine.length,
    fineInFlight: fine.reduce((sum, { peer }) => sum + (peer.InFlight ?? 0), 0),
    sharing: sharing.size,
    unknown: Peers.filter(({ Machine }) => Machine === null).length,
    fallbacks: Totals.Fallbacks.toSorted((a, b) => b.Count - a.Count).slice(0, FALLBACKS),
    fallback: all.some((each) => each.fallback !== null),
    problem: FleetState === 'Ok' ? null : FleetState,
  });
}

/** Nothing of it is to be pointed out. */
function isFine({ State, Stale, Differs, ErrorsLastMinute, Fallback }: PeerStatus): boolean {
  return State === 'ready' && !Stale && !Differs && ErrorsLastMinute === 0 && !isOut(Fallback);
}

function weightOf(peer: PeerStatus): number {
  if (peer.Self) return 2;
  return peer.Stale || peer.Differs || peer.State !== 'ready' ? 1 : 0;
}

function lookOf({ Stale, State }: PeerStatus): Look {
  const known = LOOKS[State] ?? { sign: '?', word: State.replaceAll('_', ' '), look: '' };
  return Stale ? { sign: '?', word: `silent, was ${known.word}`, look: 'low' } : known;
}

/** What there is to say about other machines, and about seeing them. */
export function machineFindings({ Peers, PeersDnsState, FleetState, StoreState }: Status): Finding[] {
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
  const out = alive.filter(({ State, Fallback }) => isOut(Fallback) && !OUT_OF_SERVICE.includes(State));
  for (const [error, which] of Map.groupBy(out, ({ Fallback }) => Fallback?.LastError ?? null)) {
    say(which, `requests do not fall back there${error === null ? '' : ` (${error})`}.`);
  }
  if (PeersDnsState !== 'Ok') {
    const text = `The name of peers can not be looked up (${PeersDnsState}): the last known addresses are used.`;
    found.push({ level: 'warn', text });
  }
  // When the store is down, that says it all.
  if (FleetState !== 'Ok' && StoreState === 'Ok') {
    found.push({ level: 'warn', text: `Machines may not see one another as they are. ${FleetState}` });
  }
  return found;
}

/** One that is half open has failed, and is tried. */
function isOut(fallback: PeerFallback | null): boolean {
  return fallback !== null && fallback.State !== 'healthy';
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
    const out = isOut(peer.Fallback) ? `, no fallback to it (${peer.Fallback?.State ?? ''})` : '';
    return `machine ${Name}${where}: ${revision}, ${lookOf(peer).word}${heard}, ${InFlight ?? 0} in flight${out}`;
  });
}
