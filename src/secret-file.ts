import { readFileSync } from 'node:fs';

/** In a file: two while one takes the place of the other. Each is compared with what comes, so there is an end to it. */
const MOST = 16;

/** What a header can carry (RFC 9110 section 5.5), without spaces. */
const TOKEN = /^[\x21-\x7e]+$/;

/** One of the secrets in a file. */
interface SecretLine {
  /** From 1. */
  line: number;
  /** Latin-1: a character for each byte. */
  text: string;
}

/**
 * The secrets in a file, one a line, without the white space around them and without those that come twice. The first is the
 * one to use, all are to be accepted: so one can be replaced by another on many machines without a moment in which two of
 * them disagree. Throws what reading a file throws, and RangeError, neither of which ever holds anything of its content.
 */
export function readSecrets(file: string): [SecretLine, ...SecretLine[]] {
  const found = new Map<string, SecretLine>();
  for (const [at, raw] of readFileSync(file, 'latin1').split('\n').entries()) {
    const text = raw.replace(/^[ \t\r]+|[ \t\r]+$/g, '');
    if (text !== '' && !found.has(text)) found.set(text, { line: at + 1, text });
  }
  const [first, ...rest] = found.values();
  if (first === undefined) throw new RangeError('the file is empty');
  if (rest.length >= MOST) throw new RangeError(`it holds ${rest.length + 1} lines, at most ${MOST} are taken`);
  return [first, ...rest];
}

/** The bearer tokens in a file. Throws as readSecrets does. */
export function readTokens(file: string): [string, ...string[]] {
  const [first, ...rest] = readSecrets(file);
  for (const { line, text } of [first, ...rest]) {
    if (!TOKEN.test(text))
      throw new RangeError(`line ${line} holds no token: letters, digits and signs without spaces`);
  }
  return [first.text, ...rest.map(({ text }) => text)];
}
