import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  formatHeartbeat,
  type Heartbeat,
  heartbeatKey,
  machineOfKey,
  parseHeartbeat,
} from '../../src/manager/heartbeat.ts';

const MACHINE = 'web1-0badcafe';

const heartbeat: Heartbeat = {
  Machine: MACHINE,
  Name: 'web1',
  App: 'shop',
  Version: '0.1.0',
  Api: 'http://10.0.0.1:8001',
  Proxy: 'http://10.0.0.1',
  Tls: null,
  StartedAt: '2026-03-14T15:00:00.000Z',
  At: '2026-03-14T15:09:26.000Z',
  Every: 10,
  Active: { Hash: '3'.repeat(32), Revision: 'v3', SwitchedAt: '2026-03-14T15:00:01.000Z' },
  State: 'ready',
  InFlight: 7,
  Requests: 1_284_002,
  ErrorsLastMinute: 2,
  Boot: '4f1b22aa',
  Sequence: 57,
};

const encoded = (more: object) => Buffer.from(JSON.stringify({ ...heartbeat, ...more }));

test('a heartbeat is read as it was written', () => {
  assert.deepEqual(parseHeartbeat(MACHINE, formatHeartbeat(heartbeat)), heartbeat);
  const bare = { ...heartbeat, Active: null, Api: null, Proxy: null };
  assert.deepEqual(parseHeartbeat(MACHINE, formatHeartbeat(bare)), bare);
});

test('one of a later version, with more keys and another state, is read too', () => {
  const later = encoded({ Region: 'eu', State: 'on_holiday', Active: { ...heartbeat.Active, Weight: 3 } });
  assert.deepEqual(parseHeartbeat(MACHINE, later), { ...heartbeat, State: 'on_holiday' });
});

test('a machine and the key of its heartbeat name one another', () => {
  assert.equal(heartbeatKey(MACHINE), `machines/${MACHINE}.json`);
  assert.equal(machineOfKey(heartbeatKey(MACHINE)), MACHINE);
  const others = ['', 'x.json', '../web1-0badcafe.json', 'a/web1-0badcafe.json', 'web1-0badcafe', '.json', '-.json'];
  for (const key of others) assert.equal(machineOfKey(`machines/${key}`), null, key);
  assert.equal(machineOfKey(`journal/${MACHINE}.json`), null);
});

describe('what somebody else may have written', () => {
  const hostile: [string, Buffer][] = [
    ['nothing', Buffer.alloc(0)],
    ['no JSON', Buffer.from('{"Machine":')],
    ['bytes that are no text', Buffer.from([0xff, 0xfe, 0x00, 0x7b])],
    ['a list that is nested deeply', Buffer.from('['.repeat(60_000))],
    ['null', Buffer.from('null')],
    ['a list', Buffer.from('[]')],
    ['an empty object', Buffer.from('{}')],
    ['another machine', encoded({ Machine: 'web2-0badcafe' })],
    ['a name of 301 characters', encoded({ Name: 'x'.repeat(301) })],
    ['a number for a name', encoded({ Name: 7 })],
    ['a link to a script', encoded({ Api: 'javascript:alert(1)' })],
    ['a link to a file', encoded({ Api: 'file:///etc/passwd' })],
    ['a link with a password', encoded({ Api: 'http://root:secret@10.0.0.1' })],
    ['a link with a query', encoded({ Api: 'http://10.0.0.1/?token=x' })],
    ['a link that is none', encoded({ Proxy: 'http://' })],
    ['a time that is none', encoded({ At: 'yesterday' })],
    ['a time without a zone', encoded({ At: '2026-03-14T15:09:26' })],
    ['a count below zero', encoded({ InFlight: -1 })],
    ['a count that is too large', Buffer.from(JSON.stringify(heartbeat).replace('1284002', '1e400'))],
    ['a count that is a text', encoded({ Requests: '1' })],
    ['a state that is markup', encoded({ State: '<b>ready</b>' })],
    ['an active container without a hash', encoded({ Active: { Revision: 'v3', SwitchedAt: null } })],
    ['an interval of a day', encoded({ Every: 86_400 })],
  ];
  for (const [what, bytes] of hostile) {
    test(`${what} is refused in a few words`, () => {
      assert.throws(
        () => parseHeartbeat(MACHINE, bytes),
        (error: unknown) => error instanceof RangeError && error.message.length < 80,
      );
    });
  }

  test('a key that stands for a prototype changes none', () => {
    const bytes = Buffer.from(`{"__proto__":{"polluted":true},${JSON.stringify(heartbeat).slice(1)}`);
    assert.deepEqual(Object.keys(parseHeartbeat(MACHINE, bytes)), Object.keys(heartbeat));
    assert.equal(({} as Record<string, unknown>).polluted, undefined);
  });
});
