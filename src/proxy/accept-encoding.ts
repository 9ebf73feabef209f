import type { Coding } from '../worker-config.ts';
import { trimWhitespace } from './http1-head.ts';

/** A coding with its weight (RFC 9110 sections 12.4.2 and 12.5.3). */
const ELEMENT = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+)(?:[ \t]*;[ \t]*[qQ]=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?))?$/;

/** Distinct values that are remembered: browsers send few, attackers may make them up. */
const MAX_REMEMBERED = 100;

/**
 * Chooses by Accept-Encoding (RFC 9110 section 12.5.3): the coding of the highest weight, the first offered among equals.
 * Null: none of them, because none is accepted, `identity` is preferred, or the value can't be read.
 */
export function codingChooser(offered: readonly Coding[]): (accept: string) => Coding | null {
  const known = new Map<string, Coding | null>();
  return (accept) => {
    const before = known.get(accept);
    if (before !== undefined) return before;
    const chosen = choose(weights(accept), offered);
    if (known.size < MAX_REMEMBERED && accept.length <= 200) known.set(accept, chosen);
    return chosen;
  };
}

function choose(accepted: ReadonlyMap<string, number> | null, offered: readonly Coding[]): Coding | null {
  if (accepted === null) return null;
  let best: Coding | null = null;
  // Without a word about it identity is as good as nothing: who names other codings wants them.
  let bestWeight = 0;
  for (const coding of offered) {
    const weight = accepted.get(coding) ?? accepted.get('*') ?? 0;
    if (weight > bestWeight) {
      best = coding;
      bestWeight = weight;
    }
  }
  return bestWeight < (accepted.get('identity') ?? 0) ? null : best;
}

/** The weight (0–1) of every coding that is named, in lower case. Null when the value is malformed. */
function weights(accept: string): Map<string, number> | null {
  const found = new Map<string, number>();
  for (const part of accept.split(',')) {
    const text = trimWhitespace(part);
    // RFC 9110 section 5.6.1.2: empty elements of a list are passed over.
    if (text === '') continue;
    const element = ELEMENT.exec(text);
    if (element === null) return null;
    const name = (element[1] ?? '').toLowerCase();
    // RFC 9110 section 8.4.1.3: x-gzip is the same as gzip.
    found.set(name === 'x-gzip' ? 'gzip' : name, Number(element[2] ?? 1));
  }
  return found;
}
