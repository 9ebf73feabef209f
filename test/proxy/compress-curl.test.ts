import assert from 'node:assert/strict';
import { test } from 'node:test';
import { curl } from '../support/curl.ts';
import { CODINGS } from './support/codings.ts';
import { Upstream } from './support/upstream.ts';
import { TestWorker } from './support/worker.ts';

const TEXT = Array.from({ length: 2_000 }, (_, i) => `line ${i * 7_919} of many\n`).join('');

for (const coding of CODINGS) {
  test(`curl reads ${coding}, whole and as it comes`, async (t) => {
    const upstream = await Upstream.start(t, ({ url = '' }, response) => {
      response.setHeader('content-type', 'text/plain');
      response.write(Buffer.alloc(Number(url.slice(1)) / 2, TEXT));
      response.end(Buffer.alloc(Number(url.slice(1)) / 2, TEXT));
    });
    const worker = await TestWorker.start(t, { route: { active: upstream.target } });
    for (const size of [5_000, 50_000, 2_000_000]) {
      const address = `http://127.0.0.1:${worker.port}/${size}`;
      const half = Buffer.alloc(size / 2, TEXT);
      const coded = await curl('--header', `Accept-Encoding: ${coding}`, address);
      assert.ok(coded.length < size / 3, `${coded.length} of ${size} bytes`);
      const read = await curl('--compressed', '--header', `Accept-Encoding: ${coding}`, address);
      assert.ok(read.equals(Buffer.concat([half, half])), `${read.length} of ${size} bytes`);
    }
  });
}
