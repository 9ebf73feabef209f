import { request } from 'node:http';
import { STATUS_CODES } from 'node:http';
import type { Address } from '../messages.ts';
import type { LaunchConfig } from './launch-config.ts';

/** One answer, or the lack of one, and when it was first and last seen. */
export interface ProbeResult {
  /** For people: `200 OK`, `connection refused`, `no answer within 5s`, `301 Moved Permanently to https://…`. */
  Result: string;
  Count: number;
  FirstAt: string;
  LastAt: string;
}

const PROBE_TIMEOUT = 5_000;
const PROBE_INTERVAL = 1_000;

/**
 * While nothing listens yet: an application that starts within milliseconds is in service as soon, and is asked no more
 * than once a second all the same, because it sees nothing of a connection that the kernel refuses.
 */
const REFUSED_INTERVAL = 100;
/** Who does not listen by then takes its time. */
const QUICK_FOR = 5_000;
const REFUSED = 'connection refused';

/** How to probe an application, from its config or without one. */
export interface Probe {
  path: string;
  headers: Record<string, string>;
}

/** The probe that a config asks for: by default as if a client had come through TLS to the app by its name. */
export function probeFor(config: LaunchConfig, app: string): Probe {
  const path = config.HealthCheckPath.startsWith('/') ? config.HealthCheckPath : `/${config.HealthCheckPath}`;
  const headers: Record<string, string> = { host: app, 'x-forwarded-proto': 'https', 'user-agent': 'wunderproxy' };
  for (const [name, value] of Object.entries(config.HealthCheckHeaders ?? {})) headers[name.toLowerCase()] = value;
  return { path, headers };
}

/**
 * One GET, at most 5 s. Resolves to null when the application is healthy (200), else to what it answered, for people.
 * Redirects are not followed: an application that redirects its own health check is misconfigured.
 */
export async function probeOnce(address: Address, probe: Probe, signal?: AbortSignal): Promise<string | null> {
  return new Promise((resolve) => {
    const call = request(
      {
        host: address.host,
        port: address.port,
        path: probe.path,
        headers: { ...probe.headers, connection: 'close' },
        agent: false,
        ...(signal ? { signal } : {}),
      },
      (response) => {
        const status = response.statusCode ?? 0;
        const location = response.headers.location;
        response.destroy();
        if (status === 200) resolve(null);
        else resolve(`${status} ${STATUS_CODES[status] ?? ''}`.trim() + (location ? ` to ${location}` : ''));
      },
    );
    // The whole probe, not only its silence: an answer that trickles in is no answer.
    const timer = setTimeout(() => {
      resolve(`no answer within ${PROBE_TIMEOUT / 1_000}s`);
      call.destroy();
    }, PROBE_TIMEOUT);
    call.on('close', () => clearTimeout(timer));
    call.on('error', (error: NodeJS.ErrnoException) => resolve(explain(error)));
    call.end();
  });
}

function explain(error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case 'ECONNREFUSED':
      return REFUSED;
    case 'ECONNRESET':
      return 'connection broken before an answer';
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
      return 'host unreachable';
    default:
      return error.code?.startsWith('HPE_') ? 'not an HTTP answer' : (error.code ?? error.message);
  }
}

/** Collects probe results: each distinct one once, with its times. */
export class ProbeLog {
  readonly results: ProbeResult[] = [];

  add(result: string, at: Date): void {
    const known = this.results.find((entry) => entry.Result === result);
    if (known) {
      known.Count += 1;
      known.LastAt = at.toISOString();
    } else {
      this.results.push({ Result: result, Count: 1, FirstAt: at.toISOString(), LastAt: at.toISOString() });
    }
  }

  /** `12× connection refused, 3× 500 Internal Server Error` */
  toString(): string {
    return this.results.map((entry) => `${entry.Count}× ${entry.Result}`).join(', ') || 'it was never probed';
  }
}

/**
 * Probes once a second, in the beginning more often while nothing listens, until the application is healthy (resolves to
 * true) or `signal` aborts (resolves to false).
 * `address` is asked before each probe, because a restart may change it; null: there is none at the moment.
 */
export async function probeUntilHealthy(
  address: () => Address | null,
  probe: Probe,
  log: ProbeLog,
  signal: AbortSignal,
): Promise<boolean> {
  const quickUntil = performance.now() + QUICK_FOR;
  while (!signal.aborted) {
    const began = Date.now();
    const at = address();
    const result = at === null ? 'it has no address' : await probeOnce(at, probe, signal);
    if (result === null) return true;
    if (signal.aborted) break;
    log.add(result, new Date(began));
    const interval = result === REFUSED && performance.now() < quickUntil ? REFUSED_INTERVAL : PROBE_INTERVAL;
    await pause(interval - (Date.now() - began), signal);
  }
  return false;
}

/** Waits so many ms, or shorter when `signal` aborts; never rejects. */
export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  if (ms <= 0 || signal?.aborted) return;
  await new Promise<void>((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener('abort', done);
  });
}
