import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, open, readdir, readFile, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from './free-port.ts';
import { endProcess, exitOf } from './processes.ts';
import type { Service } from './service.ts';

const STEP_LIMIT_MS = 60_000;
const TELL_TRIES = 5;

/** A Ceph of one node that keeps everything in memory, with its S3 gateway on 127.0.0.1. */
export const cephService: Service = {
  name: 'S3 (Ceph RADOS Gateway)',
  async start(dir) {
    const ceph = new Ceph(dir);
    try {
      return { env: await ceph.start(), stop: () => ceph.stop() };
    } catch (error) {
      await ceph.stop();
      throw new Error(`${(error as Error).message}\n${await ceph.lastLogLines()}`, { cause: error });
    }
  },
};

class Ceph {
  readonly #dir: string;
  readonly #daemons: ChildProcess[] = [];
  readonly #ended = Promise.withResolvers<never>();

  constructor(dir: string) {
    this.#dir = dir;
    // Heard of by whoever waits for a daemon's work; else nobody minds.
    this.#ended.promise.catch(() => {});
  }

  async start(): Promise<Record<string, string>> {
    const [monitor, gateway] = [await freePort(), await freePort()];
    const [key, secret] = [randomBytes(10).toString('hex'), randomBytes(20).toString('hex')];
    for (const name of ['mon', 'osd', 'run']) await mkdir(join(this.#dir, name), { recursive: true });
    await writeFile(join(this.#dir, 'ceph.conf'), configuration(this.#dir, monitor));
    await writeFile(join(this.#dir, 'keyring'), '');

    await this.#run('ceph-mon', '-i', 'a', '--mkfs');
    await this.#daemon('ceph-mon', '-i', 'a');
    await this.#tell('osd', 'create');
    await this.#tell('osd', 'crush', 'add', 'osd.0', '1', 'host=localhost', 'root=default');
    await this.#run('ceph-osd', '-i', '0', '--mkfs');
    await this.#daemon('ceph-osd', '-i', '0');
    const user = ['--uid=test', '--display-name=test', `--access-key=${key}`, `--secret-key=${secret}`];
    await this.#run('radosgw-admin', 'user', 'create', ...user);
    const frontend = `beast endpoint=127.0.0.1:${gateway}`;
    await this.#daemon('radosgw', '-n', 'client.rgw', '--rgw_frontends', frontend);
    await this.#answers(gateway);

    return { TEST_S3_ENDPOINT: `http://127.0.0.1:${gateway}`, TEST_S3_KEY: key, TEST_S3_SECRET: secret };
  }

  /** Nothing in it is worth an orderly end, which takes seconds. */
  async stop(): Promise<void> {
    for (const daemon of this.#daemons.reverse()) await endProcess(daemon);
  }

  async lastLogLines(): Promise<string> {
    const lines: string[] = [];
    for (const name of await readdir(this.#dir)) {
      if (!/\.(log|out)$/.test(name)) continue;
      const last = (await readFile(join(this.#dir, name), 'utf8')).trim().split('\n').slice(-4);
      lines.push(...last.map((line) => `${name}: ${line}`));
    }
    return lines.join('\n');
  }

  /** Detached, so that Ctrl-C in a terminal reaches the runner alone, which ends them in order. */
  async #spawn(command: string, args: string[]): Promise<ChildProcess> {
    const log = await open(join(this.#dir, `${command}.out`), 'a');
    try {
      const child = spawn(command, ['-c', join(this.#dir, 'ceph.conf'), ...args], {
        stdio: ['ignore', log.fd, log.fd],
        detached: true,
      });
      await once(child, 'spawn');
      return child;
    } finally {
      await log.close();
    }
  }

  async #daemon(command: string, ...args: string[]): Promise<void> {
    const daemon = await this.#spawn(command, ['-f', ...args]);
    daemon.once('exit', () => {
      this.#ended.reject(new Error(`${command} has ended`));
    });
    this.#daemons.push(daemon);
  }

  async #run(command: string, ...args: string[]): Promise<void> {
    const child = await this.#spawn(command, args);
    const limit = setTimeout(() => child.kill('SIGKILL'), STEP_LIMIT_MS);
    try {
      const { code, signal } = await Promise.race([exitOf(child), this.#ended.promise]);
      // The other arguments hold a key.
      if (code !== 0) throw new Error(`${command} ${args[0]} ended with ${code ?? signal}`);
    } finally {
      clearTimeout(limit);
      await endProcess(child);
    }
  }

  /**
   * On a busy machine a client may ask before it has heard the cluster's id, and is turned away with nothing done
   * ("problem getting command descriptions").
   */
  async #tell(...args: string[]): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        await this.#run('ceph', ...args);
        return;
      } catch (error) {
        if (tries === TELL_TRIES) throw error;
      }
    }
  }

  async #answers(port: number): Promise<void> {
    const deadline = Date.now() + STEP_LIMIT_MS;
    while (!(await answers(port))) {
      if (Date.now() > deadline) throw new Error('radosgw does not answer');
      await Promise.race([delay(100), this.#ended.promise]);
    }
  }
}

async function answers(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const asked = request({ host: '127.0.0.1', port, timeout: 1_000 }, (response) => {
    response.resume();
    resolve(response.statusCode === 200);
  });
  asked.on('timeout', () => asked.destroy());
  asked.on('error', () => {
    resolve(false);
  });
  asked.end();
  return promise;
}

/**
 * One monitor, one store in memory, no authentication between them, everything on 127.0.0.1. `paxos_*`: with the default
 * of a second each of the dozen changes to the maps waits that long. `osd_*_update_on_start`: an OSD that tells the
 * monitor about itself before it was told the cluster's id ends; we tell it instead. Background work that a minute's data
 * does not need is off.
 */
function configuration(dir: string, monitor: number): string {
  return `[global]
fsid = ${randomUUID()}
mon_initial_members = a
mon_host = v1:127.0.0.1:${monitor}/0
ms_bind_msgr2 = false
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
mon_data = ${dir}/mon
osd_data = ${dir}/osd
run_dir = ${dir}/run
crash_dir = ${dir}/run
keyring = ${dir}/keyring
log_file = ${dir}/$name.log
mon_cluster_log_file = ${dir}/cluster.log
admin_socket =
pid_file =
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
mon_allow_pool_size_one = true
osd_objectstore = memstore
memstore_device_bytes = 1073741824
osd_memory_target = 939524096
osd_crush_chooseleaf_type = 0
osd_crush_update_on_start = false
osd_class_update_on_start = false
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_pool_default_pg_autoscale_mode = off
osd_op_num_shards = 2
osd_op_num_threads_per_shard = 1
rgw_thread_pool_size = 32
rgw_enable_quota_threads = false
rgw_enable_gc_threads = false
rgw_enable_lc_threads = false
rgw_run_sync_thread = false
rgw_enable_usage_log = false

[osd]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
`;
}
