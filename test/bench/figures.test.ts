import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { ratioChart } from '../../bench/chart.ts';
import { h2loadResult, wrkResult } from '../../bench/load.ts';
import { cpuSeconds, memoryBytes, ticksIn } from '../../bench/process-tree.ts';
import { median, pairedRatio, quantile, rotated } from '../../bench/statistics.ts';

test('a median leaves out what was not measured', () => {
  assert.equal(median([3, null, 1, 2]), 2);
  assert.equal(median([4, 1, 2, 3]), 2.5);
  assert.equal(median([null]), null);
  assert.equal(quantile([0, 10], 0.25), 2.5);
});

test('a ratio is the median of those of the same rounds, so drift cancels out', () => {
  const drifting = [10, 20, 40].map((rate) => ({ rate }));
  const twice = [20, 40, 80].map((rate) => ({ rate }));
  assert.deepEqual(pairedRatio(twice, drifting, 'rate'), { median: 2, low: 2, high: 2 });
  assert.equal(pairedRatio([{ rate: 1 }], [{ rate: 0 }], 'rate'), null);
  assert.equal(pairedRatio([{ rate: 1 }], [], 'rate'), null);
});

test('every round begins with another one, and all have their turn', () => {
  const orders = [0, 1, 2, 3].map((round) => rotated(['a', 'b', 'c'], round).join(''));
  assert.deepEqual(orders, ['abc', 'bca', 'cab', 'abc']);
});

test('processor time is read past a process name that looks like fields', () => {
  const stat = '42 (a) S 9 (b) R 1 42 42 0 -1 4194304 100 200 3 4 50 60 7 8 20 0 1 0 100 1000 10';
  assert.equal(ticksIn(stat), 50 + 60 + 7 + 8);
});

test('a process that computes has used processor time and memory of its own', async (t) => {
  const code =
    'const end = process.cpuUsage().user + 3e5; while (process.cpuUsage().user < end); console.log(); setInterval(() => {}, 1e6)';
  const child = spawn(process.execPath, ['-e', code], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => void child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  const pid = child.pid ?? 0;
  assert.ok(cpuSeconds([pid]) >= 0.25, `${cpuSeconds([pid])} s`);
  const bytes = memoryBytes([pid]) ?? 0;
  assert.ok(bytes > 10 * 2 ** 20 && bytes < 2 ** 30, `${bytes} bytes`);
});

test('a process that is gone used nothing, and has no memory', () => {
  assert.equal(cpuSeconds([2 ** 30]), 0);
  assert.equal(memoryBytes([2 ** 30]), null);
});

test("wrk's output is read, with its units and failures", () => {
  const text = `Running 1s test @ http://127.0.0.1:1/small
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.05ms    3.52ms  40.11ms   89.52%
    Req/Sec    54.76k    10.18k   70.59k    70.00%
  Latency Distribution
     50%  812.00us
     75%    2.06ms
     90%    6.00ms
     99%    1.20s
  54482 requests in 1.00s, 12.00MB read
  Socket errors: connect 1, read 2, write 0, timeout 3
  Non-2xx or 3xx responses: 4
Requests/sec:  54400.50
`;
  assert.deepEqual(wrkResult(text), { requests: 54_482, rate: 54_400.5, p50: 0.812, p99: 1_200, failed: 10 });
  assert.throws(() => wrkResult('unable to connect'), /unable to connect/);
});

test("h2load's output and log are read", () => {
  const text = `starting benchmark...
finished in 1.00s, 2538.00 req/s, 300.00KB/s
requests: 2541 total, 2700 started, 2541 done, 2538 succeeded, 3 failed, 2 errored, 0 timeout
status codes: 2538 2xx, 0 3xx, 1 4xx, 0 5xx
`;
  const log = '1700000000000000\t200\t1000\n1700000000000000\t200\t3000\n';
  const { requests, rate, p50, failed } = h2loadResult(text, log);
  assert.deepEqual({ requests, rate, p50, failed }, { requests: 2_541, rate: 2_538, p50: 2, failed: 3 });
});

test('a chart has a bar and a figure for each ratio, and no markup from names', () => {
  const bars = [
    { name: 'a<b', value: 4 },
    { name: 'half', value: 0.5 },
    { name: 'absent', value: null },
  ];
  const svg = ratioChart('CPU & time', 'x', [{ title: 'case', bars }]);
  const rects = Array.from(svg.matchAll(/<rect x="([\d.]+)" y="\d+" width="([\d.]+)"/g), ([, x, width]) => [
    Number(x),
    Number(width),
  ]);
  const [[fourFrom = 0, four = 0] = [], [halfFrom = 0, half = 0] = []] = rects;
  assert.equal(rects.length, 2);
  // On a logarithmic scale 4 is twice as far from 1 as 0.5, and on the other side.
  assert.ok(Math.abs(four - 2 * half) < 0.5, `${four} and ${half}`);
  assert.ok(Math.abs(halfFrom + half - fourFrom) < 0.2);
  assert.match(svg, />a&lt;b</);
  assert.match(svg, /aria-label="CPU &amp; time"/);
});
