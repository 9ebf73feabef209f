/** The process that makes load: it does one job of load.ts after the other. */
import { once } from 'node:events';
import { createRequire } from 'node:module';
import * as net from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import * as tls from 'node:tls';
import { build } from 'hdr-histogram-js';
import { type Held, type Job, type Load, type LoadResult, type Reply, type Target, TLS_OFFER, urlOf } from './load.ts';

/** Not counted at the beginning of a window, in ms: connections are being opened then. */
const LEAD = 200;
/** For a connection on which nothing happens, in ms. */
const CONNECTION_LIMIT = 10_000;
/** So many connections are opened at a time when many are to be held. */
const OPENING = 64;

interface AutocannonRun extends Promise<{ errors: number; timeouts: number }> {
  on(event: 'response', listener: (client: unknown, status: number, bytes: number, ms: number) => void): void;
  stop(): void;
}

type Autocannon = (options: object) => AutocannonRun;

/** Counts answers and their durations, leaving out those that come before the lead is over. */
class Meter {
  requests = 0;
  failed = 0;
  readonly #begun = performance.now();
  #counted = 0;
  /** Of µs. */
  readonly #durations = build({ numberOfSignificantValueDigits: 3, highestTrackableValue: 60_000_000 });

  answer(status: number, ms: number): void {
    this.requests++;
    if (status !== 200) this.failed++;
    if (performance.now() - this.#begun < LEAD) return;
    this.#counted++;
    this.#durations.recordValue(Math.max(1, Math.round(ms * 1_000)));
  }

  result(): LoadResult {
    const at = (percentile: number) =>
      this.#counted === 0 ? null : this.#durations.getValueAtPercentile(percentile) / 1_000;
    const seconds = (performance.now() - this.#begun - LEAD) / 1_000;
    return {
      requests: this.requests,
      rate: this.#counted / seconds,
      p50: at(50),
      p99: at(99),
      failed: this.failed,
    };
  }
}

async function keptAlive(load: Load, target: Target, ms: number): Promise<LoadResult> {
  const autocannon = createRequire(import.meta.url)('autocannon') as Autocannon;
  const meter = new Meter();
  const run = autocannon({
    url: urlOf(target, load.path),
    connections: load.connections,
    // It looks at the time once in `sampleInt` only; the end is ours.
    duration: 3_600,
    sampleInt: 50,
    timeout: 30,
    headers: load.headers ?? {},
    ...(load.upload === undefined ? {} : { method: 'POST', body: Buffer.alloc(load.upload, 'u') }),
    ...(target.tls && { servername: 'localhost', tlsOptions: TLS_OFFER }),
  });
  run.on('response', (_client, status, _bytes, duration) => meter.answer(status, duration));
  await delay(LEAD + ms);
  const result = meter.result();
  run.stop();
  const { errors } = await run;
  return { ...result, failed: result.failed + errors };
}

/** Autocannon does not count answers on connections that it opens anew for each request, so this is done here. */
async function newConnections(load: Load, target: Target, ms: number): Promise<LoadResult> {
  const meter = new Meter();
  const end = performance.now() + LEAD + ms;
  const request = load.http10
    ? `GET ${load.path} HTTP/1.0\r\nHost: localhost\r\n\r\n`
    : requestText(load.path, 'close');
  const line = async () => {
    while (performance.now() < end) {
      const begun = performance.now();
      const socket = connect(target);
      let text = '';
      socket.on('data', (data: Buffer) => (text += data.toString('latin1')));
      socket.on('error', () => meter.failed++);
      socket.write(request);
      await closed(socket);
      meter.answer(/^HTTP\/1\.[01] 200/.test(text) ? 200 : 0, performance.now() - begun);
    }
  };
  await Promise.all(Array.from({ length: load.connections }, line));
  return meter.result();
}

function requestText(path: string, connection: 'close' | 'keep-alive'): string {
  return `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: ${connection}\r\n\r\n`;
}

function connect(target: Target): net.Socket {
  const { hostname: host, port } = new URL(`http://${target.address}`);
  const to = { host, port: Number(port) };
  const socket = target.tls
    ? tls.connect({ ...to, ...TLS_OFFER, servername: 'localhost', rejectUnauthorized: false })
    : net.connect({ ...to, noDelay: true });
  socket.setTimeout(CONNECTION_LIMIT, () => socket.destroy());
  return socket;
}

async function closed(socket: net.Socket): Promise<void> {
  await new Promise((resolve) => socket.once('close', resolve));
}

const held = new Set<net.Socket>();

async function hold(target: Target, path: string, connections: number): Promise<Held> {
  let left = connections;
  let failed = 0;
  const line = async () => {
    while (left-- > 0) {
      if (!(await holdOne(target, path))) failed++;
    }
  };
  await Promise.all(Array.from({ length: OPENING }, line));
  return { open: held.size, failed };
}

async function holdOne(target: Target, path: string): Promise<boolean> {
  const socket = connect(target);
  socket.on('error', () => {});
  socket.on('close', () => held.delete(socket));
  socket.write(requestText(path, 'keep-alive'));
  const data = await Promise.race([once(socket, 'data').catch(() => []), closed(socket).then(() => [])]);
  if (!(data[0] as Buffer | undefined)?.toString('latin1').startsWith('HTTP/1.1 200')) return false;
  socket.setTimeout(0);
  // Small answers come in one piece on loopback; a remainder is read and forgotten.
  socket.resume();
  if (!socket.destroyed) held.add(socket);
  return !socket.destroyed;
}

async function release(): Promise<null> {
  await Promise.all(
    Array.from(held, async (socket) => {
      socket.destroy();
      await closed(socket);
    }),
  );
  return null;
}

async function perform(job: Job): Promise<LoadResult | Held | null> {
  switch (job.do) {
    case 'load':
      return (job.load.driver === 'autocannon' ? keptAlive : newConnections)(job.load, job.target, job.ms);
    case 'hold':
      return hold(job.target, job.path, job.connections);
    case 'release':
      return release();
  }
}

process.on('disconnect', () => process.exit(0));
process.on('message', ({ id, job }: { id: number; job: Job }) => {
  void perform(job)
    .then(
      (value): Reply => ({ id, value }),
      (error: unknown): Reply => ({ id, error: (error as Error).message }),
    )
    .then((reply) => process.send?.(reply));
});
