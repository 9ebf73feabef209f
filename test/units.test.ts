import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  formatHostPort,
  formatListenAddress,
  isLocal,
  parseDuration,
  parseListenAddress,
  parseSize,
  parseWhole,
} from '../src/units.ts';

describe('durations', () => {
  const good: [string, number][] = [
    ['0ms', 0],
    ['500ms', 500],
    ['30s', 30_000],
    ['1.5s', 1_500],
    ['5m', 300_000],
    ['2h', 7_200_000],
    ['180d', 15_552_000_000],
  ];
  for (const [text, milliseconds] of good) {
    test(`${text} is ${milliseconds} ms`, () => {
      assert.equal(parseDuration(text), milliseconds);
    });
  }
  for (const text of ['', '30', 's', '-1s', '30 s', '1w', '1e3s', '5M', ' 5s', '5s\n', '1.s', '.5s', '١s']) {
    test(`${JSON.stringify(text)} is no duration`, () => {
      assert.throws(() => parseDuration(text), RangeError);
    });
  }
});

describe('sizes', () => {
  const good: [string, number][] = [
    ['0', 0],
    ['512', 512],
    ['512B', 512],
    ['512KiB', 524_288],
    ['1.5KiB', 1_536],
    ['100MiB', 104_857_600],
    ['1GiB', 1_073_741_824],
    ['2TiB', 2_199_023_255_552],
  ];
  for (const [text, bytes] of good) {
    test(`${text} is ${bytes} bytes`, () => {
      assert.equal(parseSize(text), bytes);
    });
  }
  for (const text of ['', 'MiB', '-1', '1 MiB', '100MB', '100mib', '1e9', '0x10', '1KiB ', 'Infinity']) {
    test(`${JSON.stringify(text)} is no size`, () => {
      assert.throws(() => parseSize(text), RangeError);
    });
  }
});

describe('whole numbers', () => {
  for (const [text, value] of [
    ['1', 1],
    ['007', 7],
    ['10', 10],
  ] as const) {
    test(`${text} is ${value}`, () => {
      assert.equal(parseWhole(text, 1, 10), value);
    });
  }
  for (const text of ['', '0', '11', '-1', '1.0', '1e1', '0x1', ' 1', 'one']) {
    test(`${JSON.stringify(text)} is none from 1 to 10`, () => {
      assert.throws(() => parseWhole(text, 1, 10), /from 1 to 10/);
    });
  }
});

describe('listen addresses', () => {
  const good = [
    { text: '0.0.0.0:80', parsed: { kind: 'tcp', host: '0.0.0.0', port: 80 }, local: false },
    { text: '127.0.0.1:0', parsed: { kind: 'tcp', host: '127.0.0.1', port: 0 }, local: true },
    { text: '127.9.9.9:1', parsed: { kind: 'tcp', host: '127.9.9.9', port: 1 }, local: true },
    { text: '[::]:443', parsed: { kind: 'tcp', host: '::', port: 443 }, local: false },
    { text: '[::1]:65535', parsed: { kind: 'tcp', host: '::1', port: 65_535 }, local: true },
    { text: 'unix:/run/wunderproxy.sock', parsed: { kind: 'unix', path: '/run/wunderproxy.sock' }, local: true },
  ] as const;
  for (const { text, parsed, local } of good) {
    test(`${text} is read, written back the same, and ${local ? 'local' : 'not local'}`, () => {
      const address = parseListenAddress(text);
      assert.deepEqual(address, parsed);
      assert.equal(formatListenAddress(address), text);
      assert.equal(isLocal(address), local);
    });
  }
  test('localhost stands for the IPv4 loopback address', () => {
    assert.deepEqual(parseListenAddress('localhost:8001'), { kind: 'tcp', host: '127.0.0.1', port: 8001 });
  });
  const bad = [
    '',
    '80',
    ':80',
    '127.0.0.1',
    '127.0.0.1:',
    '127.0.0.1:65536',
    '127.0.0.1:-1',
    '127.0.0.1:80x',
    '127.0.0.1:80 ',
    '256.0.0.1:80',
    '127.1:80',
    'example.com:80',
    '::1:80',
    '[::1]80',
    '[::1]',
    '[127.0.0.1]:80',
    '[::g]:80',
    'unix:',
    'unix:relative',
    'http://127.0.0.1:80',
  ];
  for (const text of bad) {
    test(`${JSON.stringify(text)} is no listen address`, () => {
      assert.throws(() => parseListenAddress(text), RangeError);
    });
  }
});

test('an IPv6 host is written in brackets before its port', () => {
  assert.equal(formatHostPort('::1', 80), '[::1]:80');
  assert.equal(formatHostPort('10.0.0.1', 80), '10.0.0.1:80');
});
