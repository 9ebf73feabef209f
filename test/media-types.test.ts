import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mediaTypeMatcher, parseMediaRange } from '../src/media-types.ts';

for (const [ranges, type, expected] of [
  [['text/*'], 'text/html; charset=utf-8', true],
  [['text/*'], 'TEXT/Event-Stream', true],
  [['text/*'], 'textual/html', false],
  [['text/*'], 'text', false],
  [['text/*'], 'text/', false],
  [['application/json'], 'application/json;x="a/b"', true],
  [['application/json'], 'application/json5', false],
  [['application/*+json'], 'application/ld+json', true],
  [['application/*+json'], 'application/json', false],
  [['application/*+json'], 'application/+json', true],
  [['a/b', 'image/svg+xml'], ' image/svg+xml ', true],
  [['*/*'], 'video/mp4', true],
  [['*/*+xml'], 'model/x+xml', true],
  [[], 'text/html', false],
  [['*/*'], '', false],
] as const) {
  test(`${JSON.stringify(type)} is ${expected ? '' : 'not '}in ${ranges.join() || 'no range'}`, () => {
    const matches = mediaTypeMatcher(ranges);
    assert.equal(matches(type), expected);
    assert.equal(matches(type), expected, 'also when it is known');
  });
}

test('what is no media range is refused with its text', () => {
  assert.equal(parseMediaRange('Text/*'), 'text/*');
  for (const bad of ['text', 'text/', '/html', 'text/html;q=1', 'te*t/html', 'text/*+*', 'a/b/c', 'text /html', '']) {
    const message = `${bad} is not a media type like text/html, text/* or application/*+json`;
    assert.throws(() => parseMediaRange(bad), { name: 'RangeError', message });
  }
});
