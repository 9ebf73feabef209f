/**
 * An application that blocks, as pre-forking servers in Ruby, Python or PHP do: two worker processes, each with one
 * connection at a time. A worker reads the whole request, works for WORK ms in which it can do nothing else, and takes its
 * next connection only when the kernel has all of its response. Connections that find no worker free wait in a queue.
 *
 *     GET /       1 KiB        GET /large  512 KiB        POST /  how many bytes came        GET /up  for health checks
 *
 * Listens on 127.0.0.1 at PORT.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import * as net from 'node:net';

const WORKERS = 2;
/** What the application does for each request, in ms. */
const WORK = Number(process.env['WORK'] ?? 5);
const WORKER_ROLE = 'BLOCKING_APP_WORKER';

const small = Buffer.alloc(1_024, 's');
const large = Buffer.alloc(512 * 1_024, 'l');
const clock = new Int32Array(new SharedArrayBuffer(4));

/** Hands connections to workers, the longest waiting first. */
async function main(): Promise<void> {
  const waiting: net.Socket[] = [];
  const free: ChildProcess[] = [];
  const next = () => {
    while (waiting.length > 0 && free.length > 0) free.pop()?.send('connection', waiting.shift());
  };
  const workers = Array.from({ length: WORKERS }, () =>
    fork(import.meta.filename, { env: { ...process.env, [WORKER_ROLE]: '1' } }),
  );
  for (const worker of workers) {
    worker.on('message', () => {
      free.push(worker);
      next();
    });
    worker.once('exit', () => process.exit(1));
  }
  const server = net.createServer({ pauseOnConnect: true }, (socket) => {
    socket.on('error', () => {});
    waiting.push(socket);
    next();
  });
  server.listen({ port: Number(process.env['PORT']), host: '127.0.0.1', backlog: 1_024 });
  await once(server, 'listening');
}

function work(): void {
  process.on('disconnect', () => process.exit(0));
  process.on('message', (_message, handle) => void serveOne(handle as net.Socket | undefined));
  tellFree();
}

function tellFree(): void {
  // The other end may be gone already when the whole application is stopped.
  process.send?.('free', undefined, undefined, () => {});
}

async function serveOne(socket: net.Socket | undefined): Promise<void> {
  // Undefined when the client left the queue.
  if (socket !== undefined) {
    socket.on('error', () => {});
    await answer(socket).catch(() => {});
    socket.destroy();
  }
  tellFree();
}

/** Rejects when the client goes away before it has sent its request. */
async function answer(socket: net.Socket): Promise<void> {
  let received = Buffer.alloc(0);
  let expected: number | null = null;
  const chunks = socket.resume()[Symbol.asyncIterator]();
  while (expected === null || received.length < expected) {
    const chunk = await chunks.next();
    if (chunk.done === true) throw new Error('the client has left');
    received = Buffer.concat([received, chunk.value as Buffer]);
    expected ??= lengthOf(received);
  }
  const path = /^\w+ (\S+)/.exec(received.toString('latin1', 0, 1_024))?.[1] ?? '';
  if (path !== '/up') Atomics.wait(clock, 0, 0, WORK);
  const body = received.subarray(0, 4).toString() === 'POST' ? bytesIn(received) : path === '/large' ? large : small;
  socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n`);
  const closed = once(socket, 'close');
  // As write(2) and close(2) would: it lasts until the kernel has taken all of it.
  await Promise.race([new Promise<void>((resolve) => socket.end(body, resolve)), closed]);
}

/** Length of a request in bytes, or null while its head is not complete. */
function lengthOf(received: Buffer): number | null {
  const end = received.indexOf('\r\n\r\n');
  if (end === -1) return null;
  const head = received.toString('latin1', 0, end);
  if (/^transfer-encoding:/im.test(head)) throw new Error('this application wants a Content-Length');
  return end + 4 + Number(/^content-length: *(\d+)/im.exec(head)?.[1] ?? 0);
}

function bytesIn(received: Buffer): Buffer {
  return Buffer.from(`${received.length - received.indexOf('\r\n\r\n') - 4}\n`);
}

if (process.env[WORKER_ROLE] === undefined) await main();
else work();
