import assert from 'node:assert/strict';
import { once } from 'node:events';
import * as http from 'node:http';
import * as net from 'node:net';
import { after, before, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { Exchange } from '../../src/proxy/exchange.ts';
import { Listener } from '../../src/proxy/listener.ts';
import { respondWithError } from '../../src/proxy/respond.ts';
import { Sweeper } from '../../src/proxy/sweeper.ts';
import { Random } from '../proxy/support/random.ts';

/*
 * Made-up requests, many of them not quite valid, go to our parser and to llhttp (by way of node:http). Ours may refuse
 * more; but what it accepts, llhttp must read in exactly the same way: then nobody can make two programs disagree.
 */

const CASES = 10_000;

interface Read {
  method: string;
  target: string;
  fields: string[];
  body: string;
}

/** What each server has read in the present case. */
let ours: Read[] = [];
let theirs: Read[] = [];
let listener: Listener;
let bound: net.BoundSocket;
let reference: http.Server;

before(async () => {
  bound = new net.BoundSocket({ host: '127.0.0.1', port: 0 });
  const timeouts = { header: 10_000, keepAlive: 10_000, write: 10_000 };
  listener = new Listener(timeouts, { connections: 1_000, connectionsPerAddress: null }, new Sweeper(1_000), {
    serve: (exchange) => void record(exchange),
    refuse: (exchange, code) => respondWithError(exchange, code),
    onAbuse: () => {},
    onEmpty: () => {},
  });
  await listener.listen(bound.fd());

  reference = http.createServer(
    { requireHostHeader: false, shouldUpgradeCallback: () => false },
    (request, response) => {
      const read: Read = {
        method: request.method ?? '',
        target: request.url ?? '',
        fields: request.rawHeaders,
        body: '',
      };
      request.setEncoding('latin1');
      request.on('data', (chunk: string) => (read.body += chunk));
      request.on('end', () => {
        theirs.push(read);
        response.end();
      });
      request.on('error', () => {});
    },
  );
  // Otherwise it gives up requests that it has read when their client closes its side.
  (reference as http.Server & { httpAllowHalfOpen: boolean }).httpAllowHalfOpen = true;
  reference.on('clientError', (_, client) => client.destroy());
  reference.listen(0, '127.0.0.1');
  await once(reference, 'listening');
});

after(() => {
  listener.retire(false);
  for (const connection of listener.connectionsLeft(false)) connection.destroy();
  bound.close();
  reference.close();
  reference.closeAllConnections();
});

async function record(exchange: Exchange): Promise<void> {
  const { method, target, fields } = exchange.head;
  const read: Read = { method, target, fields: [...fields], body: '' };
  if (exchange.body !== null) {
    const source = exchange.body;
    const whole = await new Promise<boolean>((resolve) => {
      source.read({
        onBodyData: (chunk) => {
          read.body += chunk.toString('latin1');
          return true;
        },
        onBodyEnd: () => resolve(true),
        onBodyError: () => resolve(false),
      });
    });
    if (!whole) return exchange.abort();
  }
  ours.push(read);
  exchange.reply({ status: 200, reason: 'OK', fields: [], length: 0 }, Buffer.alloc(0));
}

async function send(port: number, pieces: Buffer[]): Promise<void> {
  const socket = net.connect({ port, host: '127.0.0.1', noDelay: true });
  socket.on('error', () => {});
  socket.resume();
  const closed = new Promise((resolve) => socket.once('close', resolve));
  for (const piece of pieces) {
    socket.write(piece);
    await turn();
  }
  socket.end();
  await closed;
}

const NASTY = [
  '\r',
  '\n',
  '\r\n',
  '\n\n',
  ' ',
  '\t',
  '\0',
  '\x0b',
  '\x0c',
  '\x7f',
  '\x85',
  '\xa0',
  ':',
  ';',
  ',',
  '"',
  '0',
  '5',
  'x',
];
const LENGTHS = [
  '5',
  '0',
  '05',
  '5 ',
  ' 5',
  '+5',
  '-5',
  '5,5',
  '5, 5',
  '0x5',
  '5;',
  '5.0',
  '',
  '99999999999999999999',
  '11',
];
const CODINGS = [
  'chunked',
  'Chunked',
  'chunked ',
  ' chunked',
  'xchunked',
  'identity',
  'gzip, chunked',
  'chunked, gzip',
  'chunked,',
  '',
];
const HOSTS = ['a', 'a:80', '[::1]', 'a.b', 'a, b', ''];
const CHUNKS = [
  '5\r\nhello\r\n', '5;a=b\r\nhello\r\n', '5;a="b"\r\nhello\r\n', '05\r\nhello\r\n', 'A\r\n0123456789\r\n', '5 \r\nhello\r\n',
  '5\nhello\n', '5\r\nhello', '4\r\nhello\r\n', '6\r\nhello\r\n', '0x5\r\nhello\r\n', '5;\nhello\r\n', '+5\r\nhello\r\n', '\r\n',
]; // prettier-ignore
const ENDS = [
  '0\r\n\r\n',
  '0\r\nX: y\r\n\r\n',
  '00\r\n\r\n',
  '0;x\r\n\r\n',
  '0\n\r\n',
  '0\r\n\n',
  '0\r\n',
  '0\r\nX : y\r\n\r\n',
  '',
];

/** One request; usually only some things in it are odd, else nearly everything would be refused at once. */
function makeUp(random: Random): string {
  const odd = <T>(values: readonly T[], probability: number) =>
    random.chance(probability) ? random.pick(values) : values[0];
  const fields = [`Host: ${odd(HOSTS, 0.1)}`];
  let body = '';
  const kind = random.below(4);
  if (kind === 1) {
    fields.push(`Content-Length: ${odd(LENGTHS, 0.3)}`);
    body = 'hello';
  } else if (kind === 2) {
    fields.push(`Transfer-Encoding: ${odd(CODINGS, 0.3)}`);
    for (let i = random.below(3); i >= 0; i--) body += odd(CHUNKS, 0.3);
    body += odd(ENDS, 0.3);
  } else if (kind === 3 && random.chance(0.3)) {
    fields.push(`Content-Length: ${odd(LENGTHS, 0.5)}`, `Transfer-Encoding: ${odd(CODINGS, 0.5)}`);
    body = '5\r\nhello\r\n0\r\n\r\n';
  }
  for (let i = random.below(4); i > 0; i--) {
    fields.push(
      random.pick([
        'X: y',
        'Accept: */*',
        'A:b',
        'C:  d \t',
        'E:',
        'F: \xe9',
        'Cookie: a=b; c="d"',
        'Connection: keep-alive',
      ]),
    );
  }
  if (random.chance(0.05))
    fields.push(random.pick(['X : y', ' X: y', 'X', 'Connection: close', 'Content-Length: 0', 'Host: b']));
  const method = random.pick(['GET', 'POST', 'PUT', 'HEAD', 'DELETE', 'OPTIONS']);
  const target = odd(['/', '/a?b=c', '*', '/%00', 'a', '//', '/\xe9', '/a b', '/#'], 0.2);
  const version = odd(['HTTP/1.1', 'HTTP/1.0', 'HTTP/1.2', 'http/1.1', 'HTTP/2.0', ''], 0.1);
  let text = `${method} ${target} ${version}\r\n${fields.join('\r\n')}\r\n\r\n${body}`;
  if (random.chance(0.4)) {
    const at = random.below(text.length + 1);
    text = text.slice(0, at) + random.pick(NASTY) + text.slice(at + random.below(2));
  }
  return text;
}

test('whatever our parser accepts, llhttp reads in the same way', async () => {
  const port = bound.address().port;
  const referencePort = (reference.address() as net.AddressInfo).port;
  let accepted = 0;
  let refused = 0;
  for (let seed = 1; seed <= CASES; seed++) {
    const random = new Random(seed);
    let text = '';
    for (let i = random.below(3); i >= 0; i--) text += makeUp(random);
    // llhttp takes a tab after the coding for a part of it, though it is optional whitespace (RFC 9110 section 5.6.3).
    if (/chunked *\t/i.test(text)) continue;
    const bytes = Buffer.from(text, 'latin1');
    ours = [];
    theirs = [];
    await Promise.all([send(port, random.split(bytes, 1 + random.below(3))), send(referencePort, [bytes])]);
    // llhttp has a list of methods; any token is one (RFC 9110 section 9.1).
    const unknown = ours.findIndex(({ method }) => !http.METHODS.includes(method));
    if (unknown !== -1) ours.splice(unknown);
    accepted += ours.length;
    if (ours.length < theirs.length) refused++;
    assert.deepEqual(ours, theirs.slice(0, ours.length), `seed ${seed}: ${JSON.stringify(text)}`);
  }
  assert.ok(accepted > CASES / 4, `${accepted} requests were accepted`);
  assert.ok(refused > CASES / 100, `${refused} times ours was stricter`);
});
