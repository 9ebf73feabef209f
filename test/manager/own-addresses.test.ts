import assert from 'node:assert/strict';
import type { NetworkInterfaceInfo, networkInterfaces } from 'node:os';
import { test } from 'node:test';
import { urlOfListener } from '../../src/manager/own-addresses.ts';

function at(address: string, internal = false): NetworkInterfaceInfo {
  const common = { address, netmask: '', mac: '', internal, cidr: null };
  return address.includes(':') ? { ...common, family: 'IPv6', scopeid: 0 } : { ...common, family: 'IPv4' };
}

const LOOPBACK = [at('127.0.0.1', true), at('::1', true)];
const SERVER = {
  lo: LOOPBACK,
  docker0: [at('172.17.0.1')],
  'br-0123456789ab': [at('172.18.0.1')],
  eth0: [at('169.254.7.7'), at('fe80::1'), at('2001:db8::7'), at('10.0.0.7')],
  eth1: [at('192.168.1.7')],
};

const cases: [what: string, scheme: 'http' | 'https', listener: string, interfaces: object, expected: string | null][] =
  [
    ['an address of its own', 'http', '10.0.0.9:8001', SERVER, 'http://10.0.0.9:8001'],
    ['the usual port', 'http', '10.0.0.9:80', SERVER, 'http://10.0.0.9'],
    ['the usual port of TLS', 'https', '[2001:db8::9]:443', SERVER, 'https://[2001:db8::9]'],
    ['the loopback interface', 'http', '127.0.0.1:8001', SERVER, 'http://127.0.0.1:8001'],
    ['all of IPv4', 'http', '0.0.0.0:8001', SERVER, 'http://10.0.0.7:8001'],
    ['all of IPv4, the usual port', 'http', '0.0.0.0:80', SERVER, 'http://10.0.0.7'],
    ['all of IPv4, another port with TLS', 'https', '0.0.0.0:80', SERVER, 'https://10.0.0.7:80'],
    ['everything', 'https', '[::]:443', SERVER, 'https://10.0.0.7'],
    [
      'everything, without IPv4',
      'http',
      '[::]:8001',
      { eth0: [at('fe80::1'), at('2001:db8::7')] },
      'http://[2001:db8::7]:8001',
    ],
    ['all of IPv4, without IPv4', 'http', '0.0.0.0:80', { eth0: [at('2001:db8::7')] }, null],
    ['nothing but a bridge', 'http', '0.0.0.0:80', { lo: LOOPBACK, docker0: [at('172.17.0.1')] }, 'http://172.17.0.1'],
    ['nothing but loopback', 'http', '0.0.0.0:80', { lo: LOOPBACK }, null],
    ['nothing at all', 'http', '[::]:80', {}, null],
    ['a unix socket', 'http', 'unix:/run/proxy.sock', SERVER, null],
  ];

for (const [what, scheme, listener, interfaces, expected] of cases) {
  test(`a listener on ${what} is reached at ${expected ?? 'no URL'}`, () => {
    assert.equal(
      urlOfListener(scheme, listener, () => interfaces as ReturnType<typeof networkInterfaces>),
      expected,
    );
  });
}
