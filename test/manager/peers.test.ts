import assert from 'node:assert/strict';
import { test } from 'node:test';
import { joinPeers, type PeerFallback, type PeerStatus } from '../../src/manager/peers.ts';

function machine(id: string, more: Partial<PeerStatus> = {}): PeerStatus {
  return {
    Machine: id,
    Name: id.slice(0, -9),
    Self: false,
    Api: 'http://10.0.0.1:8001',
    Proxy: 'http://10.0.0.1',
    Tls: null,
    Version: '0.1.0',
    Active: null,
    State: 'ready',
    Stale: false,
    Differs: false,
    SeenAt: '2026-03-14T15:09:26.000Z',
    InFlight: 3,
    Requests: 4,
    ErrorsLastMinute: 0,
    Fallback: null,
    ...more,
  };
}

function fallback(Url: string, more: Partial<PeerFallback> = {}): PeerFallback {
  return { Url, State: 'healthy', InFlight: 0, Requests: 0, Failures: 0, LastError: null, ...more };
}

const names = (peers: PeerStatus[]) => peers.map(({ Name, Machine }) => [Name, Machine]);

test('machines come in the order of their names, those of one name in that of their ids', () => {
  const given = ['web2-00000000', 'web10-00000000', 'web1-bbbbbbbb', 'web1-aaaaaaaa'].map((id) => machine(id));
  assert.deepEqual(names(joinPeers(given, [])), [
    ['web1', 'web1-aaaaaaaa'],
    ['web1', 'web1-bbbbbbbb'],
    ['web10', 'web10-00000000'],
    ['web2', 'web2-00000000'],
  ]);
});

test('a configured peer is put to the machine that it is', () => {
  const given = [machine('web1-00000000', { Self: true }), machine('web2-00000000')];
  const Fallback = fallback('http://10.0.0.2:80', { State: 'open', Failures: 5, LastError: 'refused' });
  const joined = joinPeers(given, [{ Machine: 'web2-00000000', Clone: false, Fallback }]);
  assert.deepEqual(joined, [given[0], { ...given[1], Fallback }]);
  assert.equal(given[1]?.Fallback, null, 'what was given is left as it was');
});

test('a configured peer without a heartbeat is an entry of its own, by its address', () => {
  const Fallback = fallback('http://10.0.0.9:8080', { State: 'unhealthy' });
  for (const Machine of [null, 'web9-00000000']) {
    const [own, other] = joinPeers([machine('web1-00000000')], [{ Machine, Clone: false, Fallback }]).toReversed();
    assert.equal(own?.Machine, 'web1-00000000');
    assert.deepEqual(other, {
      Machine,
      Name: '10.0.0.9:8080',
      Self: false,
      Api: null,
      Proxy: 'http://10.0.0.9:8080',
      Tls: null,
      Version: null,
      Active: null,
      State: 'unknown',
      Stale: false,
      Differs: false,
      SeenAt: null,
      InFlight: null,
      Requests: null,
      ErrorsLastMinute: null,
      Fallback,
    });
  }
});

test('two peers of which nobody knows who they are stay two', () => {
  const both = ['http://10.0.0.8', 'http://10.0.0.9'].map((Url) => ({
    Machine: null,
    Clone: false,
    Fallback: fallback(Url),
  }));
  assert.deepEqual(names(joinPeers([], both)), [
    ['10.0.0.8', null],
    ['10.0.0.9', null],
  ]);
});

test('a machine that is configured by two addresses keeps both', () => {
  const urls = ['http://10.0.0.2', 'https://10.0.0.2'];
  const both = urls.map((Url) => ({ Machine: 'web2-00000000', Clone: false, Fallback: fallback(Url) }));
  const joined = joinPeers([machine('web2-00000000')], both);
  assert.deepEqual(
    joined.map(({ Machine, Fallback }) => [Machine, Fallback?.Url]),
    [
      ['web2-00000000', 'https://10.0.0.2'],
      ['web2-00000000', 'http://10.0.0.2'],
    ],
  );
});

test('a peer that has the id of this machine, but is another one, is not taken for it', () => {
  const own = machine('web1-00000000', { Self: true });
  const Fallback = fallback('http://10.0.0.2');
  const joined = joinPeers([own], [{ Machine: 'web1-00000000', Clone: true, Fallback }]);
  assert.deepEqual(joined.map(({ Self, Proxy, Fallback: each }) => [Self, Proxy, each?.Url]).toSorted(), [
    [false, 'http://10.0.0.2', 'http://10.0.0.2'],
    [true, own.Proxy, undefined],
  ]);
});
