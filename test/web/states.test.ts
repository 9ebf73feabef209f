import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Status } from '../../src/manager/status.ts';
import { numbers } from '../../src/web/numbers.ts';
import { renderSections } from '../../src/web/sections.ts';
import { summaryText } from '../../src/web/summary-text.ts';
import { active, container, latency, machine, model, NOW, PAGES, status } from '../support/pages.ts';
import { pageOf, weight } from './support.ts';

/** The text of a page's part, as somebody reads it. */
function textOf(markup: string): string {
  return markup
    .replace(/<svg.*?<\/svg>/gs, ' ')
    .replace(/<[^>]+>/g, ' ')
    .replace(/&#39;/g, "'")
    .replace(/[\s\u00a0\u202f]+/g, ' ');
}

const said: [state: string, part: keyof ReturnType<typeof renderSections>, expected: RegExp[]][] = [
  [
    'calm',
    'summary',
    [
      /OK v3 is in service, and nothing fails/,
      /v3 in service since 2026-03-14 13:40 UTC , for 1 h 29 min, by ops/,
      /Failed 0 %/,
      /In flight 7 /,
      /Connections 282 /,
    ],
  ],
  ['calm', 'containers', [/● v3 in service/, /for 1 h 29 min/, /Deployed by ops/, /172\.17\.0\.3:9292/, /3{32}/]],
  ['calm', 'machine', [/Bodies in memory 1\.4 MiB/, /36\.5 MiB in 3 files/, /1 serving 4711/]],
  ['calm', 'machines', [/^ No other machine shares this store\. $/]],
  ['three machines', 'summary', [/OK v3 is in service, and nothing fails/]],
  [
    'three machines',
    'machines',
    [/3 machines share this store/, /web-1 this one v3 ● ready now 7 0 1 284 002 web-2 v3 ● ready 4 s ago 7 /],
  ],
  [
    'a peer is out',
    'machines',
    [
      /http:\/\/web-2\.example\.com no_active_container ● answered 1 284 http:\/\/web-3\.example\.com upstream_refused ✕ upstream_refused 5 nowhere no_active_container ✕ over_budget 3/,
    ],
  ],
  [
    'machines that differ, are silent, and do not serve',
    'summary',
    [
      /web-3: not heard of any more/,
      /web-4: clients there get 503/,
      /web-2: another config is in service/,
      /Machines may not see one another as they are\. The store .* no answer in time/,
    ],
  ],
  [
    'machines that differ, are silent, and do not serve',
    'machines',
    [
      /web-2 v2 ≠ differs … deploying 9 s ago/,
      /web-3 v2 ≠ differs \? silent, was ready 1 h 6 min ago/,
      /web-4 – ✕ not serving 4 s ago 0 12 302 /,
      /web-5 v3 ✕ engine down/,
      /10\.0\.0\.7 – \? unknown never – – –/,
      /it serves another config than current\.json/,
    ],
  ],
  [
    'a peer is out',
    'summary',
    [
      /web-3, 10\.0\.0\.9:8080: requests do not fall back there \(connection refused\)\./,
      /web-4: requests do not fall back there \(no answer in time\)\./,
    ],
  ],
  [
    'a peer is out',
    'machines',
    [
      /5 machines share this store; 1 peer known by address only Machine In service State Fallback Heard of/,
      /web-1 this one v3 ● ready – now/,
      /web-2 v3 ● ready ✓ healthy 1 failed 4 s ago/,
      /web-3 v3 ● ready ✕ open 1 284 failed 4 s ago/,
      /web-4 v3 ● ready ◐ half-open 12 failed 4 s ago/,
      /web-5 v3 ● ready – 4 s ago/,
      /10\.0\.0\.9:8080 – \? unknown ✕ unhealthy never/,
      /requests do not fall back; half-open: one is tried/,
    ],
  ],
  [
    'thirty machines',
    'machines',
    [
      /30 machines share this store/,
      /web-2 v2 ≠ differs ● ready 4 s ago .* web-3 v3 \? silent, was ready 15 min ago .* web-4 v3 ● ready 4 s ago 7 31 /,
      /● 26 more are ready , serve the same as this one, and had no 5xx in the last minute; 182 in flight: web-5 , web-6 , .* , web-30 /,
    ],
  ],
  ['no deployment yet', 'summary', [/Attention Nothing is in service yet/]],
  ['no deployment yet', 'containers', [/API=http:\/\/127\.0\.0\.1:8001 .*curl -d \$HASH \$API\/launch/]],
  ['no deployment yet', 'history', [/No deployment yet/]],
  ['no traffic at all', 'summary', [/Requests –/, /Failed –/, /Latency –/]],
  [
    'Docker down',
    'summary',
    [/Attention The container engine can not be reached: traffic goes on/, /v3 is in service\./],
  ],
  ['S3 down', 'summary', [/Attention The store can not be reached/, /launches and switches are refused/]],
  ['S3 down', 'journal', [/What other machines did is not known at the moment/, /switch v3/]],
  ['a launch under way', 'summary', [/OK v3 is in service/, /Busy v4 is being launched/]],
  [
    'a launch under way',
    'underway',
    [/Launching v4/, /Get the image \(done\)/, /Wait until it is healthy \(now\)/, /connection refused 6 /],
  ],
  [
    'draining',
    'underway',
    [/Draining v2/, /4 requests and 1 tunnel to finish, at the latest at 15:09:44 UTC/, /12 of 30 s, 18 s left/],
  ],
  ['draining', 'traffic', [/switched to v3 by ops/]],
  [
    'draining',
    'latency',
    [/Container v3 \(3f3f3f3f, in service\) 3 120 /, /Container v2 \(2f2f2f2f, draining\) 821 442 /],
  ],
  [
    'a failed launch',
    'underway',
    [
      /Just done/,
      /Could not launch v4/,
      /traffic was not touched/,
      /500 Internal Server Error 55 /,
      /column orders\.currency does not exist/,
    ],
  ],
  ['a failed launch', 'journal', [/✕ failure v4/, /connection refused 4 /]],
  [
    'failed container',
    'summary',
    [
      /Trouble v3, in service, has failed \(exited with status 137\): clients get 503/,
      /% of the last minute's answers are 5xx/,
    ],
  ],
  [
    'five containers',
    'containers',
    [/◐ draining/, /○ ready/, /✕ failed exited with status 1/, /… starting/, /Stop old containers/],
  ],
  ['enormous', 'machine', [/shop\.example\.com, www\.shop\.example\.com/, /only 6/, /expired/]],
  ['ten peers', 'machines', [/11 machines share this store/, /web-11\.checkout/, /≠ differs/]],
  [
    'ten peers',
    'summary',
    [/web-2\.checkout\S+, web-3\.checkout\S+, web-4\.checkout\S+ and 4 more: another config is in/],
  ],
  ['enormous', 'summary', [/Trouble The certificate of old\.example\.com has expired/, /expires in 6 days/]],
  ['enormous', 'history', [/with-everything-60-9.*with-everything-60-0/]],
];

for (const [state, part, expected] of said) {
  test(`the page of "${state}" tells under ${part} what there is to know`, () => {
    const text = textOf(renderSections(PAGES[state]?.() ?? model())[part].text);
    for (const each of expected) assert.match(text, each);
  });
}

for (const [state, make] of Object.entries(PAGES)) {
  test(`the page of "${state}" is whole, small, and free of what the policy forbids`, (t) => {
    const html = pageOf(make(), { loggedIn: true });
    const size = weight(html);
    t.diagnostic(`${size} bytes with style sheet and script`);
    assert.ok(size < 60_000, `${size} bytes`);
    assert.equal(/<[^>]+\s(?:style|on\w+)=/i.exec(html)?.[0], undefined);
    assert.equal(/<script(?! src="\/live\.js" defer><\/script>)/i.exec(html)?.[0], undefined);
    assert.equal(/(?:undefined|NaN|\[object|Infinity)/.exec(html)?.[0], undefined);
    const ids = Array.from(html.matchAll(/\sid="([^"]+)"/g), ([, id]) => id);
    assert.deepEqual(
      ids.filter((id, at) => ids.indexOf(id) !== at),
      [],
    );
    for (const [, name] of html.matchAll(/url\(#([\w-]+)\)/g)) assert.ok(ids.includes(name), String(name));
    for (const [, names = ''] of html.matchAll(/aria-labelledby="([^"]+)"/g)) {
      for (const name of names.split(' ')) assert.ok(ids.includes(name), String(name));
    }
    const opened = Array.from(html.matchAll(/<(section|table|svg|details|ul|ol|dl|div|figure|article|form)\b/g)).length;
    const closed = Array.from(
      html.matchAll(/<\/(section|table|svg|details|ul|ol|dl|div|figure|article|form)>/g),
    ).length;
    assert.equal(opened, closed);
  });
}

test('the tables tell every status code with its meaning, and the charts in numbers', () => {
  const enormous = textOf(numbers(PAGES['enormous']?.().status ?? assert.fail(), NOW).text);
  assert.match(enormous, /\b200 OK 673 200 1 000 /);
  for (const expected of [/504 Gateway Timeout/, /499 Client went away/, /upstream_broken The application broke off/]) {
    assert.match(enormous, expected);
  }
  const empty = textOf(numbers(PAGES['no traffic at all']?.().status ?? assert.fail(), NOW).text);
  assert.match(empty, /No request was answered yet.*No numbers yet/);
});

test('a launch is shown as done until its container no longer waits for the switch', () => {
  const act = {
    ...{ id: 1, kind: 'launch' as const, by: 'ops', hash: container('4').Hash, revision: 'v4', error: null },
    ...{
      startedAt: NOW - 9_000,
      endedAt: NOW - 5_000,
      outcome: 'ok' as const,
      message: 'Container 4f4f4f4f is healthy.',
    },
  };
  const shown = (state: ReturnType<typeof container>['State']) => {
    const launched = container('4', { State: state });
    const Containers = [active('3'), launched];
    return textOf(renderSections(model({ status: status({ Containers }), acts: [act] })).underway.text);
  };
  assert.match(shown('ready'), /Just done ✓ Launched v4 .* by ops .* healthy\. Switch to it/);
  assert.doesNotMatch(shown('draining'), /Launched v4|Just done/);
});

test('the health of the container in service is told by what it answers', () => {
  const told = (more: Partial<ReturnType<typeof container>>) => {
    const one = active('3', more);
    return textOf(renderSections(model({ status: status({ Active: one, Containers: [one] }) })).containers.text);
  };
  assert.match(
    told({ StatusCodes: { 200: 990, 502: 10 } }),
    /Health running; its check passed, 1\.0 % of 1 000 answers 5xx/,
  );
  assert.match(told({ StatusCodes: {} }), /Health running; its check passed, no answers yet/);
  assert.match(told({ State: 'failed', Failure: 'exited with status 1' }), /Health failed/);
});

test('connections that were turned away are told next to those that are open', () => {
  const base = status();
  const Totals = { ...base.Totals, TurnedAway: { '--max-connections': 3 } };
  const { traffic } = renderSections(model({ status: status({ Totals }) }));
  assert.match(textOf(traffic.text), /3 connections turned away: too many at once \( --max-connections \)/);
});

test('a certificate whose file could never be read is named by it, with the reason', () => {
  const unread = {
    Names: [],
    Source: '/etc/tls/shop.pem',
    Issuer: '',
    NotBefore: null,
    NotAfter: null,
    DaysLeft: null,
  };
  const Certificates = [{ ...unread, Problem: 'permission denied' }] as unknown as Status['Certificates'];
  const { summary, machine } = renderSections(model({ status: status({ Certificates }) }));
  assert.match(textOf(summary.text), /Attention The certificate of \/etc\/tls\/shop\.pem: permission denied/);
  assert.match(textOf(machine.text), /unknown – – \/etc\/tls\/shop\.pem permission denied/);
});

test('a link leads to the pages of other machines, but not to what only they can reach', () => {
  const links = (name: string) => {
    const { machines } = renderSections(PAGES[name]?.() ?? model());
    return Array.from(machines.text.matchAll(/href="([^"]+)"/g), ([, href]) => href);
  };
  assert.deepEqual(links('three machines'), ['http://web-2.example.com:8001', 'http://web-3.example.com:8001']);
  assert.deepEqual(
    links('machines that differ, are silent, and do not serve'),
    [2, 3, 4].map((n) => `http://web-${n}.example.com:8001`),
  );
  const here = machine('web-1', { Machine: 'web-1-deadbeef', Api: 'http://127.0.0.1:8002' });
  const two = status({ Peers: [machine('web-1', { Self: true }), here] });
  assert.match(renderSections(model({ status: two })).machines.text, /href="http:\/\/127\.0\.0\.1:8002"/);
});

test('a machine of which nothing is to be pointed out has a row of its own only among few', () => {
  const machines = (count: number, more: Parameters<typeof machine>[1] = {}) => {
    const others = Array.from({ length: count - 2 }, (_, at) => machine(`web-${at + 2}`));
    const Peers = [machine('web-1', { Self: true }), machine('web-0', more), ...others];
    return renderSections(model({ status: status({ Peers }) })).machines.text;
  };
  const rows = (markup: string) => Array.from(markup.matchAll(/<tr /g)).length;
  assert.equal(rows(machines(8)), 8);
  assert.doesNotMatch(textOf(machines(8)), /more are ready/);
  assert.equal(rows(machines(9)), 1);
  assert.match(textOf(machines(9)), /9 machines share this store .* web-1 this one .*● 8 more are ready /);
  const Fallback = { Url: '', State: 'healthy', InFlight: 0, Requests: 9, Failures: 9, LastError: 'broken' } as const;
  assert.equal(rows(machines(9, { Fallback })), 1);
  for (const more of [
    { Stale: true },
    { Differs: true },
    { State: 'docker_down' },
    { ErrorsLastMinute: 1 },
    { ErrorsLastMinute: null },
    { Active: { Hash: '4'.repeat(32), Revision: 'v3', SwitchedAt: null } },
    { Fallback: { ...Fallback, State: 'half-open' } },
  ] as const) {
    assert.equal(rows(machines(9, more)), 2, JSON.stringify(more));
  }
});

test('a peer that is out is not told twice: a machine that is silent, or serves nothing, says why', () => {
  const Fallback = { Url: '', State: 'open', InFlight: 0, Requests: 9, Failures: 9, LastError: null } as const;
  const summary = (more: Parameters<typeof machine>[1]) => {
    const Peers = [machine('web-1', { Self: true }), machine('web-2', { Fallback, ...more })];
    return textOf(renderSections(model({ status: status({ Peers }) })).summary.text);
  };
  assert.match(summary({}), /web-2: requests do not fall back there\./);
  for (const more of [{ Stale: true }, { State: 'no_active_container' }, { State: 'no_workers' }]) {
    assert.match(summary(more), /Attention web-2: (?!requests)/);
    assert.doesNotMatch(summary(more), /fall back/);
  }
});

test('of very many machines those are shown that there is something to say of', () => {
  const many = Array.from({ length: 200 }, (_, at) => machine(`web-${at + 2}`));
  const bad = { Stale: true, State: 'ready' };
  const shown = (others: typeof many) => {
    const Peers = [...others.slice(0, 100), machine('silent', bad), machine('web-1', { Self: true })];
    return renderSections(model({ status: status({ Peers: [...Peers, ...others.slice(100)] }) })).machines.text;
  };
  const failing = shown(many.map((each) => ({ ...each, ErrorsLastMinute: 9 })));
  assert.match(textOf(failing), /202 machines share this store; 162 more are not shown .*web-1 this one .*silent v3/);
  assert.equal(failing.split('<tr data-key').length - 1, 40);
  const fine = shown(many);
  assert.match(textOf(fine), /202 machines share this store Machine .*● 200 more are ready .*, web-41 and 160 more /);
  assert.equal(fine.split('<tr data-key').length - 1, 2);
});

test('the text for curl has a line for each machine, if there are several', () => {
  const several = PAGES['machines that differ, are silent, and do not serve']?.().status ?? assert.fail();
  const lines = (of: Status) =>
    summaryText(of, NOW)
      .replaceAll('\u00a0', ' ')
      .split('\n')
      .filter((line) => line.startsWith('machine '));
  assert.deepEqual(lines(several).slice(0, 4), [
    'machine web-1 (this one): v3, ready, 7 in flight',
    'machine web-2 at http://web-2.example.com:8001: v2 (differs), deploying, 7 in flight',
    'machine web-3 at http://web-3.example.com:8001: v2 (differs), silent, was ready, last heard of 1 h 6 min ago, 3 in flight',
    'machine web-4 at http://web-4.example.com:8001: nothing in service, not serving, 0 in flight',
  ]);
  assert.deepEqual(lines(status()), []);
  assert.deepEqual(lines(PAGES['a peer is out']?.().status ?? assert.fail()).slice(1, 3), [
    'machine web-2 at http://web-2.example.com:8001: v3, ready, 7 in flight',
    'machine web-3 at http://web-3.example.com:8001: v3, ready, 7 in flight, no fallback to it (open)',
  ]);
});

test('what happens is told in the order of its weight', () => {
  const failing = active('3', { State: 'failed', Failure: 'exited with status 1' });
  const { summary } = renderSections(
    model({ status: status({ Active: failing, Containers: [failing], DockerState: 'no such socket' }) }),
  );
  assert.match(textOf(summary.text), /Trouble v3, in service, has failed.*Attention The container engine/);
});

test('a share of failures counts only when there are enough requests', () => {
  const slice = { ...status().Recent[0], At: new Date(NOW).toISOString(), StatusCodes: { 200: 9, 502: 1 } };
  const few = status({ Recent: [slice as ReturnType<typeof status>['Recent'][number]] });
  assert.match(textOf(renderSections(model({ status: few })).summary.text), /OK v3 is in service, and nothing fails/);
});

test('a container that waits can be switched to, one in service and one that starts can not', () => {
  const waiting = container('4');
  const one = active('3');
  const { containers } = renderSections(
    model({ status: status({ Active: one, Containers: [one, waiting, container('5', { State: 'starting' })] }) }),
  );
  const links = Array.from(containers.text.matchAll(/href="([^"]+)"/g), ([, href]) => href);
  assert.deepEqual(links, [`/confirm/switch?hash=${waiting.Hash}`, '/confirm/stop-old']);
});

test('the histogram draws as many bars as there are buckets, for each of those compared', () => {
  const old = container('2', { State: 'draining', Latency: latency(20, 500) });
  const one = active('3', { Latency: latency(10, 500) });
  const { latency: markup } = renderSections(model({ status: status({ Active: one, Containers: [old, one] }) }));
  const chart = markup.text.slice(markup.text.indexOf('chart-histogram'));
  const bars = Array.from(chart.matchAll(/<path fill="url\(#(h\d)\)" d="([^"]+)"/g), ([, look, d = '']) => [
    look,
    d.split('z').length - 1,
  ]);
  assert.deepEqual(bars, [
    ['h0', 10],
    ['h1', 10],
    ['h2', 10],
  ]);
});

test('a class of answers is drawn only where there are such answers', () => {
  const outline = (page: string, look: string) => {
    const { traffic } = renderSections(PAGES[page]?.() ?? model());
    return new RegExp(`id="chart-requests".*?fill="url\\(#${look}\\)" d="([^"]+)"`, 's').exec(traffic.text)?.[1];
  };
  // Many in the last 70 s of the hour, next to none before: from the axis up at its end.
  assert.match(outline('failed container', 'c5') ?? '', /h\d\dv-\d\d(?:h1v-?\d+){1,2}h1V132z$/);
  assert.ok(Number(outline('failed container', 'c5')?.length) < 60);
  assert.equal(outline('no traffic at all', 'c2'), undefined);
});

test('a line is drawn from step to step, and has a gap where nothing is known', () => {
  const recent = status().Recent;
  const known = (from: number, to: number) => recent.slice(from, to);
  const Recent = [...known(0, 90), ...known(180, 183), ...known(240, 360)];
  const { latency: markup } = renderSections(model({ status: status({ Recent }) }));
  const [, d = ''] = /class="line p50"[^>]* d="([^"]+)"/.exec(markup.text) ?? [];
  const widths = d
    .split('M')
    .slice(1)
    .map((run) => {
      const pieces = /l([^h]*)h/.exec(run)?.[1]?.match(/-?\d+/g) ?? [];
      return pieces.reduce((sum, wide, at) => sum + (at % 2 === 0 ? Number(wide) : 0), 1);
    });
  const steps = new Set(Recent.map(({ At }) => Math.floor((Date.parse(At) - 1) / 30_000)));
  assert.equal(widths.length, 3);
  assert.equal(
    widths.reduce((sum, wide) => sum + wide, 0),
    steps.size,
  );
});
