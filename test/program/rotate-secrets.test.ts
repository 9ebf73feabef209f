import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { markedRequest } from '../proxy/support/machines.ts';
import { workshop } from '../support/deployable.ts';
import { deploy, reload, until } from '../support/deployments.ts';
import { freePort } from '../support/free-port.ts';
import { Load } from '../support/load.ts';
import { killIfThere } from '../support/processes.ts';
import { startProgram, type TestProgram } from '../support/program.ts';
import { sendRaw } from '../support/raw.ts';

/** What this test reads of `/status`. */
interface Answer {
  Active: { State: string } | null;
  Totals: { Fallbacks: { Outcome: string; Count: number }[]; Markers: Record<string, number> };
  Peers: { Fallback: { State: string } | null }[];
}

const statusOf = async (machine: TestProgram) => (await machine.call('GET', '/status')).json<Answer>();

test(
  "the secret of two machines is changed in three steps while one's requests fall back: none is refused",
  { timeout: 150_000 },
  async (t) => {
    const shop = workshop(t);
    const port = await freePort();
    const hosts = [1, 2].map((last) => `127.0.0.${last}:${port}`);
    const peers = hosts.flatMap((host) => ['--peer', `http://${host}`]);
    const [old, next] = [randomBytes(32).toString('hex'), randomBytes(32).toString('hex')];
    const fileOf = (at: number) => join(shop.environment, `secret-${at}`);
    const started = hosts.map(async (host, at) => {
      writeFileSync(fileOf(at), `${old}\n`);
      const options = ['--runtime', 'process', '--workers', '2', '--proxy', host, '--peer-secret-file', fileOf(at)];
      const args = [...options, ...peers, shop.bucket, shop.prefix, 'shop'];
      return startProgram(t, { args, stateDir: `${shop.stateDir}-${at}` });
    });
    const [here, other] = await Promise.all(started);
    assert.ok(here && other);
    const hash = shop.config('v1');
    for (const machine of [here, other]) await deploy(machine, hash);
    await until(
      async () => statusOf(here),
      ({ Peers }) => Peers.some(({ Fallback }) => Fallback?.State === 'healthy'),
    );
    const applications = here.processes().filter(({ command }) => command.includes('app/server.js'));
    assert.equal(applications.length, 1);
    for (const { pid } of applications) killIfThere(pid, 'SIGKILL');
    await until(
      async () => statusOf(here),
      ({ Active }) => Active?.State === 'failed',
    );

    const load = new Load(t, here.proxy, { connections: 8, slowEvery: 15, slowFor: 200, pause: 5 });
    await load.answered(50);
    const steps = [[old, next], [next, old], [next]];
    for (const [step, secrets] of steps.entries()) {
      for (const at of step % 2 === 0 ? [0, 1] : [1, 0]) {
        writeFileSync(fileOf(at), secrets.map((secret) => `${secret}\n`).join(''));
        await reload(at === 0 ? here : other);
        await load.answered(100);
      }
    }
    const { records, outcomes } = await load.stop();
    assert.deepEqual(outcomes, { ok: records.length });
    const { Totals } = await until(
      async () => statusOf(here),
      ({ Totals: { Fallbacks } }) => Fallbacks.reduce((sum, { Count }) => sum + Count, 0) >= records.length,
    );
    assert.deepEqual(
      Totals.Fallbacks.filter(({ Outcome }) => Outcome !== 'ok'),
      [],
    );
    t.diagnostic(`${records.length} requests fell back over six reloads`);

    // The old one is worth nothing any more, on either machine.
    const material = { secrets: [Buffer.from(old).toString('base64')], ca: null };
    assert.match(await sendRaw(other.proxy, markedRequest(material)), /^HTTP\/1\.1 200 /);
    const { Totals: there } = await until(
      async () => statusOf(other),
      ({ Totals: { Markers } }) => (Markers['trusted'] ?? 0) >= records.length && Markers['forged'] !== undefined,
    );
    assert.deepEqual(there.Markers, { trusted: records.length, forged: 1 });
    for (const machine of [here, other]) {
      const said = JSON.stringify(machine.log);
      for (const secret of [old, next]) assert.ok(!said.includes(secret), 'a secret is in the log');
      const counts = machine.log.filter(({ msg }) => msg === "the peers' secret was read");
      assert.deepEqual(
        counts.map(({ secrets }) => secrets),
        [2, 2, 1],
      );
    }
  },
);
