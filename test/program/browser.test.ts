import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import type * as http from 'node:http';
import type { Duplex } from 'node:stream';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { testMaterial } from '../proxy/support/transport.ts';
import { Upstream } from '../proxy/support/upstream.ts';
import { TestWorker } from '../proxy/support/worker.ts';
import { openPage } from '../support/browser.ts';

/** Asks in all the ways that a page has, and reports what came and by which protocol. */
const PAGE = `<!doctype html>
<title>page</title>
<script type="module">
  const events = [];
  const source = new EventSource('/events');
  const told = new Promise((resolve) => {
    source.onmessage = ({ data }) => { if (events.push(data) === 3) resolve(); };
  });
  const socket = new WebSocket('wss://' + location.host + '/socket');
  const greeted = new Promise((resolve) => { socket.onmessage = ({ data }) => resolve(data); });
  const bodies = await Promise.all(Array.from({ length: 30 }, async (_, i) => (await fetch('/part?n=' + i)).text()));
  const upload = await fetch('/upload', { method: 'POST', body: new Uint8Array(300_000) });
  await told;
  const greeting = await greeted;
  source.close();
  const protocols = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
    .map(({ nextHopProtocol }) => nextHopProtocol).filter((name) => name !== '');
  const report = { events, greeting, bodies, uploaded: await upload.text(), protocols: [...new Set(protocols)] };
  await fetch('/report', { method: 'POST', body: JSON.stringify(report) });
</script>
`;

interface Report {
  events: string[];
  greeting: string;
  bodies: string[];
  uploaded: string;
  protocols: string[];
}

/** The opening handshake and one text message (RFC 6455). */
function greet(request: http.IncomingMessage, socket: Duplex): void {
  const key = `${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
  const accept = createHash('sha1').update(key).digest('base64');
  const head = ['HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: Upgrade'];
  socket.write(`${[...head, `Sec-WebSocket-Accept: ${accept}`].join('\r\n')}\r\n\r\n\x81\x05hello`, 'latin1');
  socket.on('error', () => {});
}

const LIMIT = { timeout: 120_000 };

test(
  'Chromium loads a page, its parts and its events by HTTP/2, with a WebSocket on the same origin',
  LIMIT,
  async (t) => {
    const { promise: reported, resolve } = Promise.withResolvers<string>();
    const sockets: Duplex[] = [];
    // Before the application's own end, which waits for them.
    t.after(() => sockets.forEach((socket) => socket.destroy()));
    const upstream = await Upstream.start(t, (request, response) => {
      switch (request.url?.replace(/\?.*/, '')) {
        case '/':
          response.setHeader('content-type', 'text/html');
          response.end(PAGE);
          break;
        case '/events':
          response.writeHead(200, { 'content-type': 'text/event-stream' });
          response.write('data: 1\n\ndata: 2\n\n');
          setImmediate(() => response.write('data: 3\n\n'));
          break;
        case '/part':
          response.end(request.url);
          break;
        case '/upload':
          void text(request).then((body) => response.end(String(body.length)));
          break;
        case '/report':
          void text(request).then(resolve);
          response.end();
          break;
        default:
          response.writeHead(404).end();
      }
    });
    upstream.server.on('upgrade', (request: http.IncomingMessage, socket: Duplex) => {
      sockets.push(socket);
      greet(request, socket);
    });
    const worker = await TestWorker.start(t, { route: { active: upstream.target }, tls: testMaterial() });
    openPage(t, `https://localhost:${worker.tlsPort}/`);
    // Without a report, this says how far the page has come.
    let done = false;
    t.after(() => {
      if (!done) t.diagnostic(`${upstream.begun.map(({ url }) => url).join(' ')}\n${worker.output.slice(-2_000)}`);
    });
    const report = JSON.parse(await reported) as Report;
    done = true;
    assert.deepEqual(report, {
      events: ['1', '2', '3'],
      greeting: 'hello',
      bodies: Array.from({ length: 30 }, (_, i) => `/part?n=${i}`),
      uploaded: '300000',
      protocols: ['h2'],
    });
    const { states } = await worker.statsWhen(() => true);
    assert.equal(states.hijacked, 1);
  },
);
