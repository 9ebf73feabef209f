import { Agent } from 'node:http';
import * as net from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { type ListenText, send } from '../test/support/http.ts';

/** Slow clients move a piece this often (ms). */
const TICK = 100;
const UPLOAD = { bytes: 64 * 1_024, rate: 16 * 1_024 };
const DOWNLOAD = { bytes: 512 * 1_024, rate: 64 * 1_024 };

/** What the clients of one measurement saw. */
export interface Sample {
  /** Answers with 200 per second. */
  rate: number;
  /** Of the answers, in ms; null without any. */
  p50: number | null;
  p99: number | null;
  /** Requests that failed, or were answered otherwise. */
  failed: number;
}

/** `lines` clients, each with one kept-alive connection that asks again as soon as it has its answer, for `ms`. */
export async function fastClients(address: ListenText, lines: number, ms: number): Promise<Sample> {
  const agent = new Agent({ keepAlive: true, maxSockets: lines });
  const latencies: number[] = [];
  let failed = 0;
  let over = false;
  const line = async () => {
    while (!over) {
      const begun = performance.now();
      const status = await send(address, '/', { agent }).then(
        (answer) => answer.status,
        () => null,
      );
      // What is still under way at the end counts for nothing.
      if (over) return;
      if (status === 200) latencies.push(performance.now() - begun);
      else failed++;
    }
  };
  const ending = delay(ms).then(() => {
    over = true;
    agent.destroy();
  });
  await Promise.all([ending, ...Array.from({ length: lines }, line)]);
  latencies.sort((a, b) => a - b);
  const at = (share: number) => latencies[Math.floor(latencies.length * share)] ?? null;
  return { rate: latencies.length / (ms / 1_000), p50: at(0.5), p99: at(0.99), failed };
}

/** Clients on slow lines, half of them uploading and half of them reading, again and again until they are stopped. */
export class SlowClients {
  /** Requests of theirs that were answered in full. */
  answered = 0;
  readonly #address: ListenText;
  readonly #sockets = new Set<net.Socket>();
  readonly #lines: Promise<void>[];
  #stopped = false;

  constructor(address: ListenText, count: number) {
    this.#address = address;
    this.#lines = Array.from({ length: count }, (_, i) => this.#line(i % 2 === 0, i / count));
  }

  /** @param phase 0–1: so that they do not all begin, and end, together */
  async #line(uploads: boolean, phase: number): Promise<void> {
    const { bytes, rate } = uploads ? UPLOAD : DOWNLOAD;
    await delay((phase * 1_000 * bytes) / rate / 4);
    while (!this.#stopped) {
      const complete = await (uploads ? this.#upload() : this.#download());
      if (complete) this.answered++;
      // A server that refuses is not to be flooded.
      else await delay(TICK);
    }
  }

  async #upload(): Promise<boolean> {
    let text = '';
    const socket = this.#connect((data) => {
      text += data.toString('latin1');
      return true;
    });
    socket.write(`POST / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\nContent-Length: ${UPLOAD.bytes}\r\n\r\n`);
    const piece = Buffer.alloc((UPLOAD.rate * TICK) / 1_000, 'u');
    let left = UPLOAD.bytes;
    const timer = setInterval(() => {
      if (left > 0 && !socket.destroyed) socket.write(piece.subarray(0, left));
      left -= piece.length;
    }, TICK);
    await closed(socket);
    clearInterval(timer);
    return text.startsWith('HTTP/1.1 200') && text.endsWith(`\r\n\r\n${UPLOAD.bytes}\n`);
  }

  async #download(): Promise<boolean> {
    let received = 0;
    const socket = this.#connect((data) => {
      received += data.length;
      return false;
    });
    socket.write('GET /large HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n');
    const timer = setInterval(() => socket.resume(), TICK);
    await closed(socket);
    clearInterval(timer);
    return received > DOWNLOAD.bytes;
  }

  /** Reads at most one tick's worth at a time; `onData` says whether more is wanted at once. */
  #connect(onData: (data: Buffer) => boolean): net.Socket {
    const buffer = Buffer.alloc((DOWNLOAD.rate * TICK) / 1_000);
    const callback = (bytes: number) => onData(buffer.subarray(0, bytes));
    const { hostname: host, port } = new URL(`http://${this.#address}`);
    const socket = net.connect({ host, port: Number(port), onread: { buffer, callback } });
    socket.on('error', () => {});
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    return socket;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all(this.#lines);
  }
}

async function closed(socket: net.Socket): Promise<void> {
  await new Promise((resolve) => socket.once('close', resolve));
}
