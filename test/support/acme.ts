import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as tls from 'node:tls';
import type { PeerCertificate } from 'node:tls';
import { connectionTo, type ListenText, send } from './http.ts';
import type { Cleanup } from './processes.ts';
import type { Pebble } from './pebble.ts';
import type { TestProgram } from './program.ts';
import { until } from './deployments.ts';

/** What tests read of `Acme` in `/status`. */
export interface AcmeAnswer {
  Domains: string[];
  State: string;
  NotAfter: string | null;
  LastTry: string | null;
  LastError: string | null;
  NextTry: string | null;
}

/** Options of a program that gets its certificate from this authority. */
export function acmeOptions(pebble: Pebble, domains: string): string[] {
  return ['--tls', '127.0.0.1:0', '--acme-domain', domains, '--acme-directory', pebble.directory];
}

/** Its environment: it trusts the authority's API. */
export function acmeEnvironment(pebble: Pebble): Record<string, string> {
  return { NODE_EXTRA_CA_CERTS: pebble.caFile };
}

export async function acmeStatus(program: TestProgram): Promise<AcmeAnswer> {
  const answer = await program.call('GET', '/status');
  return answer.json<{ Acme: AcmeAnswer }>().Acme;
}

/** Resolves once `/status` says so. */
export async function untilAcme(
  program: TestProgram,
  holds: (seen: AcmeAnswer) => boolean,
  patience?: number,
): Promise<AcmeAnswer> {
  return until(async () => acmeStatus(program), holds, patience);
}

/** Where the program's TLS listener is, from its `ready` line. */
export function tlsAddressOf(program: TestProgram): string {
  return String(program.log.find(({ msg }) => msg === 'ready')?.tls);
}

/** Shakes hands and resolves to the certificate that was shown. Rejects when `ca` does not vouch for it and the name. */
export async function certificateShown(address: string, servername: string, ca: string): Promise<PeerCertificate> {
  const socket = tls.connect({ ...connectionTo(address), servername, ca } as tls.ConnectionOptions);
  try {
    await once(socket, 'secureConnect');
    return socket.getPeerCertificate();
  } finally {
    socket.destroy();
  }
}

/** One of ACME's objects in a directory store. */
export function storedObject<T>(environment: string, key: string): T {
  return JSON.parse(readFileSync(join(environment, 'acme', key), 'utf8')) as T;
}

/** Stands where the authority asks for answers, and passes each question on to a program of the test's choosing. */
export class ChallengeRelay {
  /** Asked with each question; the answer waits for it. */
  choose: () => Promise<ListenText> | ListenText = () => {
    throw new Error('nobody was chosen');
  };
  /** What was asked for. */
  readonly asked: string[] = [];
  readonly port: number;

  private constructor(port: number) {
    this.port = port;
  }

  static async start(t: Cleanup): Promise<ChallengeRelay> {
    const server = createServer((request, response) => {
      const { url = '', headers } = request;
      relay.asked.push(url);
      const pass = async () => {
        const answer = await send(await relay.choose(), url, { headers: { host: headers.host ?? '' } });
        response.writeHead(answer.status, { 'content-type': answer.headers['content-type'] ?? '' }).end(answer.bytes);
      };
      pass().catch(() => response.destroy());
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const relay = new ChallengeRelay((server.address() as AddressInfo).port);
    t.after(() => {
      server.close();
      server.closeAllConnections();
    });
    return relay;
  }
}
