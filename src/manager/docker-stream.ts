import { StringDecoder } from 'node:string_decoder';
import { type Readable } from 'node:stream';

/** Longest message that is taken from the engine, in characters. */
const MAX_MESSAGE = 2 ** 20;

/**
 * The JSON messages of a stream of the Docker API (events, progress of pull and load), one per line.
 * Throws when the stream breaks, and a SyntaxError when something is no JSON.
 */
export async function* jsonMessages(stream: Readable): AsyncGenerator<Record<string, unknown>> {
  const decoder = new StringDecoder('utf8');
  let rest = '';
  for await (const chunk of stream) {
    const lines = (rest + decoder.write(chunk as Buffer)).split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > MAX_MESSAGE) throw new SyntaxError('a message of the engine does not end');
    for (const line of lines) {
      if (line.trim() !== '') yield JSON.parse(line) as Record<string, unknown>;
    }
  }
  if (rest.trim() !== '') yield JSON.parse(rest) as Record<string, unknown>;
}
