import http from 'node:http';
import https from 'node:https';
import Docker from 'dockerode';
import { messageOf, type WunderproxyError } from '../errors.ts';
import { unavailable } from './runtime-errors.ts';

/** What errors of a connection to an engine mean, by their codes. */
const EXPLANATIONS: Record<string, string> = {
  ENOENT: 'is not there.',
  ECONNREFUSED: 'refuses connections.',
  EACCES: 'can not be used: permission denied.',
  ECONNRESET: 'closed the connection.',
  EPIPE: 'closed the connection.',
};

/** The engine answered, but not with what was asked for. `message` holds the engine's own words, in one line. */
export class EngineRefusal extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.name = 'EngineRefusal';
    this.status = status;
  }
}

/**
 * Calls to a Docker engine that always end: each has a time limit, and all are broken off, and further ones refused, while
 * the engine is known to be out of reach (`setProblem`).
 *
 * An engine that can't be reached, or does not answer in time, is WunderproxyError `runtime_unavailable`; one that
 * answers with an error is an EngineRefusal.
 */
export class DockerClient {
  readonly docker: Docker;
  /** The engine's address as `DOCKER_HOST` writes it. */
  readonly host: string;
  /** Called when a call's connection broke or its time was up: a reason to look at the engine at once. */
  onSuspicion: () => void = () => {};
  #problem: string | null = null;
  #outage = new AbortController();

  /** Throws a RangeError for a host that is neither `unix:///path` nor `tcp://host:port`. */
  constructor(host: string) {
    this.host = host;
    this.docker = connect(host);
  }

  get problem(): string | null {
    return this.#problem;
  }

  /** With a text: breaks off every call that runs, and refuses further ones. With null: lets calls through again. */
  setProblem(problem: string | null): void {
    this.#problem = problem;
    if (problem !== null) this.#outage.abort();
    else if (this.#outage.signal.aborted) this.#outage = new AbortController();
  }

  /** Throws `runtime_unavailable` while the engine is known to be out of reach. */
  throwIfUnavailable(): void {
    if (this.#problem !== null) throw unavailable(this.#problem);
  }

  /** One call that is over within `limitMs`. */
  async call<T>(limitMs: number, run: (abortSignal: AbortSignal) => Promise<T>): Promise<T> {
    this.throwIfUnavailable();
    const outage = this.#outage.signal;
    const limit = AbortSignal.timeout(limitMs);
    const signal = AbortSignal.any([outage, limit]);
    try {
      return await unlessAborted(signal, run(signal));
    } catch (error) {
      if (outage.aborted) throw unavailable(this.#problem ?? `Docker at ${this.host} broke off.`);
      if (limit.aborted) {
        this.onSuspicion();
        throw unavailable(`Docker at ${this.host} did not answer within ${limitMs / 1_000} s.`);
      }
      throw this.translate(error);
    }
  }

  /** What a failed call means: an EngineRefusal or `runtime_unavailable`. */
  translate(error: unknown): EngineRefusal | WunderproxyError {
    const refusal = refusalOf(error);
    if (refusal) return refusal;
    this.onSuspicion();
    return unavailable(this.explain(error));
  }

  /** Why the engine can't be reached, as one sentence for a person. */
  explain(error: unknown): string {
    const where = `Docker at ${this.host}`;
    const refusal = refusalOf(error);
    if (refusal) return `${where} answers ${refusal.status}: ${refusal.message}`;
    const code = (error as NodeJS.ErrnoException | null)?.code ?? '';
    return `${where} ${EXPLANATIONS[code] ?? `can not be reached: ${messageOf(error)}`}`;
  }
}

/** Settles as `work` does, or rejects with the signal's reason as soon as it is aborted. */
export async function unlessAborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  signal.throwIfAborted();
  let stop = () => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => {
      reject(signal.reason as Error);
    };
    signal.addEventListener('abort', stop, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

/** docker-modem marks an answer with an error status by `statusCode`, and keeps Docker's `{ "message": … }` in `json`. */
function refusalOf(error: unknown): EngineRefusal | null {
  if (error instanceof EngineRefusal) return error;
  const answer = error as { statusCode?: unknown; json?: { message?: unknown } | null } | null;
  if (typeof answer?.statusCode !== 'number') return null;
  const words = typeof answer.json?.message === 'string' ? answer.json.message : engineWords(messageOf(error));
  return new EngineRefusal(answer.statusCode, oneLine(words));
}

/** Takes docker-modem's `(HTTP code 404) reason - ` off. */
function engineWords(message: string): string {
  return message.replace(/^\(HTTP code \d+\) .*? - /, '');
}

/** Engine errors can carry whole outputs of runc: the first part says it. */
export function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').trim().slice(0, 500);
}

/** Connections are not kept: a kept one that the engine has closed meanwhile would fail the next call. */
function connect(host: string): Docker {
  const unix = /^unix:\/\/(\/.+)$/.exec(host);
  if (unix?.[1] !== undefined) {
    return withAgent(new Docker({ socketPath: unix[1], host: undefined, port: undefined, protocol: 'http' }));
  }
  const tcp = URL.canParse(host) ? new URL(host) : null;
  if (tcp?.protocol !== 'tcp:' || tcp.hostname === '') {
    throw new RangeError(`DOCKER_HOST ${host}: expected unix:///path or tcp://host:port`);
  }
  const port = tcp.port || '2375';
  const hostname = tcp.hostname.replace(/^\[|\]$/g, '');
  // docker-modem itself reads DOCKER_TLS_VERIFY and DOCKER_CERT_PATH where the environment names a TCP engine.
  return withAgent(new Docker({ socketPath: undefined, host: hostname, port }));
}

function withAgent(docker: Docker): Docker {
  const modem = docker.modem as unknown as { protocol: string; agent: http.Agent };
  modem.agent =
    modem.protocol === 'https' ? new https.Agent({ keepAlive: false }) : new http.Agent({ keepAlive: false });
  return docker;
}
