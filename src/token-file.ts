import { readFileSync } from 'node:fs';

/**
 * The bearer token in a file: one word of visible ASCII, because it is to stand in a header (RFC 6750 section 2.1).
 * Throws an Error in one line, without the content.
 */
export function readTokenFile(path: string): string {
  const token = readFileSync(path, 'utf8').trim();
  if (token === '') throw new Error('the file is empty');
  if (!/^[\x21-\x7e]+$/.test(token)) throw new Error('it holds no token: that is one word of visible ASCII');
  return token;
}
