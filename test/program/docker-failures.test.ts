import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test, type TestContext } from 'node:test';
import { codeOf, deploy, statusOf, until, untilInFlight, versionServed } from '../support/deployments.ts';
import { dockerDeployment, sharedImages } from '../support/docker-deployment.ts';
import type { TestDocker } from '../support/docker.ts';
import { Load } from '../support/load.ts';
import type { TappedRequest } from '../support/tap.ts';

const LIMIT = { timeout: 120_000 };
const SECRET = 'hunter2-hunter2';

let images: TestDocker;
const cleanups: (() => Promise<void> | void)[] = [];
before(async () => {
  images = await sharedImages({ after: (end) => void cleanups.push(end) }, ['v1', 'v2']);
});
after(async () => {
  for (const end of cleanups) await end();
});

async function setUp(t: TestContext, args: string[] = []) {
  const deployment = await dockerDeployment(t, mkdtempSync(join(tmpdir(), 'state-')));
  const taps = await deployment.tapped();
  const program = await deployment.start({ ...taps.start, args });
  const store = async (revision: string, env: Record<string, string> = {}) =>
    deployment.store(revision, { image: images.reference(revision), env: { ...env, PASSWORD: SECRET } });
  return { deployment, taps, program, store };
}

describe('errors of the API', { concurrency: 4 }, () => {
  test('what is wrong with a config or its image is said by code, and nothing is left behind', LIMIT, async (t) => {
    const { deployment, program } = await setUp(t);
    const missing = 'd41d8cd98f00b204e9800998ecf8427e';
    const changed = await deployment.store('v1');
    await deployment.put(`container.${changed}.json`, Buffer.from('{}'));
    const image = images.reference('v1');
    const Env = [`PASSWORD=${SECRET}`];
    const withContainer = (ContainerConfig: object, HostConfig = {}) =>
      deployment.store('v1', { more: { ContainerConfig: { Image: image, Env, ...ContainerConfig }, HostConfig } });
    const cases: [string, number, string][] = [
      ['', 400, 'bad_identifier'],
      ['v1', 400, 'bad_identifier'],
      [missing, 404, 'launch_config_not_found'],
      [changed, 422, 'hash_mismatch'],
      [await deployment.store('v1', { image, more: { Colour: 'blue' } }), 422, 'invalid_launch_config'],
      [await deployment.store('no tag'), 422, 'invalid_launch_config'],
      [await deployment.store('v9'), 502, 'image_unavailable'],
      [await deployment.store('v9', { image: 'Not/A//Name' }), 502, 'image_unavailable'],
      [await withContainer({}, { Memory: 1 }), 502, 'launch_failed'],
      [await withContainer({}, { NetworkMode: 'no-such-network' }), 502, 'launch_failed'],
      [await withContainer({ Cmd: ['no-such-command'] }), 502, 'launch_failed'],
      [await withContainer({ Env: [...Env, `=${SECRET}`] }), 502, 'launch_failed'],
    ];
    for (const [hash, status, code] of cases) {
      assert.deepEqual(await codeOf(program, 'POST', '/launch', hash), [status, code], hash);
      assert.deepEqual(await deployment.containers(), [], code);
    }
    assert.deepEqual(await codeOf(program, 'POST', '/switch', missing), [409, 'not_launched']);
    assert.deepEqual(await codeOf(program, 'POST', '/rollback'), [409, 'empty_history']);
    assert.deepEqual(await codeOf(program, 'POST', '/rollback', missing), [409, 'not_in_history']);
    assert.deepEqual((await statusOf(program)).Containers, []);
    assert.equal(JSON.stringify(program.log).includes(SECRET), false);
    const journal = await program.call('GET', '/journal');
    assert.match(journal.text, /launch_failed|can not be created/);
    assert.equal(journal.text.includes(SECRET), false);
  });

  const unhealthy: [string, Record<string, string>, RegExp][] = [
    ['exits', { EXIT_CODE: '3' }, /exited with status 3/],
    ['answers 500', { HEALTH_STATUS: '500' }, /not healthy within 20s.*500 Internal Server Error/],
    [
      'redirects',
      { HEALTH_STATUS: '301', HEALTH_LOCATION: 'https://shop.example/up' },
      /301 Moved Permanently to https:\/\/shop\.example\/up/,
    ],
    ['never listens', { NEVER_LISTENS: '1' }, /connection refused/],
    ['never answers', { HEALTH_DELAY: '60000' }, /not healthy within 20s/],
  ];
  test('an application that exits again and again fails its launch at once, whatever restarts it', LIMIT, async (t) => {
    const { deployment, program } = await setUp(t, ['--launch-timeout', '60s']);
    const hash = await deployment.store('v1', {
      image: images.reference('v1'),
      env: { EXIT_CODE: '3' },
      more: { HostConfig: { RestartPolicy: { Name: 'on-failure' } } },
    });
    const answer = await program.call('POST', '/launch', hash);
    assert.equal(answer.status, 504);
    assert.match(answer.text, /^The container exited(?: with status 3|, and its restart policy started it again);/);
    assert.match(answer.text, /exiting with status 3/);
    assert.deepEqual(await deployment.containers(), []);
  });

  test('an application that runs out of memory is said to', LIMIT, async (t) => {
    const { deployment, program } = await setUp(t);
    const greedy = 'const all = []; setInterval(() => all.push(Buffer.alloc(2e7, 1)), 5)';
    const hash = await deployment.store('v1', {
      more: {
        ContainerConfig: { Image: images.reference('v1'), Cmd: ['/bin/node', '-e', greedy] },
        HostConfig: { Memory: 80 * 2 ** 20, MemorySwap: 80 * 2 ** 20 },
      },
    });
    const answer = await program.call('POST', '/launch', hash);
    assert.equal(answer.status, 504);
    assert.match(answer.text, /^The container ran out of memory and was killed;/);
  });

  for (const [what, env, expected] of unhealthy) {
    test(`an application that ${what} fails its launch with the reasons, and is gone`, LIMIT, async (t) => {
      // Long enough for a busy machine's engine to start a container that answers.
      const { deployment, program, store } = await setUp(t, ['--launch-timeout', '20s']);
      await deploy(program, await store('v1'));
      const answer = await program.call('POST', '/launch', await store('v2', env), { accept: 'application/json' });
      assert.equal(answer.status, 504);
      const { Error: error } = answer.json<{
        Error: { Code: string; Message: string; Detail: { Probes: { FirstAt: string }[]; Logs: string[] } };
      }>();
      assert.equal(error.Code, 'not_healthy');
      assert.match(error.Message, expected);
      for (const probe of error.Detail.Probes) assert.ok(Date.parse(probe.FirstAt) > 0);
      if (env['EXIT_CODE']) assert.match(error.Detail.Logs.join('\n'), /exiting with status 3/);
      assert.deepEqual(await deployment.containers(), ['v1-ID running']);
      assert.equal(await versionServed(program), 'v1');
      assert.equal(answer.text.includes(SECRET) || JSON.stringify(program.log).includes(SECRET), false);
    });
  }
});

/** The engine goes away at a step of a launch. */
const OUTAGES: [how: 'cut' | 'hang', at: 'before' | 'after', step: string, matches: RegExp][] = [
  ['cut', 'before', 'its create', /^POST \S*\/containers\/create/],
  ['cut', 'after', 'its create', /^POST \S*\/containers\/create/],
  ['hang', 'before', 'its create', /^POST \S*\/containers\/create/],
  ['hang', 'after', 'its create', /^POST \S*\/containers\/create/],
  ['cut', 'after', 'its start', /^POST \S*\/start/],
  ['hang', 'after', 'its start', /^POST \S*\/start/],
  ['cut', 'before', 'its mark', /^POST \S*\/rename/],
];

const NAMED = { cut: 'goes away', hang: 'falls silent' };

describe('an engine that goes away', { concurrency: 2 }, () => {
  for (const [how, at, step, matches] of OUTAGES) {
    test(`a launch whose engine ${NAMED[how]} ${at} ${step} is answered and leaves nothing`, LIMIT, async (t) => {
      const { deployment, taps, program, store } = await setUp(t);
      await deploy(program, await store('v1'));
      const hash = await store('v2');
      taps.docker[at] = ({ method, path }: TappedRequest) => {
        if (matches.test(`${method} ${path}`)) taps.docker[how]();
      };
      assert.deepEqual(await codeOf(program, 'POST', '/launch', hash), [503, 'runtime_unavailable']);
      assert.equal(await versionServed(program), 'v1');
      taps.docker[at] = () => {};
      await taps.docker.restore();
      await until(
        async () => statusOf(program),
        ({ DockerState }) => DockerState === 'Ok',
      );
      await deployment.settledAt('v1-ID running');
      await deploy(program, hash);
      await deployment.settledAt('v2-ID running');
      // The engine knows first that the old one is gone.
      const { Containers } = await until(
        async () => statusOf(program),
        ({ Containers: all }) => all.every(({ State }) => State !== 'stopping'),
      );
      assert.deepEqual(
        Containers.map((each) => `${each.Revision} ${each.State}`),
        ['v2 active'],
      );
    });
  }

  test('a container that the engine creates when nobody waits for it any more is removed', LIMIT, async (t) => {
    const { deployment, taps, program, store } = await setUp(t);
    await deploy(program, await store('v1'));
    const { promise: late, resolve: release } = Promise.withResolvers<void>();
    const looked = Promise.withResolvers<void>();
    const created = Promise.withResolvers<void>();
    taps.docker.before = async ({ method, path }) => {
      const line = `${method} ${path}`;
      if (line.startsWith('DELETE') && line.includes('-launching')) looked.resolve();
      if (!line.startsWith('POST /containers/create')) return;
      taps.docker.hang();
      await late;
    };
    taps.docker.after = ({ path }) => {
      if (path.startsWith('/containers/create')) created.resolve();
    };
    assert.deepEqual(await codeOf(program, 'POST', '/launch', await store('v2')), [503, 'runtime_unavailable']);
    await taps.docker.restore();
    await looked.promise;
    release();
    await created.promise;
    await deployment.settledAt('v1-ID running');
  });

  for (const how of ['cut', 'hang'] as const) {
    test(`traffic goes on when the engine ${NAMED[how]}, and what needs it is refused at once`, LIMIT, async (t) => {
      const { deployment, taps, program, store } = await setUp(t);
      const [one, two, three] = [await store('v1'), await store('v2'), await store('v2', { OTHER: '1' })];
      await deploy(program, one);
      assert.equal((await program.call('POST', '/launch', two)).status, 200);
      const load = new Load(t, program.proxy, { connections: 8 });
      await load.answered(50);
      taps.docker[how]();
      const { DockerState } = await until(
        async () => statusOf(program),
        (status) => status.DockerState !== 'Ok',
      );
      assert.match(DockerState, how === 'cut' ? /is not there|refuses|closed/ : /does not answer/);
      const calls: [string, string][] = [
        ['/launch', three],
        ['/switch', two],
        ['/stop-old', ''],
      ];
      for (const [path, body] of calls) {
        assert.deepEqual(await codeOf(program, 'POST', path, body), [503, 'runtime_unavailable'], path);
      }
      assert.equal(await versionServed(program), 'v1');
      assert.equal(await deployment.current(), 'v1');
      assert.deepEqual(await deployment.history(), ['v1']);
      await load.answered(50);

      await taps.docker.restore();
      await until(
        async () => statusOf(program),
        (status) => status.DockerState === 'Ok' && status.Containers.every(({ State }) => /active|ready/.test(State)),
      );
      await deployment.settledAt('v1-ID running', 'v2-ID running');
      assert.equal((await program.call('POST', '/switch', two)).status, 200);
      await deployment.settledAt('v2-ID running');
      assert.deepEqual(Object.keys((await load.stop()).outcomes), ['ok']);
    });
  }

  test('a drain that the engine could not end is ended when the engine is back', LIMIT, async (t) => {
    const { deployment, taps, program, store } = await setUp(t);
    await deploy(program, await store('v1'));
    const slow = program.get('/slow?ms=2000');
    await untilInFlight(program, 1);
    await deploy(program, await store('v2'));
    taps.docker.cut();
    assert.equal((await slow).status, 200);
    await until(
      async () => statusOf(program),
      ({ Containers }) => Containers.some(({ State }) => State === 'failed'),
    );
    assert.deepEqual(await deployment.containers(), ['v1-ID-superseded running', 'v2-ID running']);
    await taps.docker.restore();
    await deployment.settledAt('v2-ID running');
    await until(
      async () => statusOf(program),
      ({ Containers }) => Containers.length === 1 && Containers[0]?.State === 'active',
    );
  });

  test('a log that can not be had is no empty log', LIMIT, async (t) => {
    const { taps, program, store } = await setUp(t);
    await deploy(program, await store('v1'));
    taps.docker.cut();
    await until(
      async () => statusOf(program),
      ({ DockerState }) => DockerState !== 'Ok',
    );
    for (const path of ['/logs', '/logs?follow=true']) {
      assert.deepEqual(await codeOf(program, 'GET', path), [503, 'runtime_unavailable']);
    }
  });

  test('a start without the engine answers 503, and serves as soon as the engine is there', LIMIT, async (t) => {
    const { deployment, taps, program, store } = await setUp(t);
    await deploy(program, await store('v1'));
    assert.equal((await program.stop()).code, 0);
    taps.docker.cut();
    const next = await deployment.start(taps.start);
    assert.equal((await next.get('/')).status, 503);
    assert.notEqual((await statusOf(next)).DockerState, 'Ok');
    // Several attempts fail before.
    for (let from = 0, count = 0; count < 3; count++) {
      await next.waitForLog(({ msg }) => msg === 'the config in service could not be taken up', { from });
      from = next.log.length;
    }
    await taps.docker.restore();
    await until(
      async () => next.get('/'),
      ({ status }) => status === 200,
    );
    assert.equal(await versionServed(next), 'v1');
    assert.deepEqual(await deployment.containers(), ['v1-ID running']);
  });
});
