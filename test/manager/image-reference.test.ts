import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseReference } from '../../src/manager/image-reference.ts';

const DIGEST = `sha256:${'0123456789abcdef'.repeat(4)}`;

describe("an image's name", () => {
  const names: [string, string, string | null, string | null][] = [
    ['shop', 'shop', null, null],
    ['shop:v1', 'shop', 'v1', null],
    ['localhost:8080/shop', 'localhost:8080/shop', null, null],
    ['localhost:8080/shop:v1', 'localhost:8080/shop', 'v1', null],
    ['registry.example.com/team/shop:1.2_3-rc', 'registry.example.com/team/shop', '1.2_3-rc', null],
    [`team/shop@${DIGEST}`, 'team/shop', null, DIGEST],
    [`localhost:8080/shop:v1@${DIGEST}`, 'localhost:8080/shop', 'v1', DIGEST],
  ];
  for (const [text, name, tag, digest] of names) {
    test(`${text} is taken apart`, () => {
      assert.deepEqual(parseReference(text), { name, tag, digest });
    });
  }

  const others = [
    '',
    'shop?force=1',
    '../containers/x',
    'shop/../../containers',
    'shop/',
    '/shop',
    'shop:',
    'shop:v 1',
    'shop\r\nX: y',
    'shop#x',
    'shop%2f',
    'shop@latest',
    `shop:${'v'.repeat(129)}`,
  ];
  for (const text of others) {
    test(`${JSON.stringify(text).slice(0, 40)} is refused`, () => {
      assert.equal(parseReference(text), null);
    });
  }
});
