import type { Fields, RequestHead, ResponseHead } from './exchange.ts';
import { MAX_FIELDS, MAX_HEAD_BYTES } from './http1-head.ts';
import type { Http1ResponseHead } from './http1-response.ts';
import { FALLBACK, firstValue, isForwarding, REQUEST_START, valuesOf } from './headers.ts';

/*
 * The rules about header fields between machines that fall back to one another; headers.ts keeps them from everybody else.
 */

const NAME = 'Wunderproxy-Fallback';

/** What a machine that asks for another's health sends, and what it gets. */
export const PROBE = 'Wunderproxy-Probe';

/** Whether a request carries a marker, whatever it is worth. */
export function isMarked(head: RequestHead): boolean {
  return head.names.includes(FALLBACK);
}

/** The marker of a request; null when there is none, or several. */
export function markerOf(head: RequestHead): string | null {
  const given = valuesOf(head, FALLBACK);
  return given.length === 1 ? (given[0] ?? null) : null;
}

/** The question after this machine's health, when it comes from a machine; else null. */
export function probeOf(head: RequestHead): string | null {
  return firstValue(head, PROBE.toLowerCase());
}

/** What a marker vouches for: the request's first line and everything that says where it came from. */
export function signedParts({ method, target, host, fields, names }: Signed): string[] {
  const parts = [method, target, host ?? ''];
  for (let i = 0; i < names.length; i++) {
    const name = names[i] ?? '';
    if (isForwarding(name)) parts.push(`${name}:${fields[2 * i + 1] ?? ''}`);
  }
  return parts;
}

type Signed = Pick<RequestHead, 'method' | 'target' | 'host' | 'fields' | 'names'>;

/** What a peer gets in place of the container: the same fields, and a marker. `seal` makes it of what it vouches for. */
export function peerFields(
  { method, target }: RequestHead,
  forContainer: Fields,
  seal: (parts: string[]) => string,
): string[] {
  const fields = forContainer.slice(0, forContainer.lastIndexOf(REQUEST_START));
  const names = fields.filter((_, i) => i % 2 === 0).map((name) => name.toLowerCase());
  return [...fields, NAME, seal(signedParts({ method, target, host: fields[1] ?? null, fields, names }))];
}

/** What the request line and the marker take, at most (bytes), beside target and fields. */
const BESIDE = 512;

/** Whether a peer would take a request with these fields: it has the limits that clients have, and gets more than they send. */
export function fitsPeer({ target }: RequestHead, forContainer: Fields): boolean {
  const separators = 2 * forContainer.length;
  const length = forContainer.reduce((sum, text) => sum + text.length, target.length + separators + BESIDE);
  // The marker takes the place of one; a change of protocols needs two more.
  return length <= MAX_HEAD_BYTES && forContainer.length / 2 + 2 <= MAX_FIELDS;
}

/** What a peer says of an answer that is not its container's; null when it says nothing. */
export function refusalOf({ fields, names }: Http1ResponseHead): string | null {
  const at = names.indexOf(FALLBACK);
  return at === -1 ? null : (fields[2 * at + 1] ?? null);
}

/** An answer of this machine to a peer, with what proves that it is not its container's. */
export function withRefusal(head: ResponseHead, refusal: string): ResponseHead {
  return { ...head, fields: [...head.fields, NAME, refusal] };
}

/** A peer's answer, for people who look for it (`--debug-headers`). */
export function withFallbackNote(head: ResponseHead): ResponseHead {
  return { ...head, fields: [...head.fields, NAME, '1'] };
}

/** What the container has told this machine alone is passed on to a peer: the pieces of the answer are wanted as they come. */
export function withLiveNote(head: ResponseHead): ResponseHead {
  return { ...head, fields: [...head.fields, 'X-Accel-Buffering', 'no'] };
}
