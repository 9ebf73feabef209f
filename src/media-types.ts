/** Distinct Content-Type values whose verdict is remembered; applications use few, but could make them up. */
const MAX_REMEMBERED = 200;

const RANGE = /^([a-z0-9!#$&^_.+-]+|\*)\/([a-z0-9!#$&^_.+-]*\*?[a-z0-9!#$&^_.+-]*)$/;

/**
 * Checks a media range: `application/json`, `text/*`, `application/*+json`; one `*` on each side of the slash. Returns it
 * in lower case. Throws a RangeError.
 */
export function parseMediaRange(text: string): string {
  const range = text.toLowerCase();
  if (range.length > 100 || !RANGE.test(range) || range.endsWith('/')) {
    throw new RangeError(`${text} is not a media type like text/html, text/* or application/*+json`);
  }
  return range;
}

/** The type of a Content-Type value without its parameters, in lower case (RFC 9110 section 8.3.1). */
export function mediaType(value: string): string {
  const semicolon = value.indexOf(';');
  return (semicolon === -1 ? value : value.slice(0, semicolon)).trim().toLowerCase();
}

/** Tells whether a Content-Type value lies in one of these ranges (as `parseMediaRange` returns them). */
export function mediaTypeMatcher(ranges: readonly string[]): (contentType: string) => boolean {
  const patterns = ranges.map((range) => range.split('/', 2));
  const known = new Map<string, boolean>();
  return (contentType) => {
    const before = known.get(contentType);
    if (before !== undefined) return before;
    const [type = '', subtype = ''] = mediaType(contentType).split('/', 2);
    const matches =
      subtype !== '' && patterns.some(([of = '', sub = '']) => matchesGlob(type, of) && matchesGlob(subtype, sub));
    if (known.size < MAX_REMEMBERED && contentType.length <= 100) known.set(contentType, matches);
    return matches;
  };
}

function matchesGlob(text: string, pattern: string): boolean {
  const star = pattern.indexOf('*');
  if (star === -1) return text === pattern;
  if (text.length < pattern.length - 1) return false;
  return text.startsWith(pattern.slice(0, star)) && text.endsWith(pattern.slice(star + 1));
}
