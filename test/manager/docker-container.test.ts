import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  addressOf,
  containerName,
  launchingName,
  markOf,
  mergeEnvironment,
} from '../../src/manager/docker-container.ts';

type Inspected = Parameters<typeof addressOf>[0];

/** What Docker says of a container's networks (`GET /containers/{id}/json`), as far as an address depends on it. */
function inspected(mode: string | undefined, networks: Record<string, string>, ports: object = {}): Inspected {
  const Networks = Object.fromEntries(
    Object.entries(networks).map(([name, address]) => {
      const v6 = address.includes(':');
      return [name, { NetworkID: `id-of-${name}`, IPAddress: v6 ? '' : address, GlobalIPv6Address: v6 ? address : '' }];
    }),
  );
  return { HostConfig: { NetworkMode: mode }, NetworkSettings: { Networks, Ports: ports } } as unknown as Inspected;
}

const published = (...bindings: [string, string][]) => ({
  '9292/tcp': bindings.map(([HostIp, HostPort]) => ({ HostIp, HostPort })),
  '9393/tcp': [{ HostIp: '0.0.0.0', HostPort: '1' }],
});

describe('the address of a container', () => {
  const cases: [string, Inspected, ReturnType<typeof addressOf>][] = [
    ['is its own on the bridge', inspected('default', { bridge: '172.17.0.2' }), { host: '172.17.0.2', port: 9292 }],
    [
      'is its own also where the port is published',
      inspected('default', { bridge: '172.17.0.2' }, published(['0.0.0.0', '32768'])),
      { host: '172.17.0.2', port: 9292 },
    ],
    [
      'is that on the network of its mode before all others',
      inspected('shop', { aside: '10.0.0.2', shop: '10.1.0.2' }),
      { host: '10.1.0.2', port: 9292 },
    ],
    [
      'is found where the mode names the network by its id',
      inspected('id-of-shop', { aside: '10.0.0.2', shop: '10.1.0.2' }),
      { host: '10.1.0.2', port: 9292 },
    ],
    [
      'is that on another network where the one of its mode gives none',
      inspected('shop', { shop: '', aside: '10.0.0.2' }),
      { host: '10.0.0.2', port: 9292 },
    ],
    ['may be of IPv6', inspected('default', { bridge: 'fd00::2' }), { host: 'fd00::2', port: 9292 }],
    ["is the host's own on the host's network", inspected('host', { host: '' }), { host: '127.0.0.1', port: 9292 }],
    [
      'is a published port where the container has none',
      inspected('default', { bridge: '' }, published(['0.0.0.0', '32768'])),
      { host: '127.0.0.1', port: 32_768 },
    ],
    [
      'is an IPv4 binding of the published port before one of IPv6',
      inspected('default', {}, published(['::', '32769'], ['', '32768'])),
      { host: '127.0.0.1', port: 32_768 },
    ],
    [
      'is where the published port is bound',
      inspected('default', {}, published(['127.0.0.5', '32768'])),
      { host: '127.0.0.5', port: 32_768 },
    ],
    ['is ::1 for a port bound to ::', inspected('default', {}, published(['::', '4'])), { host: '::1', port: 4 }],
    ['is nowhere without a network', inspected('none', { none: '' }), null],
    [
      'is nowhere when only other ports are published',
      inspected('default', {}, { '80/tcp': [], '9292/udp': [] }),
      null,
    ],
    ['is nowhere when the port is exposed but not published', inspected('default', {}, { '9292/tcp': null }), null],
  ];
  for (const [name, from, expected] of cases) {
    test(name, () => {
      assert.deepEqual(addressOf(from, 9292), expected);
    });
  }
});

describe('the name of a container', () => {
  const id = 'a1b2c3d4e5f6';

  test('says app, revision, short id and how far it has come', () => {
    assert.equal(containerName('shop', 'v42', id, 'launched'), 'shop-v42-a1b2c3d4');
    assert.equal(containerName('shop', 'v42', id, 'launching'), 'shop-v42-a1b2c3d4-launching');
    assert.equal(containerName('shop', 'v42', id, 'superseded'), 'shop-v42-a1b2c3d4-superseded');
  });

  test('reads back as the mark, whatever the revision looks like', () => {
    for (const revision of ['v42', 'v1-launching', 'superseded', 'a.b_c-launching-superseded']) {
      for (const mark of ['launching', 'launched', 'superseded'] as const) {
        assert.equal(markOf(containerName('shop', revision, id, mark)), mark);
      }
    }
  });

  test('stands for a launched container when a person gave it', () => {
    assert.equal(markOf('/precious'), 'launched');
  });

  test('is unique while the container has no id', () => {
    const names = new Set(Array.from({ length: 100 }, () => launchingName('shop', 'v42')));
    assert.equal(names.size, 100);
    for (const name of names) assert.match(name, /^shop-v42-[0-9a-f]{8}-launching$/);
  });
});

test("a container's own environment wins by key, and a bare key hides the common one", () => {
  const merged = mergeEnvironment({ A: 'common', B: 'common', C: '', D: 'x=y' }, ['B=own', 'A', 'E=1', 'E=2']);
  assert.deepEqual(merged, ['C=', 'D=x=y', 'B=own', 'A', 'E=1', 'E=2']);
});
