import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeError, ERROR_CODES } from '../../src/errors.ts';
import { errorResponse } from '../../src/proxy/respond.ts';

const AT = Date.UTC(2026, 0, 1);

function answered(accept: string | null, id = 'an-id') {
  const request = accept === null ? { names: [], fields: [] } : { names: ['accept'], fields: ['Accept', accept] };
  const { head, body } = errorResponse(request, id, 'no_active_container', AT);
  return { type: head.fields[head.fields.indexOf('Content-Type') + 1], text: body.toString(), head };
}

const accepts: [accept: string | null, type: RegExp][] = [
  [null, /^text\/plain/],
  ['*/*', /^text\/plain/],
  ['text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8', /^text\/html/],
  ['application/json', /^application\/json/],
  ['application/json;q=0.5, text/html;q=0.4', /^application\/json/],
  ['application/json;q=0.4, text/html;q=0.5', /^text\/html/],
  ['APPLICATION/JSON ; Q=1', /^application\/json/],
  ['text/html;q=0', /^text\/plain/],
  ['application/problem+json', /^application\/json/],
  ['image/png', /^text\/plain/],
  ...Object.getOwnPropertyNames(Object.prototype).map((name): [string, RegExp] => [name, /^text\/plain/]),
];

for (const [accept, type] of accepts) {
  test(`Accept: ${accept ?? '(none)'} gets ${type.source}`, () => assert.match(answered(accept).type ?? '', type));
}

test('every code answers with its status, its name and the request id, in every format', () => {
  for (const code of ERROR_CODES) {
    for (const accept of ['text/html', 'application/json', 'text/plain']) {
      const { head, body } = errorResponse({ names: ['accept'], fields: ['Accept', accept] }, 'an-id', code, AT);
      assert.equal(head.status, describeError(code).status);
      assert.equal(head.length, body.length);
      assert.equal(head.fields[head.fields.indexOf('Wunderproxy-Error') + 1], code);
      assert.ok(body.toString().includes('an-id'));
    }
  }
});

test('an id of a trusted peer can not become part of the page', () => {
  assert.ok(!answered('text/html', '<script>alert(1)</script>').text.includes('<script>'));
});

test('503 says when to come again', () => {
  const { head } = answered(null);
  assert.match(head.fields[head.fields.indexOf('Retry-After') + 1] ?? '', /^\d+$/);
});
