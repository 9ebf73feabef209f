import type { Context } from 'koa';
import { WunderproxyError } from '../errors.ts';

/** A hash, or a form with one, is never longer, in bytes. */
const LONGEST_BODY = 4_096;
const LONGEST_NAME = 200;

/** The exact bytes of a body. Throws `request_too_large`. */
export async function readBytes(context: Context, longest: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of context.req as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > longest) {
      throw new WunderproxyError('request_too_large', { message: `The body is larger than ${longest} bytes.` });
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** The trimmed body, of 4 KiB at the most. Throws `request_too_large`. */
export async function readBody(context: Context): Promise<string> {
  return (await readBytes(context, LONGEST_BODY)).toString('utf8').trim();
}

/** Who deploys: what the caller says, else where it comes from. */
export function deployedBy(context: Context): string {
  const named = asWritten(context.get('x-deployed-by')).trim().slice(0, LONGEST_NAME);
  return named || (context.req.socket.remoteAddress ?? 'local');
}

/** Scripts put UTF-8 into headers, which Node reads as latin1 (RFC 9110 section 5.5). */
function asWritten(value: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.from(value, 'latin1'));
  } catch {
    return value;
  }
}

/** One line for people and scripts; JSON for those who ask for it. */
export function answer(context: Context, text: string, fields: Record<string, unknown>): void {
  if (wantsJson(context)) context.body = { Message: text, ...fields };
  else context.body = `${text}\n`;
}

/** JSON only for who names it: curl's own Accept is any type. */
export function wantsJson(context: Context): boolean {
  return /(?:^|[\s,])application\/(?:[\w.+-]+\+)?json\b/i.test(context.get('accept'));
}
