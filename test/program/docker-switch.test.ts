import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import type Docker from 'dockerode';
import { until, statusOf } from '../support/deployments.ts';
import { dockerDeployment } from '../support/docker-deployment.ts';
import { Load } from '../support/load.ts';

/** As there are in the promise that this test holds the program to. */
const SWITCHES = 100;

/** One request as the application's own log has it. */
interface Begun {
  container: string;
  load: string;
  /** Ms since the epoch. */
  at: number;
}

/** Reads a container's log as it is written, to its end. */
async function follow(docker: Docker, container: string, begun: Begun[]): Promise<{ ended: Promise<void> }> {
  const raw = await docker.getContainer(container).logs({ follow: true, stdout: true, stderr: false });
  const lines = new PassThrough();
  docker.modem.demuxStream(raw, lines, new PassThrough());
  raw.on('end', () => lines.end());
  const reader = createInterface({ input: lines });
  reader.on('line', (line) => {
    const entry = JSON.parse(line) as { begin?: number; url?: string };
    const load = entry.url === undefined ? null : new URL(entry.url, 'http://app').searchParams.get('load');
    if (entry.begin !== undefined && load !== null) begun.push({ container, load, at: entry.begin });
  });
  return { ended: new Promise((resolve) => reader.once('close', () => resolve())) };
}

function now(): number {
  return performance.timeOrigin + performance.now();
}

test('a hundred switches under load lose nothing, and none begins on the old container after its switch', async (t) => {
  const deployment = await dockerDeployment(t, mkdtempSync(join(tmpdir(), 'state-')));
  const hashes = [await deployment.release('v1'), await deployment.release('v2')];
  const program = await deployment.start();
  const begun: Begun[] = [];
  /** Each container's log, to its end. */
  const logs = new Map<string, Promise<void>>();
  /** From the call that switched to a container to the answer of the one that switched away; it may come back. */
  const inService: { container: string; from: number; to: number }[] = [];
  let load: Load | null = null;

  for (let i = 0; i <= SWITCHES; i++) {
    const hash = hashes[i % 2] ?? '';
    const launched = await program.call('POST', '/launch', hash, { accept: 'application/json' });
    assert.equal(launched.status, 200, launched.text);
    const { Id } = launched.json<{ Id: string }>();
    if (!logs.has(Id)) logs.set(Id, (await follow(deployment.docker.docker, Id, begun)).ended);
    const from = now();
    const switched = await program.call('POST', '/switch', hash);
    assert.equal(switched.status, 200, switched.text);
    const last = inService.at(-1);
    if (last) last.to = now();
    inService.push({ container: Id, from, to: Number.POSITIVE_INFINITY });
    load ??= new Load(t, program.proxy, { connections: 64, pause: 250, limit: 400_000 });
    await load.answered(20);
  }

  assert.ok(load);
  const { records, outcomes, versions } = await load.stop();
  await until(
    async () => statusOf(program),
    ({ Containers }) => Containers.length === 1,
  );
  await program.stop();
  await deployment.docker.docker.getContainer(inService.at(-1)?.container ?? '').remove({ force: true });
  await Promise.all(logs.values());

  t.diagnostic(
    `${records.length} requests over ${SWITCHES} switches and ${logs.size} containers: ${JSON.stringify({ outcomes, versions })}`,
  );
  assert.deepEqual(Object.keys(outcomes), ['ok']);
  assert.deepEqual(Object.keys(versions).toSorted(), ['v1', 'v2']);
  const times = new Map<string, number>();
  for (const { load: id } of begun) times.set(id, (times.get(id) ?? 0) + 1);
  assert.equal(begun.length, records.length, 'each request begins once, on one container');
  for (const { id } of records) assert.equal(times.get(id), 1, id);
  const outside = begun.filter(({ container, at }) => {
    return !inService.some((each) => each.container === container && at >= each.from && at <= each.to);
  });
  assert.deepEqual(outside, [], 'none begins on a container that is not in service');
});
