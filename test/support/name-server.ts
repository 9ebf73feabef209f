import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { isIPv6 } from 'node:net';
import type { Cleanup } from './processes.ts';

/** What a name server says, whatever it is asked for. */
export interface Zone {
  addresses: string[];
  /** Of its answers (RFC 1035 section 4.1.1): 0, 2 for a failure, 3 for a name that is not there. */
  code: number;
}

/** A name server (RFC 1035) that knows one name, on a port of 127.0.0.1 until the test ends. */
export async function startNameServer(t: Cleanup): Promise<{ zone: Zone; address: string }> {
  const zone: Zone = { addresses: [], code: 0 };
  const socket = createSocket('udp4');
  socket.on('message', (query, from) => {
    const question = query.subarray(12, query.indexOf(0, 12) + 5);
    const type = question.readUInt16BE(question.length - 4);
    const known = zone.addresses.filter((address) => (type === 28) === isIPv6(address));
    const records = zone.code === 0 ? known.map((address) => record(address)) : [];
    const head = [...query.subarray(0, 2), 0x81, 0x80 | zone.code, 0, 1, 0, records.length, 0, 0, 0, 0];
    socket.send(Buffer.concat([Buffer.from(head), question, ...records]), from.port, from.address);
  });
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  t.after(() => void socket.close());
  return { zone, address: `127.0.0.1:${socket.address().port}` };
}

/** The environment in which a program's Node asks this name server: what resolv.conf says can't name a port. */
export function askingNameServer(address: string): Record<string, string> {
  const script = `
    import dns from 'node:dns/promises';
    import { syncBuiltinESMExports } from 'node:module';
    dns.Resolver = class extends dns.Resolver {
      constructor(options) { super(options); this.setServers(['${address}']); }
    };
    syncBuiltinESMExports();`;
  return { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(script)}` };
}

/** Refers to the name in the question; good for 0 s. */
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
