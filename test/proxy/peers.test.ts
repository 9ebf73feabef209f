import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';
import type { PeerMaterial } from '../../src/peer-messages.ts';
import type { NameResolver } from '../../src/proxy/peer-names.ts';
import { Peers } from '../../src/proxy/peers.ts';
import { Sweeper } from '../../src/proxy/sweeper.ts';
import { until } from '../support/deployments.ts';
import { memoryLog } from '../support/memory-log.ts';
import { healthProof, newMaterial } from './support/machines.ts';

/** A machine at this address that does nothing but be well. */
async function wellAt(t: TestContext, material: PeerMaterial, host: string, port = 0): Promise<number> {
  const server = createServer((request, response) => {
    const question = String(request.headers['wunderproxy-probe']);
    response.setHeader('wunderproxy-probe', healthProof(material, question, { machine: `m-${host}` })).end();
  });
  server.listen(port, host);
  await once(server, 'listening');
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

/** A resolver that knows what it is told: how names are looked up is tested with peer-names.ts. */
class KnownNames implements NameResolver {
  addresses: string[] = [];
  resolve4 = async () => Promise.resolve(this.addresses);
  resolve6 = async () => Promise.resolve([]);
}

function peersOf(
  material: PeerMaterial,
  urls: string[],
  resolver: NameResolver,
  dns: { name: string; port: number } | null,
) {
  const config = { urls, dns, fallbackOn: [], debugHeaders: false, workers: 1 };
  const timeouts = { connect: 1_000, response: 1_000, responseIdle: 1_000 };
  return new Peers({
    config,
    material,
    machine: 'self-00000000',
    instance: 'this-one',
    timeouts,
    sweeper: new Sweeper(250),
    names: { resolver, known: null, onFound: () => {} },
    log: memoryLog().log,
  });
}

const machines = (peers: Peers) => peers.stats.filter(({ state }) => state === 'healthy').map(({ machine }) => machine);

test('peers come and go with the addresses of a name', async (t) => {
  const material = newMaterial();
  const port = await wellAt(t, material, '127.0.0.2');
  await wellAt(t, material, '127.0.0.3', port);
  const resolver = new KnownNames();
  resolver.addresses = ['127.0.0.2'];
  const peers = peersOf(material, [], resolver, { name: 'peers.test', port });
  await peers.look();
  await until(
    async () => Promise.resolve(machines(peers)),
    (found) => found.join() === 'm-127.0.0.2',
  );
  const before = peers.choose([]);
  resolver.addresses = ['127.0.0.3'];
  await peers.look();
  await until(
    async () => Promise.resolve(machines(peers)),
    (found) => found.join() === 'm-127.0.0.3',
  );
  assert.notEqual(peers.choose([]), before);
  assert.equal(before?.target.retired, true, 'what it has is finished, and its connections are closed');
  resolver.addresses = [];
  await peers.look();
  assert.deepEqual(machines(peers), ['m-127.0.0.3']);
});

test('the less busy one of two at random is chosen, and none twice', async (t) => {
  const material = newMaterial();
  const port = await wellAt(t, material, '127.0.0.2');
  for (const host of ['127.0.0.3', '127.0.0.4']) await wellAt(t, material, host, port);
  const urls = [2, 3, 4].map((last) => `http://127.0.0.${last}:${port}`);
  const peers = peersOf(material, urls, new KnownNames(), null);
  assert.equal(peers.choose([]), null, 'nobody has proved anything yet');
  await peers.start();
  await until(
    async () => Promise.resolve(machines(peers)),
    (found) => found.length === 3,
  );
  const all = [0, 0.34, 0.67].map((at) => peers.choose([], () => at));
  assert.equal(new Set(all).size, 3);
  const [busy] = all;
  assert.ok(busy);
  busy.target.claim({ onRetired() {}, cut() {} });
  for (let i = 0; i < 50; i++) assert.notEqual(peers.choose(all.slice(1, 2).filter((peer) => peer !== null)), busy);
  assert.equal(peers.choose(all.filter((peer) => peer !== null)), null);
  assert.equal(peers.choose(all.slice(1).filter((peer) => peer !== null)), busy, 'busy is better than nobody');
});

test('who has proved a secret that still counts is asked on while another takes its place', async (t) => {
  const material = newMaterial();
  const [old, next] = [...material.secrets, ...newMaterial().secrets];
  assert.ok(old !== undefined && next !== undefined);
  const port = await wellAt(t, { secrets: [old, next], ca: null }, '127.0.0.2');
  const peers = peersOf(material, [`http://127.0.0.2:${port}`], new KnownNames(), null);
  await peers.start();
  assert.equal(peers.usable, true, 'a start ends when the first one is found');
  for (const secrets of [[old, next], [next, old], [next]]) {
    peers.setMaterial({ secrets, ca: null });
    assert.equal(peers.usable, true);
    await until(
      async () => Promise.resolve(peers.choose([])?.provedBy?.equals(peers.secrets.first)),
      (proved) => proved === true,
    );
  }
});

test('a start does not wait longer than a second for peers that do not answer', async (t) => {
  const silent = createServer(() => {});
  silent.listen(0, '127.0.0.1');
  await once(silent, 'listening');
  t.after(() => {
    silent.closeAllConnections();
    silent.close();
  });
  const nobody: NameResolver = {
    resolve4: async () => new Promise(() => {}),
    resolve6: async () => new Promise(() => {}),
  };
  const { port } = silent.address() as AddressInfo;
  const peers = peersOf(newMaterial(), [`http://127.0.0.1:${port}`], nobody, { name: 'peers.test', port });
  await peers.start();
  assert.equal(peers.usable, false);
});

test('with another secret everybody has to prove it anew', async (t) => {
  const material = newMaterial();
  const port = await wellAt(t, material, '127.0.0.2');
  const peers = peersOf(material, [`http://127.0.0.2:${port}`], new KnownNames(), null);
  await peers.start();
  await until(
    async () => Promise.resolve(machines(peers)),
    (found) => found.length === 1,
  );
  peers.setMaterial(newMaterial());
  assert.equal(peers.usable, false);
  peers.setMaterial(material);
  await until(
    async () => Promise.resolve(peers.usable),
    (usable) => usable,
  );
});
