/**
 * The application behind every proxy: as little work as Node can do, so that it is not what is measured. It reads
 * requests from raw sockets and answers from memory.
 *
 *     GET /small                  128 bytes
 *     GET /headers                128 bytes under the 20 header fields of a usual application
 *     GET /1k, /16k, /128k, /1m   that many bytes, of a type that nobody compresses
 *     GET /chunked                16 KiB in chunks of 4 KiB
 *     GET /text                   16 KiB of HTML
 *     GET /head                   the request's head as it came
 *     GET /up                     for health checks
 *     POST /                      how many bytes came
 *
 * Listens on 127.0.0.1 at PORT, in half as many processes as there are processors.
 */
import cluster from 'node:cluster';
import * as net from 'node:net';
import { availableParallelism } from 'node:os';

const HEAD_END = Buffer.from('\r\n\r\n');
const POST = 'P'.charCodeAt(0);

const html = `<!doctype html><title>Shop</title>${Array.from(
  { length: 400 },
  (_, i) => `<li class="item"><a href="/items/${(i * 7919) % 10_007}">Item number ${i}</a> ${(i * 31) % 97}.99</li>\n`,
).join('')}`;

const answers = new Map([
  ['/up', answer('text/plain', Buffer.from('up\n'))],
  ['/small', answer('text/plain', Buffer.alloc(128, 's'))],
  ['/1k', answer('application/octet-stream', Buffer.alloc(1_024, 'k'))],
  ['/128k', answer('application/octet-stream', Buffer.alloc(128 * 1_024, 'm'))],
  ['/chunked', chunked(4, Buffer.alloc(4 * 1_024, 'c'))],
  ['/headers', answer('text/plain', Buffer.alloc(128, 's'), applicationHeaders())],
  ['/16k', answer('application/octet-stream', Buffer.alloc(16 * 1_024, 'm'))],
  ['/1m', answer('application/octet-stream', Buffer.alloc(1_024 * 1_024, 'l'))],
  ['/text', answer('text/html', Buffer.from(html.slice(0, 16 * 1_024)))],
]);
const missing = Buffer.from('HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n');

function answer(type: string, body: Buffer, more = ''): Buffer {
  const head = `HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: ${type}\r\n${more}Content-Length: ${body.length}\r\n\r\n`;
  return Buffer.concat([Buffer.from(head), body]);
}

function chunked(chunks: number, chunk: Buffer): Buffer {
  const type = 'application/octet-stream';
  const head = `HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: ${type}\r\nTransfer-Encoding: chunked\r\n\r\n`;
  const [size, end] = [Buffer.from(`${chunk.length.toString(16)}\r\n`), Buffer.from('\r\n')];
  const body = Array.from({ length: chunks }, () => [size, chunk, end]).flat();
  return Buffer.concat([Buffer.from(head), ...body, Buffer.from('0\r\n\r\n')]);
}

/** What a framework adds by itself. */
function applicationHeaders(): string {
  const fields = {
    Date: 'Mon, 23 Nov 2026 09:00:00 GMT',
    'Cache-Control': 'max-age=0, private, must-revalidate',
    ETag: 'W/"0123456789abcdef0123456789abcdef"',
    Vary: 'Accept, Origin',
    'X-Frame-Options': 'SAMEORIGIN',
    'X-XSS-Protection': '0',
    'X-Content-Type-Options': 'nosniff',
    'X-Permitted-Cross-Domain-Policies': 'none',
    'Referrer-Policy': 'strict-origin-when-cross-origin',
    'Content-Security-Policy': "default-src 'self'; img-src 'self' data:; object-src 'none'; frame-ancestors 'self'",
    'Permissions-Policy': 'camera=(), microphone=(), geolocation=()',
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Set-Cookie': `_shop_session=${'s'.repeat(320)}; path=/; HttpOnly; SameSite=Lax`,
    'X-Request-Id': '01234567-89ab-cdef-0123-456789abcdef',
    'X-Runtime': '0.004211',
    'Server-Timing': 'sql;dur=1.2, render;dur=2.1',
    Link: '</assets/application.css>; rel=preload; as=style; nopush',
  };
  return Object.entries(fields)
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join('');
}

function serve(socket: net.Socket): void {
  socket.setNoDelay(true);
  socket.on('error', () => {});
  let rest: Buffer | null = null;
  /** Of a request body, still to come, in bytes. */
  let bodyLeft = 0;
  let bodyLength = 0;
  socket.on('data', (chunk: Buffer) => {
    let data = rest === null ? chunk : Buffer.concat([rest, chunk]);
    rest = null;
    while (data.length > 0) {
      if (bodyLeft > 0) {
        const taken = Math.min(bodyLeft, data.length);
        bodyLeft -= taken;
        data = data.subarray(taken);
        if (bodyLeft === 0) socket.write(answer('text/plain', Buffer.from(`${bodyLength}\n`)));
        continue;
      }
      const end = data.indexOf(HEAD_END);
      if (end === -1) {
        rest = data;
        return;
      }
      const head = data.subarray(0, end + 4);
      data = data.subarray(end + 4);
      if (head[0] === POST) {
        bodyLength = lengthIn(head);
        bodyLeft = bodyLength;
      } else {
        socket.write(answerTo(head));
        if (head.includes('onnection: close\r\n') || head.includes(' HTTP/1.0\r\n')) socket.end();
      }
    }
  });
}

function answerTo(head: Buffer): Buffer {
  const line = head.toString('latin1', 0, Math.min(head.length, 64));
  const path = line.slice(4, line.indexOf(' ', 4));
  return path === '/head' ? answer('text/plain', head) : (answers.get(path) ?? missing);
}

/** Proxies that pass on a chunked body are not among the subjects: the clients announce a length. */
function lengthIn(head: Buffer): number {
  return Number(/\r\ncontent-length: *(\d+)/i.exec(head.toString('latin1'))?.[1] ?? 0);
}

const processes = Math.max(1, Math.floor(availableParallelism() / 2));
cluster.schedulingPolicy = cluster.SCHED_NONE;
if (cluster.isPrimary && processes > 1) {
  for (let i = 0; i < processes; i++) cluster.fork();
  cluster.on('exit', () => process.exit(1));
} else {
  net.createServer(serve).listen({ port: Number(process.env['PORT']), host: '127.0.0.1', backlog: 4_096 });
}
