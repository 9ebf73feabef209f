import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WunderproxyError } from '../../src/errors.ts';
import type { JournalEntry } from '../../src/manager/journal.ts';
import type { Status } from '../../src/manager/status.ts';
import { evidenceOf } from '../../src/web/advice.ts';
import { html, raw } from '../../src/web/html.ts';
import { summaryText } from '../../src/web/summary-text.ts';
import { render } from '../../src/web/views.ts';
import { active, container, entry, machine, model, status } from '../support/pages.ts';
import { pageOf } from './support.ts';

const HOSTILE = `"'><script>alert(1)</script><img src=x onerror=alert(2)>\u202e\u001b[31m&amp;`;

/** Every string in it replaced by what an attacker would write; times and states stay, or nothing would be shown. */
function poisoned<T>(value: T, key = ''): T {
  if (typeof value === 'string') {
    return (
      /^(?:At|Time|\w+At|Not\w+|DrainSince|DrainDeadline|State|Phase|Event|Outcome)$/.test(key) ? value : HOSTILE
    ) as T;
  }
  if (Array.isArray(value)) return value.map((each: unknown) => poisoned(each, key)) as T;
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, poisoned(each, name)])) as T;
}

function assertHarmless(markup: string): void {
  assert.equal(/<(?:script(?! src="\/live\.js" defer>)|img)/i.exec(markup)?.[0], undefined);
  assert.equal(/[\u202e\u001b]/.exec(markup), null);
  // Its quotes did not end an attribute: outside of tags and attributes it stands in full.
  assert.ok(markup.includes('&lt;script&gt;alert(1)&lt;/script&gt;'));
  for (const [tag] of markup.matchAll(/<[^!][^>]*>/g))
    assert.equal(/\sonerror=/.exec(tag.replace(/"[^"]*"/g, '')), null, tag);
}

test('whatever comes from outside is shown as text', () => {
  const one = active('3');
  const failed = container('5', { State: 'failed', Failure: 'x', Address: 'x' });
  const full: Status = poisoned(
    status({
      Active: one,
      Containers: [one, failed, container('4'), container('2', { State: 'draining' })],
      Launches: [
        { Hash: 'x', Revision: 'x', By: 'x', StartedAt: one.StartedAt ?? '', Phase: 'health', Step: 'x', Probes: [] },
      ],
      Deploys: [{ At: one.SwitchedAt ?? '', Event: 'switch', Revision: 'x', Hash: 'x', Container: 'x', By: 'x' }],
      Certificates: [
        { Names: ['x'], Source: 'x', Issuer: 'x', NotBefore: '', NotAfter: one.StartedAt, DaysLeft: 3, Problem: 'x' },
      ] as unknown as Status['Certificates'],
      FleetState: 'x',
      PeersDnsState: 'x',
      Peers: [machine('x', { Self: true }), machine('x', { Differs: true }), machine('x', { Stale: true })],
    }),
  );
  full.Totals = { ...full.Totals, StatusCodes: { [HOSTILE]: 3 }, Errors: { [HOSTILE]: 3 } };
  full.Totals.Fallbacks = [{ Peer: HOSTILE, Reason: HOSTILE, Outcome: HOSTILE, Count: 1 }];
  const detail = {
    Probes: [{ Result: HOSTILE, Count: 1, FirstAt: HOSTILE, LastAt: HOSTILE }],
    Logs: [HOSTILE],
    Problems: [HOSTILE],
  };
  const journal: JournalEntry[] = [{ ...poisoned(entry(5)), Event: 'failure', Outcome: 'failed', Detail: detail }];
  const error = new WunderproxyError('not_healthy', { message: HOSTILE, detail });
  const act = { id: 1, kind: 'launch' as const, by: HOSTILE, hash: HOSTILE, revision: HOSTILE };
  const acts = [{ ...act, startedAt: 0, endedAt: 0, outcome: 'failed' as const, message: HOSTILE, error }];
  const page = pageOf(model({ status: full, journal, acts, host: HOSTILE, journalProblem: HOSTILE }));
  assertHarmless(page);
  assert.ok(page.split('&lt;script&gt;').length > 60, 'all of them are shown');
});

test('so it is on the pages that ask and that say what went wrong', () => {
  const plan = [html`<b>${HOSTILE}</b>`];
  const about = { title: HOSTILE, plan, kind: 'switch', hash: HOSTILE, seen: HOSTILE, by: HOSTILE, changed: HOSTILE };
  assertHarmless(render('confirm', { ...about, button: HOSTILE }).text);
  assertHarmless(render('login', { problem: HOSTILE }).text);
  assertHarmless(render('layout', { title: HOSTILE, app: HOSTILE, host: HOSTILE, body: raw(''), live: true }).text);
});

test('a journal entry of another version, or of somebody else, breaks nothing', () => {
  for (const detail of [
    null,
    7,
    'x',
    [],
    { Probes: 'x', Logs: { 0: 'x' } },
    { Probes: [null, 3, { Result: 1 }], Logs: [1] },
  ]) {
    assert.deepEqual(evidenceOf(detail), { probes: [], logs: [], problems: [] });
    assert.ok(pageOf(model({ journal: [entry(1, { Detail: detail, Time: 'yesterday', Outcome: 'failed' })] })));
  }
});

test('the text for curl does not steer the terminal', () => {
  const one = active('3', { Revision: 'v\u001b[2J3', Address: 'a\nb' });
  const Peers = [machine('web-1', { Self: true }), machine('a\nb', { Api: 'http://\u001b[2J' })];
  assert.match(summaryText(status({ Active: one, Containers: [one], Peers })), /^[^\u0000-\u0009\u000b-\u001f]+\n$/);
});
