import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { Agent, request } from 'undici';
import type * as z from 'zod';
import { messageOf } from '../errors.ts';
import {
  configAnswer,
  type ContainerAnswer,
  containerAnswer,
  errorAnswer,
  historyAnswer,
  messageAnswer,
  type Progress,
  progressAnswer,
  type Status,
  statusAnswer,
} from './answers.ts';

/** For a connection to be made, in ms. */
const CONNECT_LIMIT = 5_000;
/** For an answer that comes from memory, or takes the manager one look into the store, in ms. */
const SHORT_LIMIT = 30_000;
/** How often (ms) a manager that has just started is asked. */
const ASK_AGAIN = 250;
/** Answers are not read beyond this, in bytes. */
const LONGEST_ANSWER = 64 * 2 ** 20;

/** A manager that can't be reached, or breaks off: whether it did what was asked is not known. */
export class Unreachable extends Error {}

/** A manager said no. `code` is one of src/errors.ts, or empty when it is no manager that answers. */
export class Refusal extends Error {
  readonly status: number;
  readonly code: string;
  readonly detail: unknown;
  constructor(status: number, code: string, message: string, detail?: unknown) {
    super(message);
    this.name = 'Refusal';
    this.status = status;
    this.code = code;
    this.detail = detail;
  }
}

export interface ManagerOptions {
  /** `http://host:port`, `https://…` or `unix:/path`. */
  url: string;
  /** How people name the machine. */
  name: string;
  token: string | null;
  /** Who asks, for history and journal. */
  by: string;
}

/** Says of which manager a failure is. */
export async function named<T>(manager: ManagerClient, call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof Error) error.message = `${manager.name}: ${error.message}`;
    throw error;
  }
}

interface Call {
  body?: string | Buffer;
  /** In ms. */
  limit?: number;
}

/**
 * The API of one manager. Methods throw Unreachable, and Refusal for what the manager does not do. Calls that take their
 * time have a limit in ms, after which they throw Refusal with the code `timeout`. The token never gets into an error.
 */
export class ManagerClient {
  readonly name: string;
  readonly url: string;
  readonly #origin: string;
  readonly #agent: Agent;
  readonly #headers: Record<string, string>;

  constructor({ url, name, token, by }: ManagerOptions) {
    this.url = url;
    this.name = name;
    const socketPath = url.startsWith('unix:') ? url.slice(5) : null;
    this.#origin = socketPath === null ? url.replace(/\/+$/, '') : 'http://localhost';
    // A launch is answered when the container is healthy: how long that may take is the caller's to say.
    const times = { headersTimeout: 0, bodyTimeout: 0 };
    this.#agent = new Agent({
      ...times,
      connect: { timeout: CONNECT_LIMIT, ...(socketPath === null ? {} : { socketPath }) },
    });
    this.#headers = {
      accept: 'application/json',
      // Header values are latin1 (RFC 9110 section 5.5); a name may be anything.
      'x-deployed-by': by.replace(/[^\x20-\x7e\xa0-\xff]/g, '?'),
      ...(token === null ? {} : { authorization: `Bearer ${token}` }),
    };
  }

  async status(limit = SHORT_LIMIT): Promise<Status> {
    return this.#known(statusAnswer, 'App,Store,Peers', limit);
  }

  async progress(limit = SHORT_LIMIT): Promise<Progress> {
    return this.#known(progressAnswer, '', limit);
  }

  /** A manager that has just started says nothing of worth: it is asked again until it knows what runs. */
  async #known<T extends Progress>(schema: z.ZodType<T>, more: string, limit: number): Promise<T> {
    const path = `/status?keys=Starting,Active,Containers,Launches,${more}`;
    const deadline = performance.now() + limit;
    for (;;) {
      const answer = await this.#ask('GET', path, schema, { limit });
      if (!answer.Starting) return answer;
      if (performance.now() > deadline) throw new Unreachable('it has just started, and does not know yet what runs');
      await delay(ASK_AGAIN);
    }
  }

  async storeConfig(bytes: Buffer): Promise<{ Hash: string; Revision: string }> {
    return this.#ask('POST', '/configs', configAnswer, { body: bytes });
  }

  async launch(hash: string, limit: number): Promise<ContainerAnswer> {
    return this.#ask('POST', '/launch', containerAnswer, { body: hash, limit });
  }

  /** Answered when the container before is gone. */
  async switchTo(hash: string, limit: number): Promise<ContainerAnswer> {
    return this.#ask('POST', '/switch?wait=drained', containerAnswer, { body: hash, limit });
  }

  /** Null: to the deployment before. Answered when the container before is gone. */
  async rollback(hash: string | null, limit: number): Promise<ContainerAnswer> {
    return this.#ask('POST', '/rollback?wait=drained', containerAnswer, { body: hash ?? '', limit });
  }

  /** Stops containers of this hash that are neither in service nor draining. */
  async stopOld(hash: string, limit: number): Promise<void> {
    await this.#ask('POST', '/stop-old', messageAnswer, { body: hash, limit });
  }

  async history(): Promise<z.infer<typeof historyAnswer>> {
    return this.#ask('GET', '/history', historyAnswer, {});
  }

  async lock(method: 'POST' | 'DELETE', body: Record<string, unknown>): Promise<void> {
    await this.#ask(method, '/lock', messageAnswer, { body: JSON.stringify(body) });
  }

  /** The answer as it is, for people or (`json`) for programs. */
  async text(path: string, json: boolean): Promise<string> {
    return this.#send('GET', path, {}, json ? 'application/json' : 'text/plain');
  }

  /** The lines of an answer that goes on for as long as there is something to say. */
  async *lines(path: string): AsyncGenerator<string> {
    const headers = { ...this.#headers, accept: 'text/plain' };
    try {
      const answer = await request(`${this.#origin}${path}`, { headers, dispatcher: this.#agent });
      if (answer.statusCode === 200) {
        yield* createInterface({ input: answer.body, crlfDelay: Infinity });
        return;
      }
      throw refusal(answer.statusCode, String(answer.headers['wunderproxy-error'] ?? ''), await readText(answer.body));
    } catch (error) {
      if (error instanceof Refusal) throw error;
      throw new Unreachable(reasonOf(error), { cause: error });
    }
  }

  /** Lets go of connections. */
  async close(): Promise<void> {
    await this.#agent.destroy();
  }

  async #ask<T>(method: 'GET' | 'POST' | 'DELETE', path: string, schema: z.ZodType<T>, call: Call): Promise<T> {
    const text = await this.#send(method, path, call, 'application/json');
    try {
      return schema.parse(JSON.parse(text));
    } catch {
      throw new Refusal(200, '', `${method} ${path} is not answered as a wunderproxy manager of this version would.`);
    }
  }

  async #send(method: 'GET' | 'POST' | 'DELETE', path: string, call: Call, accept: string): Promise<string> {
    const { body = null, limit = SHORT_LIMIT } = call;
    const signal = AbortSignal.timeout(limit);
    let status: number;
    let code: string;
    let text: string;
    try {
      const answer = await request(`${this.#origin}${path}`, {
        method,
        headers: { ...this.#headers, accept },
        body,
        signal,
        dispatcher: this.#agent,
      });
      status = answer.statusCode;
      code = String(answer.headers['wunderproxy-error'] ?? '');
      text = await readText(answer.body);
    } catch (error) {
      if (signal.aborted) throw new Refusal(0, 'timeout', `No answer within ${limit / 1_000}s.`);
      throw new Unreachable(reasonOf(error), { cause: error });
    }
    if (status === 200) return text;
    throw refusal(status, code, text);
  }
}

async function readText(body: AsyncIterable<Buffer>): Promise<string> {
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const piece of body) {
    length += piece.length;
    if (length > LONGEST_ANSWER) throw new Error('its answer does not end');
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString('utf8');
}

/** `code`: its header Wunderproxy-Error, which stands above errors in text and in JSON. */
function refusal(status: number, code: string, text: string): Refusal {
  if (code === '') return new Refusal(status, '', `It answers ${status}, and not as a wunderproxy manager would.`);
  // Its own words are for those who write the header themselves.
  const hint = code === 'unauthorized' ? ' Name the file that holds it with --token-file.' : '';
  try {
    const { Message, Detail } = errorAnswer.parse(JSON.parse(text)).Error;
    return new Refusal(status, code, `${Message}${hint}`, Detail);
  } catch {
    return new Refusal(status, code, `${text.trim()}${hint}`);
  }
}

/** Addresses are tried one after the other: the first failure says as much as all. */
function reasonOf(error: unknown): string {
  const { errors, code, cause } = error as { errors?: unknown[]; code?: string; cause?: unknown };
  if (Array.isArray(errors) && errors.length > 0) return reasonOf(errors[0]);
  if (code === 'ECONNREFUSED') return 'connection refused';
  if (code === 'UND_ERR_CONNECT_TIMEOUT') return `no connection within ${CONNECT_LIMIT / 1_000}s`;
  if (code === 'UND_ERR_SOCKET' || code === 'ECONNRESET') return 'the connection broke before the answer was complete';
  return messageOf(code === undefined && cause instanceof Error ? cause : error);
}
