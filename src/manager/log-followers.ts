import { Readable } from 'node:stream';
import type { Context } from 'koa';
import { WunderproxyError } from '../errors.ts';
import type { ContainerRuntime } from './runtime.ts';

/** Each holds a connection to the engine, or asks it four times a second. */
const MOST = 16;
/** When a connection has been silent for so long (ms), it is asked whether its other end is still there. */
const PROBE_AFTER = 30_000;

/** Whoever reads a container's log as it is written. */
export class LogFollowers {
  readonly #runtime: ContainerRuntime;
  #count = 0;

  constructor(runtime: ContainerRuntime) {
    this.#runtime = runtime;
  }

  /** Answers with text that goes on until the container ends or the client leaves. Throws `too_many_streams`. */
  open(context: Context, id: string, lines: number): void {
    if (this.#count >= MOST) {
      throw new WunderproxyError('too_many_streams', { message: `${MOST} others are following logs already.` });
    }
    this.#count += 1;
    const left = new AbortController();
    // A client that lost its network says nothing, and neither may the container.
    context.req.socket.setKeepAlive(true, PROBE_AFTER);
    const text = Readable.from(this.#text(id, lines, left.signal), { objectMode: false });
    context.res.once('close', () => {
      left.abort();
      text.destroy();
      this.#count -= 1;
    });
    context.type = 'text/plain; charset=utf-8';
    // For what stands in between.
    context.set('X-Accel-Buffering', 'no');
    context.body = text;
    context.flushHeaders();
  }

  async *#text(id: string, lines: number, signal: AbortSignal): AsyncGenerator<Buffer> {
    for await (const line of this.#runtime.follow(id, lines, signal)) yield Buffer.from(`${line}\n`);
  }
}
