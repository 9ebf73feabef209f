import { Readable } from 'node:stream';

/**
 * The same bytes, failing when the source stays silent for `limitMs` while somebody wants to read. A reader that takes
 * its time costs nothing. Destroying the result destroys the source.
 */
export function idleLimited(source: Readable, limitMs: number): Readable {
  let timer: NodeJS.Timeout | undefined;
  const waiting = () => {
    clearTimeout(timer);
    timer = setTimeout(() => limited.destroy(new Error(`no byte within ${limitMs / 1000} s`)), limitMs);
  };
  const limited = new Readable({
    read() {
      waiting();
      source.resume();
    },
    destroy(error, done) {
      clearTimeout(timer);
      source.destroy();
      done(error);
    },
  });
  source.on('data', (chunk: Buffer) => {
    if (limited.push(chunk)) {
      waiting();
    } else {
      clearTimeout(timer);
      source.pause();
    }
  });
  source.on('end', () => {
    clearTimeout(timer);
    limited.push(null);
  });
  source.on('error', (error) => limited.destroy(error));
  source.on('close', () => {
    if (!source.readableEnded) limited.destroy(new Error('the source broke off'));
  });
  return limited;
}
