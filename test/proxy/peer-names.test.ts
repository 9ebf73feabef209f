import assert from 'node:assert/strict';
import { Resolver } from 'node:dns/promises';
import { test, type TestContext } from 'node:test';
import type { NamedAddresses } from '../../src/peer-messages.ts';
import { PeerNames } from '../../src/proxy/peer-names.ts';
import { memoryLog } from '../support/memory-log.ts';
import { startNameServer } from '../support/name-server.ts';

/** A name server with a resolver that asks it, and what was told to be known. */
async function nameServer(t: TestContext, known: NamedAddresses | null = null) {
  const { zone, address } = await startNameServer(t);
  const resolver = new Resolver({ timeout: 2_000, tries: 1 });
  resolver.setServers([address]);
  const told: NamedAddresses[] = [];
  return { zone, told, context: { resolver, known, onFound: (found: NamedAddresses) => void told.push(found) } };
}

test('peers follow the A and AAAA records of a name; a lookup that fails or finds nothing changes nothing', async (t) => {
  const { zone, told, context } = await nameServer(t);
  const { log, lines } = memoryLog();
  const seen: string[][] = [];
  const names = new PeerNames({ name: 'peers.test', port: 8080 }, context, log, (urls) => seen.push(urls));
  zone.addresses = ['127.0.0.2', '127.0.0.3'];
  await names.look();
  zone.addresses = ['127.0.0.3', '127.0.0.4', 'fd00::2'];
  await names.look();
  for (const code of [2, 3, 5]) {
    zone.code = code;
    await names.look();
  }
  zone.code = 0;
  zone.addresses = [];
  await names.look();
  const changes = seen.filter((urls, i) => urls.join() !== seen[i - 1]?.join());
  assert.deepEqual(changes, [
    ['http://127.0.0.2:8080', 'http://127.0.0.3:8080'],
    ['http://127.0.0.3:8080', 'http://127.0.0.4:8080', 'http://[fd00::2]:8080'],
  ]);
  assert.deepEqual([names.problem, lines.length], ['it has no address', 1], 'an outage is told once');
  assert.equal(lines[0]?.['why'], 'A: queryA ESERVFAIL peers.test');
  zone.addresses = ['127.0.0.5'];
  await names.look();
  assert.deepEqual(seen.at(-1), ['http://127.0.0.5:8080']);
  assert.deepEqual([names.problem, lines.length], [null, 2]);
  assert.deepEqual(
    told.map(({ v4, v6 }) => [...v4, ...v6].join()),
    ['127.0.0.2,127.0.0.3', '127.0.0.3,127.0.0.4,fd00::2', '127.0.0.5'],
    'others are told of changes',
  );
});

test('port 80 is left out, so that a peer that is also named as a URL is one peer', async (t) => {
  const { zone, context } = await nameServer(t);
  zone.addresses = ['127.0.0.2'];
  const seen: string[][] = [];
  await new PeerNames({ name: 'peers.test', port: 80 }, context, memoryLog().log, (urls) => seen.push(urls)).look();
  assert.deepEqual(seen, [['http://127.0.0.2']]);
});

test('what another worker has found is used until it can be looked up', async (t) => {
  const { zone, told, context } = await nameServer(t, { v4: ['127.0.0.2'], v6: [] });
  const seen: string[][] = [];
  const names = new PeerNames({ name: 'peers.test', port: 80 }, context, memoryLog().log, (urls) => seen.push(urls));
  assert.deepEqual(names.urls, ['http://127.0.0.2']);
  zone.code = 3;
  await names.look();
  assert.deepEqual([names.urls, seen, told], [['http://127.0.0.2'], [], []]);
  zone.code = 0;
  zone.addresses = ['127.0.0.3'];
  await names.look();
  assert.deepEqual([names.urls, told], [['http://127.0.0.3'], [{ v4: ['127.0.0.3'], v6: [] }]]);
});
