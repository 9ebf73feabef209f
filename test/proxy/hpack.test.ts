import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { HpackDecoder, HpackEncoder } from '../../src/proxy/hpack.ts';
import { HpackError } from '../../src/proxy/hpack-huffman.ts';
import { HUFFMAN_LENGTHS } from '../../src/proxy/hpack-tables.ts';
import { ask, connectHttp2 } from './support/http2-client.ts';
import { Random } from './support/random.ts';
import { testMaterial } from './support/transport.ts';
import { Upstream } from './support/upstream.ts';
import { TestWorker } from './support/worker.ts';

const LIMIT = 16_384;

function fieldsOf(decoder: HpackDecoder, hex: string): string[] {
  return decoder.decode(Buffer.from(hex.replaceAll(' ', ''), 'hex'), LIMIT).fields;
}

const first = [':method', 'GET', ':scheme', 'http', ':path', '/', ':authority', 'www.example.com'];
const second = [...first, 'cache-control', 'no-cache'];
const third = [
  ...[':method', 'GET', ':scheme', 'https', ':path', '/index.html', ':authority', 'www.example.com'],
  ...['custom-key', 'custom-value'],
];

describe('the examples of RFC 7541 appendix C', () => {
  test('C.2: single fields', () => {
    const decoder = new HpackDecoder();
    assert.deepEqual(
      fieldsOf(decoder, '400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572'),
      ['custom-key', 'custom-header'],
    );
    assert.deepEqual(fieldsOf(decoder, '040c 2f73 616d 706c 652f 7061 7468'), [':path', '/sample/path']);
    assert.deepEqual(fieldsOf(decoder, '1008 7061 7373 776f 7264 0673 6563 7265 74'), ['password', 'secret']);
    assert.deepEqual(fieldsOf(decoder, '82'), [':method', 'GET']);
    assert.deepEqual(fieldsOf(decoder, 'be'), ['custom-key', 'custom-header']);
  });

  test('C.3: requests without Huffman coding, one after the other', () => {
    const decoder = new HpackDecoder();
    assert.deepEqual(fieldsOf(decoder, '8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d'), first);
    assert.deepEqual(fieldsOf(decoder, '8286 84be 5808 6e6f 2d63 6163 6865'), second);
    assert.deepEqual(
      fieldsOf(decoder, '8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65'),
      third,
    );
  });

  test('C.4: requests with Huffman coding, one after the other', () => {
    const decoder = new HpackDecoder();
    assert.deepEqual(fieldsOf(decoder, '8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff'), first);
    assert.deepEqual(fieldsOf(decoder, '8286 84be 5886 a8eb 1064 9cbf'), second);
    assert.deepEqual(fieldsOf(decoder, '8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf'), third);
  });

  test('C.6: a table that is too small for all, with Huffman coding', () => {
    const decoder = new HpackDecoder();
    // The example's table has 256 octets: 0x3f 0xe1 0x01 makes it so.
    assert.deepEqual(
      fieldsOf(
        decoder,
        '3fe1 01 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3',
      ),
      [
        ...[':status', '302', 'cache-control', 'private', 'date', 'Mon, 21 Oct 2013 20:13:21 GMT'],
        ...['location', 'https://www.example.com'],
      ],
    );
    assert.deepEqual(fieldsOf(decoder, '4883 640e ffc1 c0bf'), [
      ...[':status', '307', 'cache-control', 'private', 'date', 'Mon, 21 Oct 2013 20:13:21 GMT'],
      ...['location', 'https://www.example.com'],
    ]);
    // The entry that was evicted is not there any more.
    assert.throws(() => fieldsOf(decoder, 'c2'), HpackError);
  });
}); // prettier-ignore

test("Huffman codes fill their space exactly, as Kraft's inequality has it", () => {
  assert.equal(HUFFMAN_LENGTHS.length, 257);
  assert.equal(HUFFMAN_LENGTHS.reduce((sum, length) => sum + 2 ** -length, 0), 1);
}); // prettier-ignore

test('what the encoder writes the decoder reads, whatever the fields and the sizes of the table', () => {
  const random = new Random(7541);
  const encoder = new HpackEncoder();
  const decoder = new HpackDecoder();
  const names = [':status', 'content-type', 'set-cookie', 'date', 'x-a', 'x-b', 'etag', 'server', 'vary', 'x-long-name'];
  const values = ['', '200', '404', 'text/html', 'a=b', 'x'.repeat(127), 'y'.repeat(600), '\xe9\xff', 'nginx', 'z'.repeat(3_000)];
  for (let i = 0; i < 3_000; i++) {
    if (random.chance(0.05)) encoder.limit(random.pick([0, 30, 100, 300, 1_000, 4_096, 65_536]));
    const fields = Array.from({ length: random.between(1, 12) }, () => [
      random.pick(names),
      random.chance(0.3) ? String(random.between(0, 50)) : random.pick(values),
    ]).flat();
    assert.deepEqual(decoder.decode(encoder.encode(fields), 2 ** 20).fields, fields);
  }
}); // prettier-ignore

test('what goes beyond the limit is left out, and the table is kept all the same', () => {
  const decoder = new HpackDecoder();
  const encoder = new HpackEncoder();
  const fields = ['x-a', 'a'.repeat(300), 'x-b', 'b'.repeat(300)];
  const { fields: kept, tooLarge } = decoder.decode(encoder.encode(fields), 400);
  assert.deepEqual([kept, tooLarge], [['x-a', 'a'.repeat(300)], true]);
  assert.deepEqual(decoder.decode(encoder.encode(fields), LIMIT), { fields, tooLarge: false });
});

test('a block that is cut off anywhere is refused or ends between two fields', () => {
  const block = Buffer.from('400a637573746f6d2d6b65790d637573746f6d2d68656164657204', 'hex').subarray(0, 26);
  for (let end = 1; end < block.length; end++) {
    assert.throws(() => new HpackDecoder().decode(block.subarray(0, end), LIMIT), HpackError, String(end));
  }
});

test('any bytes at all are decoded or refused', () => {
  const random = new Random(9113);
  for (let i = 0; i < 20_000; i++) {
    const block = Buffer.from(Array.from({ length: random.between(1, 40) }, () => random.between(0, 255)));
    try {
      const { fields } = new HpackDecoder().decode(block, LIMIT);
      assert.equal(fields.length % 2, 0);
    } catch (error) {
      assert.ok(error instanceof HpackError);
    }
  }
});

test('every octet that may stand in a field comes through from nghttp2 and back', async (t) => {
  const octets = Array.from({ length: 256 }, (_, code) => code).filter((code) => code === 9 || (code >= 32 && code !== 127));
  const upstream = await Upstream.start(t, (request, response) => {
    response.setHeader('x-back', request.headers['x-there'] ?? '');
    response.end();
  });
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, tls: testMaterial() });
  const session = await connectHttp2(t, worker);
  for (const code of octets) {
    const value = `<${String.fromCharCode(code).repeat(3)}a${String.fromCharCode(code)}>`;
    const { headers } = await ask(session, { 'x-there': value });
    assert.equal(headers['x-back'], value, `octet ${code}`);
  }
}); // prettier-ignore
