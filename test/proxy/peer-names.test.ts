import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { Resolver } from 'node:dns/promises';
import { once } from 'node:events';
import { isIPv6 } from 'node:net';
import { test, type TestContext } from 'node:test';
import { PeerNames } from '../../src/proxy/peer-names.ts';
import { memoryLog } from '../support/memory-log.ts';

type Zone = { addresses: string[]; code: number };

/** A name server (RFC 1035) that knows one name, and a resolver that asks it. */
async function nameServer(t: TestContext): Promise<{ zone: Zone; resolver: Resolver }> {
  const zone: Zone = { addresses: [], code: 0 };
  const socket = createSocket('udp4');
  socket.on('message', (query, from) => {
    const question = query.subarray(12, query.indexOf(0, 12) + 5);
    const type = question.readUInt16BE(question.length - 4);
    const records = zone.addresses
      .filter((address) => (type === 28) === isIPv6(address))
      .map((address) => record(address));
    const head = Buffer.from([
      ...query.subarray(0, 2),
      0x81,
      0x80 | zone.code,
      0,
      1,
      0,
      zone.code === 0 ? records.length : 0,
      0,
      0,
      0,
      0,
    ]);
    socket.send(Buffer.concat([head, question, ...(zone.code === 0 ? records : [])]), from.port, from.address);
  });
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  t.after(() => socket.close());
  const resolver = new Resolver({ timeout: 2_000, tries: 1 });
  resolver.setServers([`127.0.0.1:${socket.address().port}`]);
  return { zone, resolver };
}

function record(address: string): Buffer {
  const v6 = isIPv6(address);
  const bytes = v6 ? v6Bytes(address) : Buffer.from(address.split('.').map(Number));
  return Buffer.concat([Buffer.from([0xc0, 12, 0, v6 ? 28 : 1, 0, 1, 0, 0, 0, 0, 0, bytes.length]), bytes]);
}

/** Of an address with `::` between two groups. */
function v6Bytes(address: string): Buffer {
  const [first = '', last = ''] = address.split('::');
  return Buffer.from(`${first.padStart(4, '0')}${last.padStart(28, '0')}`, 'hex');
}

test('peers follow the A and AAAA records of a name; a lookup that fails or finds nothing changes nothing', async (t) => {
  const { zone, resolver } = await nameServer(t);
  const { log, lines } = memoryLog();
  const seen: string[][] = [];
  const names = new PeerNames({ name: 'peers.test', port: 8080 }, resolver, log, (urls) => seen.push(urls));
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
  const told = seen.filter((urls, i) => urls.join() !== seen[i - 1]?.join());
  assert.deepEqual(told, [
    ['http://127.0.0.2:8080', 'http://127.0.0.3:8080'],
    ['http://127.0.0.3:8080', 'http://127.0.0.4:8080', 'http://[fd00::2]:8080'],
  ]);
  assert.equal(lines.length, 1, 'an outage is told once');
  zone.addresses = ['127.0.0.5'];
  await names.look();
  assert.deepEqual(seen.at(-1), ['http://127.0.0.5:8080']);
});

test('port 80 is left out, so that a peer that is also named as a URL is one peer', async (t) => {
  const { zone, resolver } = await nameServer(t);
  zone.addresses = ['127.0.0.2'];
  const seen: string[][] = [];
  await new PeerNames({ name: 'peers.test', port: 80 }, resolver, memoryLog().log, (urls) => seen.push(urls)).look();
  assert.deepEqual(seen, [['http://127.0.0.2']]);
});
