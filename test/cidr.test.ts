import assert from 'node:assert/strict';
import { test } from 'node:test';
import { networkOf } from '../src/cidr.ts';

test('an IPv6 address stands for its /64, others for themselves', () => {
  const cases: Record<string, string> = {
    '203.0.113.7': '203.0.113.7',
    '2001:db8:1:2:3:4:5:6': '2001:db8:1:2::/64',
    '2001:db8:1:2::6': '2001:db8:1:2::/64',
    '2001:db8:1::6': '2001:db8:1:0::/64',
    '2001:db8::': '2001:db8:0:0::/64',
    '2001:db8::3:4:5:6': '2001:db8:0:0::/64',
    '2001::2:3:4:5:6': '2001:0:0:2::/64',
    '::1': '0:0:0:0::/64',
    '::': '0:0:0:0::/64',
    'fe80::1%eth0': 'fe80::1%eth0',
  };
  for (const [address, network] of Object.entries(cases)) assert.equal(networkOf(address), network, address);
});
