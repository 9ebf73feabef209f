import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test, type TestContext } from 'node:test';
import { codeOf, deploy, statusOf, until, versionServed } from '../support/deployments.ts';
import { dockerDeployment, type HistoryEntry, sharedImages } from '../support/docker-deployment.ts';
import type { TestDocker } from '../support/docker.ts';
import type { TestProgram } from '../support/program.ts';
import type { Tap, TappedRequest } from '../support/tap.ts';

const LIMIT = { timeout: 120_000 };

let images: TestDocker;
const cleanups: (() => Promise<void> | void)[] = [];
before(async () => {
  images = await sharedImages({ after: (end) => void cleanups.push(end) }, ['v1', 'v2']);
});
after(async () => {
  for (const end of cleanups) await end();
});

/** v1 in service, v2 launched. */
async function setUp(t: TestContext) {
  const deployment = await dockerDeployment(t, mkdtempSync(join(tmpdir(), 'state-')));
  const taps = await deployment.tapped();
  const program = await deployment.start(taps.start);
  const store = async (revision: string) => deployment.store(revision, { image: images.reference(revision) });
  const hashes = { v1: await store('v1'), v2: await store('v2') };
  await deploy(program, hashes.v1);
  assert.equal((await program.call('POST', '/launch', hashes.v2)).status, 200);
  return { deployment, taps, program, hashes };
}

/** A store that can't be had, as a tap shows it. */
const OUTAGES: Record<string, (tap: Tap) => void> = {
  'refuses connections': (tap) => tap.cut(),
  hangs: (tap) => tap.hang(),
  'answers 503': (tap) => tap.answer(503),
};

function writes(key: string): (request: TappedRequest) => boolean {
  return ({ method, path }) => method === 'PUT' && path.includes(`/${key}`);
}

describe('a store that goes away', { concurrency: 2 }, () => {
  for (const [how, begin] of Object.entries(OUTAGES)) {
    for (const key of ['history.json', 'current.json']) {
      test(`a switch moves nothing when the store ${how} as ${key} is written`, LIMIT, async (t) => {
        const { deployment, taps, program, hashes } = await setUp(t);
        taps.s3.before = (request) => {
          if (writes(key)(request)) begin(taps.s3);
        };
        assert.deepEqual(await codeOf(program, 'POST', '/switch', hashes.v2), [503, 'store_unavailable']);
        assert.equal(await versionServed(program), 'v1');
        assert.deepEqual(await deployment.containers(), ['v1-ID running', 'v2-ID running']);
        assert.equal(await deployment.current(), 'v1');
        assert.notEqual((await statusOf(program)).StoreState, 'Ok');
        // While it lasts.
        assert.deepEqual(await codeOf(program, 'POST', '/switch', hashes.v2), [503, 'store_unavailable']);
        assert.deepEqual(await codeOf(program, 'POST', '/launch', hashes.v2), [503, 'store_unavailable']);
        assert.deepEqual(await codeOf(program, 'POST', '/rollback'), [503, 'store_unavailable']);
        assert.equal(await versionServed(program), 'v1');

        taps.s3.before = () => {};
        await taps.s3.restore();
        assert.equal((await program.call('POST', '/switch', hashes.v2)).status, 200);
        assert.equal(await versionServed(program), 'v2');
        await deployment.settledAt('v2-ID running');
        assert.deepEqual(await deployment.history(), ['v1', 'v2']);
        assert.equal((await statusOf(program)).StoreState, 'Ok');
      });
    }
  }

  test('the history is put back when only current.json can not be written', LIMIT, async (t) => {
    const { deployment, taps, program, hashes } = await setUp(t);
    const before = await deployment.read<HistoryEntry[]>('history.json');
    let refused = 0;
    taps.s3.before = async (request) => {
      if (!writes('current.json')(request)) return taps.s3.restore();
      refused += 1;
      taps.s3.answer(503);
    };
    assert.deepEqual(await codeOf(program, 'POST', '/switch', hashes.v2), [503, 'store_unavailable']);
    assert.ok(refused > 0);
    assert.deepEqual(await deployment.read('history.json'), before);
    assert.equal(await deployment.current(), 'v1');
    assert.equal(await versionServed(program), 'v1');
    assert.deepEqual(await deployment.containers(), ['v1-ID running', 'v2-ID running']);
  });

  test('a write whose answer is lost counts', LIMIT, async (t) => {
    const { deployment, taps, program, hashes } = await setUp(t);
    const lost: string[] = [];
    taps.s3.after = async (request) => {
      const key = ['history.json', 'current.json'].find((each) => writes(each)(request) && !lost.includes(each));
      if (key === undefined) return;
      lost.push(key);
      taps.s3.cut();
      await taps.s3.restore();
    };
    const switched = await program.call('POST', '/switch', hashes.v2);
    assert.equal(switched.status, 200, switched.text);
    assert.deepEqual(lost, ['history.json', 'current.json']);
    assert.equal(await versionServed(program), 'v2');
    await deployment.settledAt('v2-ID running');
    assert.equal(await deployment.current(), 'v2');
    assert.deepEqual(await deployment.history(), ['v1', 'v2']);
  });

  test('a write that was carried out counts, although every answer to it said otherwise', LIMIT, async (t) => {
    const { deployment, taps, program, hashes } = await setUp(t);
    let written = 0;
    taps.s3.after = async (request) => {
      if (!writes('current.json')(request)) return;
      written += 1;
      // This answer is lost, the next try is refused; who then looks is answered.
      taps.s3.cut();
      await taps.s3.restore();
      taps.s3.answer(503);
    };
    // Heartbeats read too, at any time.
    taps.s3.before = async ({ method, path }) => {
      if (method === 'GET' && path.includes('/current.json')) await taps.s3.restore();
    };
    const switched = await program.call('POST', '/switch', hashes.v2);
    assert.equal(switched.status, 200, switched.text);
    assert.equal(written, 1);
    assert.equal(await versionServed(program), 'v2');
    assert.equal(await deployment.current(), 'v2');
    assert.deepEqual(await deployment.history(), ['v1', 'v2']);
    await deployment.settledAt('v2-ID running');
  });

  test('a container that dies while the store is written is not switched to', LIMIT, async (t) => {
    const { deployment, taps, program, hashes } = await setUp(t);
    const before = await deployment.read<HistoryEntry[]>('history.json');
    const { Containers } = await statusOf(program);
    const id = Containers.find(({ Revision }) => Revision === 'v2')?.Id ?? '';
    taps.s3.before = async (request) => {
      if (!writes('current.json')(request)) return;
      taps.s3.before = () => {};
      await deployment.docker.docker.getContainer(id).kill();
      await until(
        async () => statusOf(program),
        (status) => status.Containers.some(({ Id, State }) => Id === id && State === 'failed'),
      );
    };
    assert.deepEqual(await codeOf(program, 'POST', '/switch', hashes.v2), [409, 'not_launched']);
    assert.equal(await versionServed(program), 'v1');
    assert.equal(await deployment.current(), 'v1');
    assert.deepEqual(await deployment.read('history.json'), before);
    assert.deepEqual(await deployment.containers(), ['v1-ID running', 'v2-ID exited']);
    await deploy(program, hashes.v2);
    await deployment.settledAt('v2-ID running');
  });

  test('a start without the store goes by its last known good copy, and says so', LIMIT, async (t) => {
    const { deployment, taps, program } = await setUp(t);
    assert.equal((await program.stop()).code, 0);
    taps.s3.cut();
    const next = await deployment.start(taps.start);
    assert.equal(await versionServed(next), 'v1');
    await next.waitForLog(({ msg }) => String(msg).includes('last known good copy'));
    assert.match((await statusOf(next)).StoreState, /connection was refused/);
    await taps.s3.restore();
    assert.equal((await next.call('GET', '/history')).status, 200);
    assert.equal((await statusOf(next)).StoreState, 'Ok');
    assert.deepEqual(await deployment.containers(), ['v1-ID running', 'v2-ID running']);
  });

  test('a start with neither store nor copy answers 503, and serves when the store is back', LIMIT, async (t) => {
    const { deployment, taps, program } = await setUp(t);
    assert.equal((await program.stop()).code, 0);
    taps.s3.cut();
    const next = await deployment.start({ ...taps.start, stateDir: mkdtempSync(join(tmpdir(), 'state-')) });
    const refused = await next.get('/');
    assert.deepEqual([refused.status, refused.headers['wunderproxy-error']], [503, 'no_active_container']);
    assert.ok(refused.headers['retry-after']);
    await next.waitForLog(({ msg }) => msg === 'the config in service could not be taken up');
    assert.notEqual((await statusOf(next)).StoreState, 'Ok');
    await taps.s3.restore();
    await until(
      async () => next.get('/'),
      ({ status }) => status === 200,
    );
    assert.equal(await versionServed(next), 'v1');
    assert.deepEqual(await deployment.containers(), ['v1-ID running', 'v2-ID running']);
  });
});

describe('a store that others write to', { concurrency: 2 }, () => {
  test('an entry that comes between reading and writing the history is kept', LIMIT, async (t) => {
    const { deployment, taps, program, hashes } = await setUp(t);
    const entries = await deployment.read<HistoryEntry[]>('history.json');
    const other = { Revision: 'v7', DeployedAt: new Date().toISOString(), DeployedBy: 'other', Hash: 'f'.repeat(32) };
    let tries = 0;
    taps.s3.before = async (request) => {
      if (!writes('history.json')(request) || tries++ > 0) return;
      await deployment.put('history.json', Buffer.from(JSON.stringify([...entries, other])));
    };
    assert.equal((await program.call('POST', '/switch', hashes.v2)).status, 200);
    assert.equal(tries, 2);
    assert.deepEqual(await deployment.history(), ['v1', 'v7', 'v2']);
    assert.equal(await deployment.current(), 'v2');
  });

  test('two machines that switch at the same time lose no entry of one another', LIMIT, async (t) => {
    const first = await dockerDeployment(t, mkdtempSync(join(tmpdir(), 'state-')));
    const second = await dockerDeployment(t, mkdtempSync(join(tmpdir(), 'state-')), first.s3);
    const machines = await Promise.all(
      [first, second].map(async (deployment, index) => {
        const taps = await deployment.tapped();
        const program = await deployment.start(taps.start);
        const hashes = [];
        for (const version of ['v1', 'v2']) {
          hashes.push(await deployment.store(`m${index}${version}`, { image: images.reference(version) }));
        }
        return { taps, program, hashes };
      }),
    );
    const [one, two] = machines;
    assert.ok(one && two);
    // The first round is sure to collide: one has read the history, then the other switches.
    for (const { program, hashes } of machines) await program.call('POST', '/launch', hashes[0]);
    let held = 0;
    one.taps.s3.before = async (request) => {
      if (writes('history.json')(request) && held++ === 0) await switchTo(two.program, two.hashes[0]);
    };
    await switchTo(one.program, one.hashes[0]);
    assert.equal(held, 2);
    for (let round = 1; round < 5; round++) {
      const hash = round % 2;
      await Promise.all(machines.map(async ({ program, hashes }) => program.call('POST', '/launch', hashes[hash])));
      await Promise.all(machines.map(async ({ program, hashes }) => switchTo(program, hashes[hash])));
    }
    const history = await first.history();
    assert.equal(history.length, 10);
    for (const machine of ['m0', 'm1']) {
      const own = history.filter((revision) => revision.startsWith(machine));
      assert.deepEqual(
        own,
        [0, 1, 2, 3, 4].map((round) => `${machine}v${1 + (round % 2)}`),
      );
    }
    // They are two objects: of two switches at the same moment the history may have one last, current.json the other.
    assert.ok(history.slice(-2).includes(await first.current()));
  });
});

async function switchTo(program: TestProgram, hash: string | undefined): Promise<void> {
  const answer = await program.call('POST', '/switch', hash);
  assert.equal(answer.status, 200, answer.text);
}
