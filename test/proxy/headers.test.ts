import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Client } from '../../src/proxy/exchange.ts';
import {
  interimFields,
  httpDate,
  reasonPhrase,
  requestFields,
  requestId,
  responseFields,
  trailerFields,
  upgradeFields,
  trustIn,
} from '../../src/proxy/headers.ts';
import { type Http1Head, parseHead } from '../../src/proxy/http1-head.ts';
import { type Http1ResponseHead, parseResponseHead } from '../../src/proxy/http1-response.ts';

function headOf(lines: string[]): Http1Head {
  const head = parseHead(['GET / HTTP/1.1', 'Host: shop.example', ...lines].join('\r\n'));
  assert.ok(typeof head !== 'string', `refused: ${String(head)}`);
  return head;
}

/** What the container gets, as an object of lists. */
function passedOn(lines: string[], peer: string, trusted: string[]): Record<string, string[]> {
  const client: Client = { address: peer, localAddress: '10.0.0.9:80', scheme: 'http' };
  const fields = requestFields(headOf(lines), client, trustIn(trusted), {
    id: 'id',
    startedAt: 5,
    bodyLength: null,
    marked: false,
  });
  const result: Record<string, string[]> = {};
  for (let i = 0; i < fields.length; i += 2) (result[fields[i]?.toLowerCase() ?? ''] ??= []).push(fields[i + 1] ?? '');
  return result;
}

const PRIVATE = ['10.0.0.0/8', 'fd00::/8'];

const forwarding: [what: string, peer: string, lines: string[], forwardedFor: string, realIp: string][] = [
  ['nothing was said', '1.2.3.4', [], '1.2.3.4', '1.2.3.4'],
  ['an untrusted peer made it up', '1.2.3.4', ['X-Forwarded-For: 6.6.6.6', 'X-Real-IP: 6.6.6.6'], '1.2.3.4', '1.2.3.4'],
  ['a trusted peer says it', '10.0.0.1', ['X-Forwarded-For: 6.6.6.6'], '6.6.6.6, 10.0.0.1', '6.6.6.6'],
  ['the client lied to a trusted peer', '10.0.0.1', ['X-Forwarded-For: 9.9.9.9, 6.6.6.6'], '9.9.9.9, 6.6.6.6, 10.0.0.1', '6.6.6.6'],
  ['two trusted peers in a row', '10.0.0.1', ['X-Forwarded-For: 9.9.9.9, 6.6.6.6, 10.0.0.2'], '9.9.9.9, 6.6.6.6, 10.0.0.2, 10.0.0.1', '6.6.6.6'],
  ['several fields are one list', '10.0.0.1', ['X-Forwarded-For: 6.6.6.6', 'x-forwarded-for: 10.0.0.2'], '6.6.6.6, 10.0.0.2, 10.0.0.1', '6.6.6.6'],
  ['all are trusted', '10.0.0.1', ['X-Forwarded-For: 10.1.1.1'], '10.1.1.1, 10.0.0.1', '10.1.1.1'],
  ['what was said is no address', '10.0.0.1', ['X-Forwarded-For: 6.6.6.6, unknown'], '6.6.6.6, unknown, 10.0.0.1', '10.0.0.1'],
  ['IPv6', 'fd00::1', ['X-Forwarded-For: 2001:db8::7'], '2001:db8::7, fd00::1', '2001:db8::7'],
  ['a mapped address counts as IPv4', '10.0.0.1', ['X-Forwarded-For: 6.6.6.6, ::ffff:10.0.0.3'], '6.6.6.6, ::ffff:10.0.0.3, 10.0.0.1', '6.6.6.6'],
]; // prettier-ignore

for (const [what, peer, lines, forwardedFor, realIp] of forwarding) {
  test(`X-Forwarded-For and X-Real-IP when ${what}`, () => {
    const fields = passedOn(lines, peer, PRIVATE);
    assert.deepEqual(fields['x-forwarded-for'], [forwardedFor]);
    assert.deepEqual(fields['x-real-ip'], [realIp]);
  });
}

test('only a trusted peer may say which scheme, host and id a request had', () => {
  const lines = [
    'X-Forwarded-Proto: https',
    'X-Forwarded-Host: other.example',
    'X-Request-Id: theirs',
    'X-Forwarded-Port: 443',
    'Forwarded: for=6.6.6.6',
  ];
  const believed = passedOn(lines, '10.0.0.1', PRIVATE);
  assert.deepEqual(believed['x-forwarded-proto'], ['https']);
  assert.deepEqual(believed['x-forwarded-host'], ['other.example']);
  assert.deepEqual(believed['x-forwarded-port'], ['443']);
  assert.deepEqual(believed['forwarded'], ['for=6.6.6.6']);
  const doubted = passedOn(lines, '1.2.3.4', PRIVATE);
  assert.deepEqual(doubted['x-forwarded-proto'], ['http']);
  assert.deepEqual(doubted['x-forwarded-host'], ['shop.example']);
  assert.equal(doubted['x-forwarded-port'], undefined);
  assert.equal(doubted['forwarded'], undefined);

  const client = (address: string): Client => ({ address, localAddress: null, scheme: 'http' });
  assert.equal(requestId(headOf(lines), client('10.0.0.1'), trustIn(PRIVATE)), 'theirs');
  assert.match(requestId(headOf(lines), client('1.2.3.4'), trustIn(PRIVATE)), /^[0-9a-f]{32}$/);
});

const dropped = [
  'Connection: keep-alive',
  'Keep-Alive: timeout=5',
  'Proxy-Connection: keep-alive',
  'Proxy-Authorization: Basic eA==',
  'TE: trailers',
  'Trailer: X',
  'Upgrade: h2c',
  'HTTP2-Settings: AA',
  'Proxy: http://evil.example',
  'X_Forwarded_For: 6.6.6.6',
  'X-Forwarded_Host: evil.example',
  'X_Real_IP: 6.6.6.6',
  'X_Request_Id: 1',
  'X_Request_Start: t=1',
  'Transfer_Encoding: chunked',
  'Content_Length: 5',
  'X-Request-Start: t=1',
];

for (const line of dropped) {
  test(`the container does not get "${line}"`, () => {
    const [name = '', value] = line.split(': ');
    const fields = passedOn([line], '10.0.0.1', PRIVATE);
    assert.ok(!fields[name.toLowerCase()]?.includes(value ?? ''), JSON.stringify(fields));
  });
}

test('fields that Connection names are dropped, but not those that are ours to set', () => {
  const fields = passedOn(['Connection: X-A, x-forwarded-for, host', 'X-A: 1', 'X-B: 2'], '1.2.3.4', PRIVATE);
  assert.equal(fields['x-a'], undefined);
  assert.deepEqual(fields['x-b'], ['2']);
  assert.deepEqual(fields['x-forwarded-for'], ['1.2.3.4']);
  assert.deepEqual(fields['host'], ['shop.example']);
});

test('an underscore alone is no reason to drop a field', () => {
  assert.deepEqual(passedOn(['My_Field: 1'], '1.2.3.4', PRIVATE)['my_field'], ['1']);
});

function answer(...lines: string[]): Http1ResponseHead {
  const head = parseResponseHead(['HTTP/1.1 200 OK', ...lines].join('\r\n'));
  assert.ok(head !== null, 'refused');
  return head;
}

const NOW = Date.UTC(2026, 0, 2, 3, 4, 5);

test('a response loses what concerns one connection only and keeps the rest in order', () => {
  const given = ['A: 1', 'Connection: X-Hop, close', 'Set-Cookie: a=1', 'X-Hop: y', 'Set-Cookie: b=2'];
  assert.deepEqual(responseFields(answer(...given, 'Content-Length: 5', 'Keep-Alive: x'), NOW), {
    fields: ['A', '1', 'Set-Cookie', 'a=1', 'Set-Cookie', 'b=2', 'Date', 'Fri, 02 Jan 2026 03:04:05 GMT'],
    live: false,
  });
});

test('an interim response and a change of protocols lose what concerns one connection only', () => {
  const given = answer('Link: </a>', 'Connection: X-Hop, Upgrade', 'X-Hop: y', 'Upgrade: WebSocket', 'Link: </b>');
  assert.deepEqual(interimFields(given), ['Link', '</a>', 'Link', '</b>']);
  const changed = ['Link', '</a>', 'Link', '</b>', 'Upgrade', 'WebSocket', 'Connection', 'Upgrade'];
  assert.deepEqual(upgradeFields(given, 'websocket, other'), changed);
  assert.equal(upgradeFields(given, 'other'), null);
});

for (const [line, live] of [
  ['Content-Type: text/event-stream', true],
  ['Content-Type: Text/Event-Stream; charset=utf-8', true],
  ['Content-Type: text/event-stream-like', false],
  ['Content-Type: text/html; a=text/event-stream', false],
  ['X-Accel-Buffering: no', true],
  ['X-Accel-Buffering: yes', false],
] as const) {
  test(`a response with ${line} is ${live ? 'passed on as it comes' : 'buffered'}`, () => {
    const parsed = responseFields(answer(line), NOW);
    assert.equal(parsed.live, live);
    assert.ok(!parsed.fields.includes('X-Accel-Buffering'), 'that is for the proxy only');
  });
}

test('trailers that would change how the message is read are dropped', () => {
  const given = ['X-Sum', '1', 'Content-Length', '5', 'Transfer-Encoding', 'chunked', 'Set-Cookie', 'a=b', 'Host', 'x'];
  assert.deepEqual(trailerFields(given), ['X-Sum', '1']);
});

test('the usual reason phrase stands in for one that is missing or could not be written', () => {
  assert.equal(reasonPhrase(404, 'Nothing Here'), 'Nothing Here');
  assert.equal(reasonPhrase(404, 'a\rb'), 'Not Found');
  assert.equal(reasonPhrase(404), 'Not Found');
  assert.equal(reasonPhrase(799, 'Odd'), 'Odd');
  assert.equal(reasonPhrase(799, '\ufffd'), '');
});

test('dates are those of RFC 9110 section 5.6.7', () => {
  assert.equal(httpDate(784_111_777_000), 'Sun, 06 Nov 1994 08:49:37 GMT');
  assert.equal(httpDate(784_111_777_999), 'Sun, 06 Nov 1994 08:49:37 GMT');
  assert.equal(httpDate(784_111_778_000), 'Sun, 06 Nov 1994 08:49:38 GMT');
});
