import { Readable } from 'node:stream';
import type { Context } from 'koa';
import { WunderproxyError } from '../errors.ts';
import type { ContainerRuntime } from './runtime.ts';

/** Each holds a connection to the engine, or asks it four times a second. */
const MOST = 16;
/** When a connection has been silent for so long (ms), it is asked whether its other end is still there. */
const PROBE_AFTER = 30_000;
/** How often (ms) it is looked whether they are still let in. */
const LOOK = 1_000;

/** Whoever reads a container's log as it is written. */
export class LogFollowers {
  readonly #runtime: ContainerRuntime;
  readonly #admitted: (context: Context) => boolean;
  readonly #contexts = new Set<Context>();
  #timer: NodeJS.Timeout | null = null;

  /** `admitted`: whether a request that was let in would be let in now. */
  constructor(runtime: ContainerRuntime, admitted: (context: Context) => boolean) {
    this.#runtime = runtime;
    this.#admitted = admitted;
  }

  /**
   * Answers with text that goes on until the container ends or the client leaves. It is broken off when the client would not
   * be let in any more: an orderly end would look like the container's. Throws `too_many_streams`.
   */
  open(context: Context, id: string, lines: number): void {
    if (this.#contexts.size >= MOST) {
      throw new WunderproxyError('too_many_streams', { message: `${MOST} others are following logs already.` });
    }
    this.#contexts.add(context);
    this.#timer ??= setInterval(() => this.#look(), LOOK).unref();
    const left = new AbortController();
    // A client that lost its network says nothing, and neither may the container.
    context.req.socket.setKeepAlive(true, PROBE_AFTER);
    const text = Readable.from(this.#text(id, lines, left.signal), { objectMode: false });
    context.res.once('close', () => {
      left.abort();
      text.destroy();
      this.#forget(context);
    });
    context.type = 'text/plain; charset=utf-8';
    // For what stands in between.
    context.set('X-Accel-Buffering', 'no');
    context.body = text;
    context.flushHeaders();
  }

  #look(): void {
    for (const context of this.#contexts) if (!this.#admitted(context)) context.res.destroy();
  }

  #forget(context: Context): void {
    this.#contexts.delete(context);
    if (this.#contexts.size > 0 || this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
  }

  async *#text(id: string, lines: number, signal: AbortSignal): AsyncGenerator<Buffer> {
    for await (const line of this.#runtime.follow(id, lines, signal)) yield Buffer.from(`${line}\n`);
  }
}
