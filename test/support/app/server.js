// The application that tests run behind wunderproxy, in a container or as a child process. Its environment says how it
// behaves; see `settings`. It writes one JSON line per request begun and ended.
import { createHash } from 'node:crypto';
import { appendFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';

const settings = {
  host: process.env.HOST ?? '0.0.0.0',
  port: Number(process.env.PORT ?? 9292),
  version: process.env.VERSION ?? 'unknown',
  healthPath: process.env.HEALTH_PATH ?? '/up',
  healthStatus: Number(process.env.HEALTH_STATUS ?? 200),
  /** Where a health status of 3xx leads. */
  healthLocation: process.env.HEALTH_LOCATION,
  /** In ms. */
  healthDelay: Number(process.env.HEALTH_DELAY ?? 0),
  /** How long it waits, in ms, before it listens. */
  startDelay: Number(process.env.START_DELAY ?? 0),
  neverListens: process.env.NEVER_LISTENS === '1',
  /** Exits with this status instead of starting. */
  exitCode: process.env.EXIT_CODE,
  ignoresTerm: process.env.IGNORE_TERM === '1',
  /** Gets a line for each request, before anything is done about it. */
  countFile: process.env.COUNT_FILE,
};

/** Milliseconds since the epoch with fractions, from the clock that never goes back. */
function now() {
  return performance.timeOrigin + performance.now();
}

function log(entry) {
  process.stdout.write(`${JSON.stringify(entry)}\n`);
}

/** Answers with what arrived, so that a test sees exactly that. */
async function echo(request, response) {
  const digest = createHash('sha256');
  let bytes = 0;
  for await (const chunk of request) {
    digest.update(chunk);
    bytes += chunk.length;
  }
  const body = JSON.stringify({
    version: settings.version,
    id: request.headers['x-request-id'] ?? null,
    method: request.method,
    url: request.url,
    bytes,
    sha256: digest.digest('hex'),
    rawHeaders: request.rawHeaders,
    rawTrailers: request.rawTrailers,
  });
  response.writeHead(200, { 'content-type': 'application/json', 'x-version': settings.version });
  response.end(body);
}

const routes = {
  /** Answers after `ms`. */
  '/slow': async (request, response, query) => {
    await delay(Number(query.get('ms') ?? 1_000));
    await echo(request, response);
  },
  /** `chunks` pieces of `size` bytes, `ms` apart, as media type `type`. */
  '/stream': async (_request, response, query) => {
    response.writeHead(200, { 'content-type': query.get('type') ?? 'application/octet-stream' });
    const piece = Buffer.alloc(Number(query.get('size') ?? 1_024), 'x');
    for (let left = Number(query.get('chunks') ?? 10); left > 0 && !response.destroyed; left--) {
      if (!response.write(piece)) await new Promise((go) => response.once('drain', go).once('close', go));
      await delay(Number(query.get('ms') ?? 0));
    }
    response.end();
  },
  /** Status `code`, with `location` if it is given. */
  '/status': (_request, response, query) => {
    const location = query.get('location');
    response.writeHead(Number(query.get('code') ?? 200), location === null ? {} : { location });
    response.end();
  },
  /** Announces 1,000 bytes, sends `after` and breaks off; 0: before the headers, or with `head` inside of them. */
  '/break': (_request, response, query) => {
    const after = Number(query.get('after') ?? 0);
    if (query.has('head')) return response.socket.end('HTTP/1.1 200 OK\r\nContent-Le');
    if (after === 0) return response.socket.destroy();
    response.writeHead(200, { 'content-length': 1_000 });
    response.write('x'.repeat(after), () => response.socket.destroy());
  },
  /** The value of the variable `name`. */
  '/env': (_request, response, query) => {
    response.end(process.env[query.get('name') ?? ''] ?? '');
  },
  /** Writes `text` to stdout, or to stderr with `to=stderr`. */
  '/log': (_request, response, query) => {
    process[query.get('to') === 'stderr' ? 'stderr' : 'stdout'].write(`${query.get('text') ?? ''}\n`, () =>
      response.end(),
    );
  },
  /** Exits with status `code`. */
  '/exit': (_request, response, query) => {
    response.end(() => process.exit(Number(query.get('code') ?? 0)));
  },
};

async function health(_request, response) {
  await delay(settings.healthDelay);
  const headers = settings.healthLocation === undefined ? {} : { location: settings.healthLocation };
  response.writeHead(settings.healthStatus, headers);
  response.end('health\n');
}

const server = createServer((request, response) => {
  const url = new URL(request.url, 'http://app');
  const id = request.headers['x-request-id'] ?? null;
  const isHealth = url.pathname === settings.healthPath;
  if (!isHealth) {
    log({ begin: now(), id, method: request.method, url: request.url, version: settings.version });
    if (settings.countFile !== undefined) appendFileSync(settings.countFile, `${request.method} ${request.url}\n`);
    response.once('close', () => log({ end: now(), id, complete: response.writableFinished }));
  }
  const route = isHealth ? health : (routes[url.pathname] ?? echo);
  // A client that breaks off is no fault of the application's.
  Promise.resolve(route(request, response, url.searchParams)).catch(() => response.destroy());
});

// WebSocket (RFC 6455): echoes text and binary messages, answers pings, mirrors close.
server.on('upgrade', (request, socket, head) => {
  log({ begin: now(), id: request.headers['x-request-id'] ?? null, method: 'UPGRADE', url: request.url });
  const key = `${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
  socket.write(
    'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
      `X-Version: ${settings.version}\r\n` +
      `Sec-WebSocket-Accept: ${createHash('sha1').update(key).digest('base64')}\r\n\r\n`,
  );
  let rest = Buffer.alloc(0);
  const take = (chunk) => {
    rest = Buffer.concat([rest, chunk]);
    for (let frame = readFrame(rest); frame; frame = readFrame(rest)) {
      rest = rest.subarray(frame.end);
      if (frame.opcode === 9) socket.write(writeFrame(0x8a, frame.payload));
      else if (frame.opcode !== 10) socket.write(writeFrame(frame.first, frame.payload));
      if (frame.opcode === 8) socket.end();
    }
  };
  socket.on('data', take);
  socket.on('end', () => socket.end());
  socket.on('error', () => socket.destroy());
  if (head.length > 0) take(head);
});

/** A client's frame, which is masked (section 5.2), or null while it is not all there. */
function readFrame(buffer) {
  if (buffer.length < 6) return null;
  let length = buffer[1] & 0x7f;
  let offset = 2;
  if (length === 126) {
    length = buffer.readUInt16BE(2);
    offset = 4;
  } else if (length === 127) {
    if (buffer.length < 10) return null;
    length = Number(buffer.readBigUInt64BE(2));
    offset = 10;
  }
  const end = offset + 4 + length;
  if (buffer.length < end) return null;
  const mask = buffer.subarray(offset, offset + 4);
  const payload = Buffer.from(buffer.subarray(offset + 4, end));
  for (let index = 0; index < payload.length; index++) payload[index] ^= mask[index % 4];
  return { first: buffer[0], opcode: buffer[0] & 0x0f, payload, end };
}

function writeFrame(first, payload) {
  const { length } = payload;
  if (length < 126) return Buffer.concat([Buffer.from([first, length]), payload]);
  const header = Buffer.alloc(length < 65_536 ? 4 : 10);
  header[0] = first;
  header[1] = length < 65_536 ? 126 : 127;
  if (length < 65_536) header.writeUInt16BE(length, 2);
  else header.writeBigUInt64BE(BigInt(length), 2);
  return Buffer.concat([header, payload]);
}

process.on('SIGTERM', () => {
  log({ term: now() });
  if (settings.ignoresTerm) return;
  server.close(() => process.exit(0));
  server.closeIdleConnections();
});

if (settings.exitCode !== undefined) {
  process.stderr.write(`exiting with status ${settings.exitCode}\n`, () => process.exit(Number(settings.exitCode)));
} else {
  await delay(settings.startDelay);
  if (settings.neverListens) setInterval(() => {}, 60_000);
  else
    server.listen(settings.port, settings.host, () =>
      log({ listening: server.address().port, version: settings.version }),
    );
}
