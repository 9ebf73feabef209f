import { once } from 'node:events';
import { connect, type Server, type Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';

const VERSION = 5;
const NO_AUTHENTICATION = 0;
const CONNECT = 1;
const SUCCEEDED = 0;
const REFUSED = 5;

/** How an address is written, and how long it is (RFC 1928, section 5). */
const IPV4 = 1;
const NAME = 3;
const IPV6 = 4;

/** Exactly `size` bytes; rejects when they do not come. */
async function take(socket: Socket, size: number): Promise<Buffer> {
  for (;;) {
    const bytes = socket.read(size) as Buffer | null;
    if (bytes?.length === size) return bytes;
    if (bytes !== null || socket.readableEnded || socket.destroyed) throw new Error('the client is gone');
    const waiting = new AbortController();
    const options = { signal: waiting.signal };
    await Promise.race([once(socket, 'readable', options), once(socket, 'close', options)]);
    waiting.abort();
  }
}

async function takeHost(socket: Socket): Promise<string> {
  const [type = 0] = await take(socket, 1);
  if (type === IPV4) return (await take(socket, 4)).join('.');
  if (type === IPV6) return (await take(socket, 16)).toString('hex').replace(/(.{4})(?!$)/g, '$1:');
  if (type !== NAME) throw new Error(`an address of type ${type}`);
  const [length = 0] = await take(socket, 1);
  return (await take(socket, length)).toString('latin1');
}

/** The other side of one connection, once a client has said where it wants to go. */
async function dial(client: Socket): Promise<Socket> {
  const [, methods = 0] = await take(client, 2);
  await take(client, methods);
  client.write(Buffer.of(VERSION, NO_AUTHENTICATION));
  const [, command] = await take(client, 3);
  const host = await takeHost(client);
  const port = (await take(client, 2)).readUInt16BE();
  if (command !== CONNECT) throw new Error(`command ${command}`);
  const answer = (code: number) => client.write(Buffer.of(VERSION, code, 0, IPV4, 0, 0, 0, 0, 0, 0));
  const target = connect({ host, port, noDelay: true });
  try {
    await once(target, 'connect');
  } catch (error) {
    answer(REFUSED);
    client.end();
    throw error;
  }
  answer(SUCCEEDED);
  return target;
}

async function relay(client: Socket): Promise<void> {
  client.on('error', () => {});
  try {
    const target = await dial(client);
    await Promise.all([pipeline(client, target), pipeline(target, client)]);
  } catch {
    // A side has gone, which the other one is told in this way.
    client.destroy();
  }
}

/** Connects whoever asks `server` in SOCKS 5 (RFC 1928) with where they want to go. */
export function serveSocks(server: Server): void {
  server.on('connection', (client) => void relay(client.setNoDelay()));
}
