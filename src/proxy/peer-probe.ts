import { randomBytes } from 'node:crypto';
import { type IncomingMessage, request as plainRequest } from 'node:http';
import { request as secureRequest } from 'node:https';
import type { ConnectionOptions } from 'node:tls';
import { messageOf } from '../errors.ts';
import { HEALTH_PATH } from './health.ts';
import { PROBE } from './peer-headers.ts';
import type { PeerSecret } from './peer-secret.ts';

/** A peer that has not answered after so long (ms) is not healthy. */
const LIMIT = 1_000;
/** Half of what markers may be off (ms): a clock that runs away is noticed before requests are refused for it. */
const CLOCK = 30_000;

/** What a health check has found out. */
export interface Health {
  /** Which machine has proved that it knows the secret; null: none has. */
  machine: string | null;
  /** Which start of the program there; null: it did not say. */
  instance?: string | null;
  /** Why no request is to be sent there; null: all is well. */
  problem: string | null;
  /** It has not answered in time, which may happen. */
  late?: boolean;
}

/** Asks a peer for its health. Never rejects; takes a second at most. */
export async function probe(url: string, secret: PeerSecret, secure: ConnectionOptions): Promise<Health> {
  try {
    const challenge = randomBytes(16).toString('base64url');
    const answer = await ask(url, secret.seal('probe', { challenge }), secure);
    return judge(answer, challenge, secret);
  } catch (error) {
    const late = (error as Error).name === 'AbortError';
    return { machine: null, problem: late ? 'no answer to a health check in time' : messageOf(error), late };
  }
}

interface Answer {
  status: number;
  proof: string;
}

/** On a connection of its own: what is to be known is whether new ones are accepted. */
async function ask(url: string, question: string, secure: ConnectionOptions): Promise<Answer> {
  const request = url.startsWith('https:') ? secureRequest : plainRequest;
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const asked = request(`${url}${HEALTH_PATH}`, {
    ...secure,
    agent: false,
    headers: { [PROBE]: question },
    signal: AbortSignal.timeout(LIMIT),
  });
  asked.once('response', resolve).on('error', reject).end();
  try {
    const { statusCode = 0, headers } = await promise;
    const proof = headers[PROBE.toLowerCase()];
    return { status: statusCode, proof: typeof proof === 'string' ? proof : '' };
  } finally {
    asked.destroy();
  }
}

function judge({ status, proof }: Answer, challenge: string, secret: PeerSecret): Health {
  const { machine, instance = null, active, time } = secret.open('health', proof, [challenge]) ?? {};
  if (machine === undefined) return { machine: null, problem: `no proof that it knows the secret (status ${status})` };
  const off = Number(time) - Date.now();
  if (!(Math.abs(off) <= CLOCK)) {
    return { machine, instance, problem: `its clock differs from ours by ${Math.round(Math.abs(off) / 1_000)} s` };
  }
  return { machine, instance, problem: active === '1' ? null : 'no container is in service there' };
}
