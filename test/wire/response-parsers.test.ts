import assert from 'node:assert/strict';
import { once } from 'node:events';
import * as http from 'node:http';
import * as net from 'node:net';
import { after, before, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { Fields } from '../../src/proxy/exchange.ts';
import type { Http1ResponseHead } from '../../src/proxy/http1-response.ts';
import { Sweeper } from '../../src/proxy/sweeper.ts';
import { UpstreamConnection } from '../../src/proxy/upstream-connection.ts';
import type { ResponseHandler } from '../../src/proxy/upstream-request.ts';
import { Random } from '../proxy/support/random.ts';

/*
 * Made-up responses, many of them not quite valid, are read by our connection to a container and by llhttp (by way of
 * node:http). Ours may refuse more; but what it takes for whole, llhttp must read in exactly the same way.
 */

const CASES = 4_000;

interface Read {
  status: number;
  reason: string;
  fields: Fields;
  body: string;
  trailers: Fields;
}

/** What the container sends, in these pieces, before it closes the connection. */
let pieces: Buffer[] = [];
let container: net.Server;
let port = 0;

before(async () => {
  container = net.createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => void answer(socket));
  });
  container.listen(0, '127.0.0.1');
  await once(container, 'listening');
  port = (container.address() as net.AddressInfo).port;
});

after(() => container.close());

async function answer(socket: net.Socket): Promise<void> {
  socket.setNoDelay(true);
  for (const piece of pieces) {
    socket.write(piece);
    await turn();
  }
  socket.end();
}

const sweeper = new Sweeper(1_000);
const timeouts = { connect: 10_000, response: 10_000, responseIdle: 10_000 };

/** What our connection takes for a whole response; null when it refuses it. */
function ours(method: string): Promise<Read | null> {
  return new Promise((resolve) => {
    const read: Read = { status: 0, reason: '', fields: [], body: '', trailers: [] };
    const handler: ResponseHandler = {
      onWrite() {},
      onInterim() {},
      onHead({ status, reason, fields }: Http1ResponseHead) {
        Object.assign(read, { status, reason, fields });
      },
      onData(chunk) {
        read.body += chunk.toString('latin1');
        return true;
      },
      onEnd(trailers, overran) {
        end(overran ? null : { ...read, trailers });
      },
      onUpgrade: (_, socket) => socket.destroy(),
      onFailure: () => end(null),
    };
    const keeper = { onFree() {}, onGone() {} };
    const connection = new UpstreamConnection({ host: '127.0.0.1', port }, null, false, timeouts, sweeper, keeper);
    const end = (result: Read | null) => {
      connection.destroy();
      resolve(result);
    };
    connection.send({ method, target: '/', fields: ['Host', 'a'], body: null, upgrade: null }, handler);
  });
}

/** What llhttp makes of it; null when it refuses it, or when it is not whole. */
function theirs(method: string): Promise<Read | null> {
  return new Promise((resolve) => {
    const request = http.request({ host: '127.0.0.1', port, method, agent: false }, (response) => {
      let body = '';
      response.setEncoding('latin1');
      response.on('data', (chunk: string) => (body += chunk));
      response.on('error', () => resolve(null));
      response.on('end', () => {
        const { statusCode = 0, statusMessage = '', rawHeaders, rawTrailers } = response;
        resolve({ status: statusCode, reason: statusMessage, fields: rawHeaders, body, trailers: rawTrailers });
      });
    });
    request.on('error', () => resolve(null));
    request.on('upgrade', (_, socket) => {
      socket.destroy();
      resolve(null);
    });
    request.end();
  });
}

const STATUS_LINES = [
  'HTTP/1.1 200 OK', 'HTTP/1.0 200 OK', 'HTTP/1.1 404 ', 'HTTP/1.1 500', 'HTTP/1.1 204 No Content',
  'HTTP/1.1 304 Not Modified', 'HTTP/1.1  200 OK', 'HTTP/1.1 2000 OK', 'HTTP/1.1 20 OK', 'http/1.1 200 OK', 'HTTP/1.1 200 O\tK',
  'HTTP/1.1 200 \xe9', 'HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK', 'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK',
]; // prettier-ignore
const LENGTHS = ['5', '05', '0', '4', '6', '+5', '-5', '5, 5', '0x5', '', '5 ', '99999999999999999999'];
const CODINGS = ['chunked', 'Chunked', 'gzip, chunked', 'chunked, gzip', 'identity', 'xchunked', 'chunked,', ''];
const CHUNKS = [
  '5\r\nhello\r\n', '5;a=b\r\nhello\r\n', '05\r\nhello\r\n', 'A\r\n0123456789\r\n', '5 \r\nhello\r\n', '5\nhello\n',
  '5\r\nhello', '4\r\nhello\r\n', '6\r\nhello\r\n', '0x5\r\nhello\r\n', '+5\r\nhello\r\n', '\r\n',
]; // prettier-ignore
const ENDS = [
  '0\r\n\r\n',
  '0\r\nX: y\r\n\r\n',
  '000\r\n\r\n',
  '0;x\r\n\r\n',
  '0\n\r\n',
  '0\r\n',
  '0\r\nX : y\r\n\r\n',
  '',
];
const NASTY = ['\r', '\n', '\r\n', '\n\n', ' ', '\t', '\0', '\x0b', '\x7f', '\x85', ':', ';', ',', '0', '5', 'x'];
const FIELDS = ['X: y', 'A:b', 'C:  d \t', 'E:', 'F: \xe9', 'Set-Cookie: a=b', 'Connection: close', 'Keep-Alive: x'];
const ODD_FIELDS = ['X : y', ' X: y', 'X', 'Content-Length: 0', 'A B: c', 'Connection: \x01'];

/** Usually only some things in it are odd, else nearly everything would be refused at once. */
function makeUp(random: Random, method: string): string {
  const odd = <T>(values: readonly T[], share: number) => (random.chance(share) ? random.pick(values) : values[0]);
  const fields: string[] = [];
  let body = random.pick(['', 'hello']);
  const kind = random.below(4);
  if (kind === 1 || kind === 3) {
    fields.push(`Content-Length: ${odd(LENGTHS, 0.3)}`);
    body = 'hello';
  }
  if (kind === 2 || (kind === 3 && random.chance(0.2))) {
    fields.push(`Transfer-Encoding: ${odd(CODINGS, 0.2)}`);
    body = '';
    for (let i = random.below(3); i >= 0; i--) body += odd(CHUNKS, 0.2);
    body += odd(ENDS, 0.2);
  }
  for (let i = random.below(4); i > 0; i--) fields.push(random.pick(FIELDS));
  if (random.chance(0.1)) fields.push(random.pick(ODD_FIELDS));
  const statusLine = odd(STATUS_LINES, 0.4) ?? '';
  // Where there is no body, what follows the head comes before the end for one of them and after it for the other.
  if (method === 'HEAD' || / (?:204|304) /.test(statusLine)) body = '';
  let text = `${statusLine}\r\n${fields.map((field) => `${field}\r\n`).join('')}\r\n${body}`;
  if (random.chance(0.3)) {
    const at = random.below(text.length + 1);
    text = text.slice(0, at) + random.pick(NASTY) + text.slice(at + random.below(2));
  }
  return text;
}

/** Without what stands behind the final head, which we pass over: after HEAD nothing more is read from a connection. */
function headOf(text: string): Buffer {
  const end = text.indexOf('\r\n\r\n', text.lastIndexOf('HTTP/1.'));
  return Buffer.from(end === -1 ? text : text.slice(0, end + 4), 'latin1');
}

test('whatever we take for a response, llhttp reads in the same way', async () => {
  let accepted = 0;
  let refused = 0;
  for (let seed = 1; seed <= CASES; seed++) {
    const random = new Random(seed);
    const method = random.pick(['GET', 'GET', 'HEAD']);
    const text = makeUp(random, method);
    const bytes = Buffer.from(text, 'latin1');
    pieces = random.split(bytes, 1 + random.below(4));
    const mine = await ours(method);
    pieces = [method === 'HEAD' ? headOf(text) : bytes];
    const reference = await theirs(method);
    if (mine === null) {
      if (reference !== null) refused++;
      continue;
    }
    accepted++;
    assert.deepEqual(mine, reference, `seed ${seed}: ${method} ${JSON.stringify(text)}`);
  }
  assert.ok(accepted > CASES / 4, `${accepted} responses were accepted`);
  assert.ok(refused > CASES / 100, `${refused} times ours was stricter`);
});
