import assert from 'node:assert/strict';
import { once } from 'node:events';
import * as http from 'node:http';
import { test } from 'node:test';
import { onlyCase, runCases } from './support/cases.ts';
import { CODINGS, decode } from './support/codings.ts';
import { Random } from './support/random.ts';
import { Upstream } from './support/upstream.ts';
import { TestWorker } from './support/worker.ts';

/*
 * A worker with small budgets compresses bodies of sizes around every border that come in any pieces, for clients that
 * read fast or slowly or give up anywhere, from an application that breaks off as well. PROPERTY_SEED and PROPERTY_CASE
 * repeat one case.
 */

const LIMITS = { cases: 1_500, time: 14_000, lines: 6 };

const BORDERS = [1_024, 8_192, 65_536, 131_072];
const SIZES = [0, 1, ...BORDERS.flatMap((border) => [border - 1, border, border + 1]), 400_000];

/** Half of it compresses well, half of it hardly at all. */
const source = makeSource(400_000);

function makeSource(length: number): Buffer {
  const random = new Random(1);
  const data = Buffer.alloc(length);
  for (let at = 0; at < length; at += 100) {
    if (random.chance(0.5)) data.write(`<li class="item">${random.between(0, 99)}</li>`.repeat(4).slice(0, 100), at);
    else for (let i = at; i < at + 100; i++) data[i] = random.below(256);
  }
  return data;
}

interface Plan {
  size: number;
  announced: boolean;
  pieces: number;
  type: string;
  /** The application breaks off instead of ending. */
  broken: boolean;
  method: string;
  coding: string;
  /** The client gives up after so many bytes of the coded content. */
  enough: number;
  slow: boolean;
  seed: number;
}

function plan(random: Random): Plan {
  const size = random.chance(0.7) ? random.pick(SIZES) : random.between(0, 400_000);
  return {
    size,
    announced: random.chance(0.5),
    pieces: random.pick([1, 2, 30, 300]),
    type: random.pick(['text/html', 'text/html', 'text/event-stream']),
    broken: size > 0 && random.chance(0.15),
    method: random.chance(0.05) ? 'HEAD' : 'GET',
    coding: random.pick(CODINGS),
    enough: random.chance(0.2) ? random.between(1, 60_000) : Infinity,
    slow: random.chance(0.3),
    seed: random.between(0, 2 ** 30),
  };
}

/** Does what the plan in the address says. */
async function application(asked: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
  const { size, announced, pieces, type, broken, seed } = JSON.parse(
    decodeURIComponent((asked.url ?? '').slice(1)),
  ) as Plan;
  const random = new Random(seed);
  const headers: http.OutgoingHttpHeaders = { 'content-type': type };
  if (announced) headers['content-length'] = size;
  response.writeHead(200, headers);
  const end = broken ? random.between(0, size - 1) : size;
  for (const piece of random.split(source.subarray(0, end), pieces)) {
    if (response.destroyed) return;
    if (!response.write(piece)) await Promise.race([once(response, 'drain'), once(response, 'close')]);
    if (random.chance(0.3)) await new Promise((resolve) => setImmediate(resolve));
  }
  if (broken) response.destroy();
  else response.end();
}

/** One request; returns how it ended. */
async function oneCase(port: number, given: Plan): Promise<string> {
  const { size, method, coding, broken, enough, slow, seed } = given;
  const random = new Random(seed + 1);
  const path = `/${encodeURIComponent(JSON.stringify(given))}`;
  const headers = { 'accept-encoding': coding };
  const asked = http.request({ host: '127.0.0.1', port, path, method, headers, agent: false });
  const failed = new Promise<null>((resolve) => asked.on('error', () => resolve(null)));
  asked.end();
  const response = await Promise.race([once(asked, 'response') as Promise<[http.IncomingMessage]>, failed]);
  if (response === null) {
    assert.ok(broken, 'the connection broke without cause');
    return 'broken early';
  }
  const [answer] = response;
  const chunks: Buffer[] = [];
  let received = 0;
  answer.on('error', () => {});
  answer.on('data', (chunk: Buffer) => {
    chunks.push(chunk);
    received += chunk.length;
    if (received >= enough) asked.destroy();
    else if (slow && random.chance(0.3)) pauseFor(answer, random.between(1, 10));
  });
  await new Promise<void>((resolve) => answer.on('close', resolve));
  if (received >= enough) return 'left';
  if (answer.statusCode === 502) {
    assert.ok(broken);
    return 'refused';
  }
  assert.equal(answer.complete, !broken || method === 'HEAD', JSON.stringify(given));
  if (broken) return 'broken';
  if (method === 'GET') {
    const content = decode(answer.headers['content-encoding'], Buffer.concat(chunks));
    assert.ok(content.equals(source.subarray(0, size)), `${content.length} of ${size} bytes`);
  }
  return answer.headers['content-encoding'] ?? 'plain';
}

function pauseFor(answer: http.IncomingMessage, ms: number): void {
  answer.pause();
  setTimeout(() => answer.resume(), ms);
}

test('bodies of every size, in any pieces, given up by either side anywhere, arrive exactly or not at all', async (t) => {
  const upstream = await Upstream.start(t, (request, response) => void application(request, response));
  const flags = ['--buffer-memory=70000', '--buffer-memory-total=8MiB', '--spool-max=1MiB'];
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, flags });
  const counts = await runCases(LIMITS, async (random) => oneCase(worker.port, plan(random)));
  t.diagnostic(JSON.stringify(counts));
  // One case alone can't have them all.
  if (onlyCase() === null)
    for (const coding of CODINGS) assert.ok((counts[coding] ?? 0) > 0, `nothing was compressed by ${coding}`);
  await worker.quiet();
  assert.doesNotMatch(worker.output, /"level":"(?:error|fatal)"/);
});
