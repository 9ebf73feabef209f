import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import Docker from 'dockerode';
import { descendantsOf, endProcess, exitOf, killIfThere, runningProcesses } from './processes.ts';

const START_LIMIT_MS = 60_000;
const STOP_LIMIT_MS = 30_000;

/**
 * A Docker Engine of its own: own data, own bridge, nothing of the machine's packet filter touched. Its containers live
 * through a restart of the daemon (`--live-restore`), as they do where people upgrade Docker under a running site.
 *
 * `stop` leaves nothing: no container, mount, bridge or process.
 */
export class DockerDaemon {
  readonly host: string;
  readonly #dir: string;
  readonly #bridge: string;
  readonly #options: string[];
  #process: ChildProcess | null = null;

  private constructor(dir: string, bridge: string, subnet: number) {
    this.#dir = dir;
    this.#bridge = bridge;
    this.host = `unix://${join(dir, 'docker.sock')}`;
    this.#options = [
      ...['--iptables=false', '--ip6tables=false', '--ip-masq=false', '--ip-forward=false', '--live-restore'],
      ...['--data-root', join(dir, 'data'), '--exec-root', join(dir, 'exec'), '--pidfile', join(dir, 'pid')],
      ...['--bridge', bridge, '--default-address-pool', `base=198.19.${subnet}.0/24,size=28`],
      ...['-H', this.host],
    ];
  }

  /** With all of its files below `dir`. */
  static async start(dir: string): Promise<DockerDaemon> {
    mkdirSync(dir, { recursive: true });
    const { bridge, subnet } = createBridge();
    const daemon = new DockerDaemon(dir, bridge, subnet);
    try {
      await daemon.resume();
      return daemon;
    } catch (error) {
      await daemon.stop();
      throw error;
    }
  }

  /** The daemon's process, for a test that stops or kills it. */
  get pid(): number {
    if (this.#process?.pid === undefined) throw new Error('dockerd does not run');
    return this.#process.pid;
  }

  get docker(): Docker {
    return new Docker({ socketPath: this.host.slice('unix://'.length) });
  }

  /** Starts the daemon (again) and resolves once it answers. */
  async resume(): Promise<void> {
    const log = openSync(join(this.#dir, 'log'), 'a');
    // Detached, so that Ctrl-C in a terminal reaches the runner alone, which ends it in order.
    const child = spawn('dockerd', this.#options, { stdio: ['ignore', log, log], detached: true });
    closeSync(log);
    await once(child, 'spawn');
    this.#process = child;
    const deadline = Date.now() + START_LIMIT_MS;
    while (!(await this.#answers())) {
      if (child.exitCode !== null || child.signalCode !== null || Date.now() > deadline) {
        throw new Error(`dockerd does not come up:\n${this.#lastLines()}`);
      }
      await delay(50);
    }
  }

  /** Ends the daemon with a signal and resolves when it is gone; containers go on. */
  async halt(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    if (!this.#process) return;
    this.#process.kill(signal);
    await Promise.race([exitOf(this.#process), delay(STOP_LIMIT_MS, null, { ref: false })]);
    await endProcess(this.#process);
    this.#process = null;
    this.#endContainerd();
  }

  async stop(): Promise<void> {
    if (this.#process && (await this.#answers())) await this.#removeContainers();
    await this.halt('SIGTERM');
    this.#endShims();
    for (const mount of mountsBelow(this.#dir)) spawnSync('umount', ['--lazy', mount]);
    ip('link', 'del', 'dev', this.#bridge);
    rmSync(this.#dir, { recursive: true, force: true });
  }

  async #removeContainers(): Promise<void> {
    const { docker } = this;
    const containers = await docker.listContainers({ all: true });
    await Promise.allSettled(
      containers.map(async ({ Id }) => {
        await docker.getContainer(Id).remove({ force: true, v: true });
      }),
    );
    await docker.pruneNetworks();
  }

  /** A daemon that was killed takes its containerd along, but leaves its pid file; the next one then waits for it. */
  #endContainerd(): void {
    const file = join(this.#dir, 'exec/containerd/containerd.pid');
    if (!existsSync(file)) return;
    killIfThere(Number(readFileSync(file, 'utf8')), 'SIGKILL');
    rmSync(file);
  }

  /** Containers that the daemon did not live to remove: their shims name this engine's socket. */
  #endShims(): void {
    const shims = runningProcesses().filter(({ command }) => command.includes(` -address ${this.#dir}/`));
    for (const { pid } of shims.flatMap((shim) => descendantsOf(shim.pid))) killIfThere(pid, 'SIGKILL');
  }

  async #answers(): Promise<boolean> {
    try {
      await Promise.race([
        this.docker.ping(),
        delay(2_000, null, { ref: false }).then(() => Promise.reject(new Error('silent'))),
      ]);
      return true;
    } catch {
      return false;
    }
  }

  #lastLines(): string {
    return readFileSync(join(this.#dir, 'log'), 'utf8').trim().split('\n').slice(-15).join('\n');
  }
}

/**
 * Engines that share docker0 give out one another's addresses, hence a bridge for each. 198.18.0.0/15 is for tests
 * (RFC 2544) and routed nowhere.
 */
function createBridge(): { bridge: string; subnet: number } {
  for (let subnet = 0; subnet < 256; subnet++) {
    const address = `198.18.${subnet}.1`;
    const used = Object.values(networkInterfaces()).flat();
    if (used.some((each) => each?.address === address)) continue;
    const bridge = `wundertest${subnet}`;
    // Fails where another run was faster.
    if (ip('link', 'add', 'dev', bridge, 'type', 'bridge') !== 0) continue;
    if (ip('addr', 'add', `${address}/24`, 'dev', bridge) === 0 && ip('link', 'set', bridge, 'up') === 0) {
      return { bridge, subnet };
    }
    ip('link', 'del', 'dev', bridge);
  }
  throw new Error('no bridge can be made for Docker');
}

function ip(...args: string[]): number | null {
  return spawnSync('busybox', ['ip', ...args], { stdio: 'ignore' }).status;
}

/** Deepest first. */
function mountsBelow(dir: string): string[] {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  const paths = mounts.map((line) => line.split(' ')[4] ?? '').filter((path) => path.startsWith(`${dir}/`));
  return paths.sort((a, b) => b.length - a.length);
}
