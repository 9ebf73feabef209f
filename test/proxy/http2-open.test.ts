import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { test } from 'node:test';
import type { Http2Exchange } from '../../src/proxy/http2-exchange.ts';
import { OpenStreams } from '../../src/proxy/http2-open.ts';

test('open streams are found by their numbers, in whatever order they come and go', () => {
  const streams = new OpenStreams();
  const expected = new Map<number, Http2Exchange>();
  for (let i = 0; i < 5_000; i++) {
    const streamId = 2 * randomInt(100) + 1;
    assert.equal(streams.get(streamId), expected.get(streamId));
    if (expected.has(streamId)) {
      assert.equal(streams.delete(streamId), expected.delete(streamId));
    } else {
      assert.equal(streams.delete(streamId), false);
      const exchange = { streamId } as Http2Exchange;
      expected.set(streamId, exchange);
      streams.add(exchange);
    }
    assert.equal(streams.size, expected.size);
  }
  assert.deepEqual(
    streams.all().map(({ streamId }) => streamId),
    [...expected.keys()].toSorted((a, b) => a - b),
  );
});
