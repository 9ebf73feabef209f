import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test, type TestContext } from 'node:test';
import { deploy, statusOf, until, versionServed } from '../support/deployments.ts';
import { dockerDeployment, sharedImages, type Taps } from '../support/docker-deployment.ts';
import type { TestDocker } from '../support/docker.ts';
import type { TestProgram } from '../support/program.ts';
import type { TappedRequest } from '../support/tap.ts';

/** A moment in a deployment of v2 over v1, and what the next start is to make of it. */
interface Moment {
  /** The call during which everything is killed. */
  call: 'launch' | 'switch';
  /** The request at which it is: `before` it reaches its service, or `after` it was carried out and not yet answered. */
  at: 'before' | 'after';
  request: string;
  matches: (line: string, earlier: string[]) => boolean;
  /** What is served afterwards. */
  served: 'v1' | 'v2';
  /** Whether v2 is there, waiting for its switch. */
  waiting: boolean;
}

function moments(
  call: Moment['call'],
  request: string,
  matches: RegExp | Moment['matches'],
  outcomes: { before: [Moment['served'], boolean]; after?: [Moment['served'], boolean] },
): Moment[] {
  const test = matches instanceof RegExp ? (line: string) => matches.test(line) : matches;
  return (['before', 'after'] as const).flatMap((at) => {
    const outcome = outcomes[at];
    return outcome ? [{ call, at, request, matches: test, served: outcome[0], waiting: outcome[1] }] : [];
  });
}

const ONLY_V1: [Moment['served'], boolean] = ['v1', false];
const BOTH: [Moment['served'], boolean] = ['v1', true];
const ONLY_V2: [Moment['served'], boolean] = ['v2', false];

const CURRENT = /^PUT \S*\/current\.json/;

const MOMENTS: Moment[] = [
  ...moments('launch', 'the create', /^POST \S*\/containers\/create/, { before: ONLY_V1, after: ONLY_V1 }),
  ...moments('launch', 'the start', /^POST \S*\/containers\/\w+\/start/, { before: ONLY_V1, after: ONLY_V1 }),
  ...moments(
    'launch',
    'the first look at what was started',
    (line, earlier) => /^GET \S*\/containers\/\w+\/json/.test(line) && earlier.some((each) => each.endsWith('/start')),
    { before: ONLY_V1 },
  ),
  ...moments('launch', 'the mark of a launch that succeeded', /^POST \S*\/rename/, { before: ONLY_V1, after: BOTH }),
  ...moments('switch', 'the mark on the old container', /^POST \S*\/rename/, { before: BOTH, after: BOTH }),
  ...moments('switch', 'the write of history.json', /^PUT \S*\/history\.json/, { before: BOTH, after: BOTH }),
  ...moments('switch', 'the write of current.json', CURRENT, { before: BOTH, after: ONLY_V2 }),
  ...moments(
    'switch',
    'the journal entry that follows the route',
    (line, earlier) => /^PUT \S*\/journal\//.test(line) && earlier.some((each) => CURRENT.test(each)),
    { before: ONLY_V2 },
  ),
  ...moments('switch', "the old container's stop", /^POST \S*\/stop/, { before: ONLY_V2, after: ONLY_V2 }),
  ...moments('switch', "the old container's removal", /^DELETE \S*\/containers\//, { before: ONLY_V2, after: ONLY_V2 }),
];

/** v1 in service, v2 in the store, and taps in front of Docker and S3. */
async function setUp(t: TestContext, images: TestDocker) {
  const deployment = await dockerDeployment(t, mkdtempSync(join(tmpdir(), 'state-')));
  const taps = await deployment.tapped();
  const hashOf = async (revision: string) => deployment.store(revision, { image: images.reference(revision) });
  const hashes = { v1: await hashOf('v1'), v2: await hashOf('v2') };
  const program = await deployment.start(taps.start);
  await deploy(program, hashes.v1);
  return { deployment, taps, hashes, program };
}

/** Kills everything when the moment comes; resolves when nothing of the program is left. */
function killAt(moment: Moment, program: TestProgram, taps: Taps): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const earlier: string[] = [];
  let over = false;
  const kill = async () => {
    over = true;
    await program.kill();
    // What it had asked for and is not carried out yet never will be.
    for (const tap of [taps.docker, taps.s3]) tap.cut();
  };
  const look = async ({ method, path }: TappedRequest) => {
    if (over) return;
    const line = `${method} ${path.replace(/\?.*/, '')}`;
    if (moment.matches(line, earlier)) await kill().then(resolve, reject);
    earlier.push(line);
  };
  for (const tap of [taps.docker, taps.s3]) tap[moment.at] = look;
  return promise;
}

describe('a kill -9 of everything leaves what the next start takes up', { concurrency: 2 }, () => {
  const cleanups: (() => Promise<void> | void)[] = [];
  let images: TestDocker;
  before(async () => {
    images = await sharedImages({ after: (end) => void cleanups.push(end) }, ['v1', 'v2']);
  });
  after(async () => {
    for (const end of cleanups) await end();
  });

  for (const moment of MOMENTS) {
    const { call, at, request, served, waiting } = moment;
    test(
      `${call}, ${at} ${request}: ${served} is served${waiting ? ', v2 waits' : ''}`,
      { timeout: 90_000 },
      async (t) => {
        const { deployment, taps, hashes, program } = await setUp(t, images);
        if (call === 'switch') assert.equal((await program.call('POST', '/launch', hashes.v2)).status, 200);
        const killed = killAt(moment, program, taps);
        const called = program.call('POST', `/${call}?wait=drained`, hashes.v2);
        await Promise.all([killed, assert.rejects(called)]);
        for (const tap of [taps.docker, taps.s3]) {
          tap.before = tap.after = () => {};
          await tap.restore();
        }

        const next = await deployment.start(taps.start);
        assert.equal(await versionServed(next), served, 'with its first answer');
        assert.equal(await deployment.current(), served);
        const expected = [`${served}-ID running`, ...(waiting ? ['v2-ID running'] : [])];
        await deployment.settledAt(...expected);
        const { Containers } = await until(
          async () => statusOf(next),
          (status) => status.Containers.length === expected.length,
        );
        assert.deepEqual(
          Containers.map((each) => `${each.Revision} ${each.State}`).toSorted(),
          [`${served} active`, ...(waiting ? ['v2 ready'] : [])].toSorted(),
        );

        await deploy(next, hashes.v2);
        assert.equal(await versionServed(next), 'v2');
        await deployment.settledAt('v2-ID running');
        assert.equal(await deployment.current(), 'v2');
        assert.deepEqual(await deployment.history(), ['v1', 'v2']);
        assert.equal((await next.stop()).code, 0);
      },
    );
  }
});
