import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { workshop } from '../support/deployable.ts';
import { deploy, reload, until, versionServed } from '../support/deployments.ts';
import { readExposition, sumOf } from '../support/exposition.ts';
import { freePort } from '../support/free-port.ts';
import { Load } from '../support/load.ts';
import { askingNameServer, startNameServer } from '../support/name-server.ts';
import { killIfThere } from '../support/processes.ts';
import { startProgram, type TestProgram } from '../support/program.ts';

/** What this test reads of `/status`. */
interface Answer {
  Peers: { Fallback: { Url: string; State: string } | null }[];
  PeersDnsState: string;
}

/** A name is looked up every ten seconds. */
const PATIENCE = 30_000;

test(
  'requests follow the addresses of a name; when it is gone, the last known ones stay in use, also with new workers',
  { timeout: 200_000 },
  async (t) => {
    const shop = workshop(t);
    const { zone, address } = await startNameServer(t);
    const secret = join(shop.environment, 'secret');
    writeFileSync(secret, randomBytes(32).toString('hex'));
    const port = await freePort();
    const start = async (last: number, more: string[] = []) => {
      const options = ['--runtime', 'process', '--proxy', `127.0.0.${last}:${port}`, '--peer-secret-file', secret];
      return startProgram(t, {
        args: [...options, ...more, shop.bucket, shop.prefix, 'shop'],
        env: askingNameServer(address),
        stateDir: `${shop.stateDir}-${last}`,
      });
    };
    zone.addresses = ['127.0.0.1', '127.0.0.2'];
    const machines = [
      start(1, ['--workers', '2', '--peers-dns', `peers.test:${port}`]),
      start(2, ['--workers', '1']),
      start(3, ['--workers', '1']),
    ];
    const [here, two, three] = await Promise.all(machines);
    assert.ok(here && two && three);
    await deploy(two, shop.config('on-two'));
    await deploy(three, shop.config('on-three'));
    const urlOf = (last: number) => `http://127.0.0.${last}:${port}`;
    const peersIn = ({ Peers }: Answer) =>
      Peers.flatMap(({ Fallback }) => (Fallback?.State === 'healthy' ? Fallback.Url : []));
    const statusWhen = async (holds: (answer: Answer) => boolean) =>
      until(async () => (await here.call('GET', '/status')).json<Answer>(), holds, PATIENCE);
    await statusWhen((answer) => peersIn(answer).join() === urlOf(2));
    assert.equal(await versionServed(here), 'on-two');

    // It changes, both ways round, and no request is lost.
    const load = new Load(t, here.proxy, { connections: 4, slowEvery: 0, pause: 10 });
    await load.answered(20);
    zone.addresses = ['127.0.0.3'];
    await statusWhen((answer) => peersIn(answer).join() === urlOf(3));
    await load.answered(50);
    assert.equal(await versionServed(here), 'on-three');

    // Nobody knows the name any more, or whether there is one.
    for (const code of [3, 2]) {
      zone.code = code;
      const why = code === 3 ? 'it has no address' : 'A: queryA ESERVFAIL peers.test';
      // New workers look at once.
      if (code === 2) await reload(here);
      const { Peers, ...rest } = await statusWhen(({ PeersDnsState }) => PeersDnsState === why);
      assert.deepEqual(peersIn({ Peers, ...rest }), [urlOf(3)]);
      await load.answered(50);
    }
    const scrape = await until(
      async () => readExposition((await here.call('GET', '/metrics')).text),
      (read) => sumOf(read, 'wunderproxy_peers_dns_up') === 0,
    );
    assert.equal(sumOf(scrape, 'wunderproxy_peer_up', { peer: urlOf(3) }), 1);
    assert.match(
      (await here.call('GET', '/', undefined, { accept: 'text/html' })).text,
      /The name of peers can not be looked up \(A: queryA ESERVFAIL peers\.test\): the last known addresses are used/,
    );
    const { records, outcomes, versions } = await load.stop();
    assert.deepEqual(outcomes, { ok: records.length });
    assert.deepEqual(Object.keys(versions).toSorted(), ['on-three', 'on-two']);
    await untilNewWorkers(here);
    assert.equal(await versionServed(here), 'on-three');

    zone.code = 0;
    zone.addresses = ['127.0.0.2'];
    await reload(here);
    await statusWhen((answer) => peersIn(answer).join() === urlOf(2) && answer.PeersDnsState === 'Ok');
    assert.equal(await versionServed(here), 'on-two');
    assert.equal(sumOf(readExposition((await here.call('GET', '/metrics')).text), 'wunderproxy_peers_dns_up'), 1);
  },
);

/** Kills all workers; resolves when there are others that serve. */
async function untilNewWorkers(machine: TestProgram): Promise<void> {
  const before = machine.pids('worker');
  for (const pid of before) killIfThere(pid, 'SIGKILL');
  await until(
    async () => (await machine.call('GET', '/status')).json<{ Workers: { Pid: number; State: string }[] }>().Workers,
    (workers) =>
      workers.length === before.length &&
      workers.every(({ Pid, State }) => State === 'serving' && !before.includes(Pid)),
  );
}
