import { randomBytes } from 'node:crypto';
import * as net from 'node:net';
import type { TestContext } from 'node:test';
import type { PeerMaterial } from '../../../src/peer-messages.ts';
import type { WorkerStats } from '../../../src/worker-stats.ts';
import { PeerSecrets } from '../../../src/proxy/peer-secret.ts';
import { TestWorker, type WorkerOptions } from './worker.ts';

/** What machines of a test share. */
export function newMaterial(): PeerMaterial {
  return { secrets: [randomBytes(32).toString('base64')], ca: null };
}

export interface MachineOptions extends WorkerOptions {
  material: PeerMaterial;
  /** Where its peers are. */
  peers?: (TestWorker | number | string)[];
}

/** A machine with one worker. */
export async function startMachine(t: TestContext, options: MachineOptions): Promise<TestWorker> {
  const { material, peers = [], flags = [], machine = `m-${randomBytes(4).toString('hex')}` } = options;
  const urls = peers.map((peer) => (typeof peer === 'string' ? peer : `http://127.0.0.1:${portOf(peer)}`));
  const named = urls.length === 0 ? [] : [`--peer=${urls.join()}`, '--peer-secret-file=/nowhere'];
  return TestWorker.start(t, { ...options, machine, peerMaterial: material, flags: [...flags, ...named] });
}

function portOf(peer: TestWorker | number): number {
  return typeof peer === 'number' ? peer : peer.plainPort;
}

/** Sockets for machines that are to know one another before they are started; closed after the test. */
export function bindTogether(t: TestContext, count: number): net.BoundSocket[] {
  const sockets = Array.from(
    { length: count },
    () => new net.BoundSocket({ host: '127.0.0.1', port: 0, reusePort: true }),
  );
  t.after(() => sockets.forEach((socket) => socket.close()));
  return sockets;
}

/** Resolves once this machine finds so many of its peers healthy. */
export async function untilHealthy(machine: TestWorker, count = 1): Promise<WorkerStats> {
  return machine.statsWhen(({ peers }) => peers.filter(({ state }) => state === 'healthy').length >= count);
}

/** What a machine answers to a health check, to those who know the secret. */
export function healthProof(
  material: PeerMaterial,
  question: string,
  { machine = 'peer-00000001', active = true, time = Date.now() } = {},
): string {
  const secrets = new PeerSecrets(material.secrets);
  const { values, secret } = secrets.open('probe', question) ?? { values: {}, secret: secrets.first };
  const { challenge = '' }: Record<string, string> = values;
  return secret.seal('health', { machine, active: active ? '1' : '0', time: String(time) }, [challenge]);
}

/** A request as a peer would pass it on: `fields` are name, value, …, of which the forwarding ones are signed. */
export function markedRequest(
  material: PeerMaterial,
  { time = Date.now(), nonce = randomBytes(16).toString('base64url'), method = 'GET', target = '/' } = {},
): string {
  const fields = [
    'X-Forwarded-For: 203.0.113.9',
    'X-Forwarded-Proto: https',
    'X-Real-IP: 203.0.113.9',
    'X-Request-Id: r-1',
  ];
  const parts = [
    method,
    target,
    'shop',
    ...fields.map((field) => field.replace(/^[^:]+: /, (name) => `${name.slice(0, -2).toLowerCase()}:`)),
  ];
  const marker = new PeerSecrets(material.secrets).first.seal('request', { nonce, time: String(time) }, parts);
  return [`${method} ${target} HTTP/1.1`, 'Host: shop', ...fields, `Wunderproxy-Fallback: ${marker}`, '', ''].join(
    '\r\n',
  );
}
