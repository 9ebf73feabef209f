import type { Address } from '../messages.ts';
import { type Container, routeTarget, shortId } from './containers.ts';
import type { Control } from './control.ts';
import type { Drains } from './drains.ts';
import { probeFor, ProbeLog, probeUntilHealthy } from './health.ts';
import type { Launcher } from './launcher.ts';
import { type ContainerInfo, exitInWords } from './runtime.ts';
import { messageOf } from '../errors.ts';

/** Its end is news: one that fails again and again would fill the journal. */
const WORKED: ReadonlySet<Container['state']> = new Set(['active', 'ready']);
/** So many lines of its log are kept with the news. */
const LOG_LINES = 50;

/**
 * Follows what happens to containers without wunderproxy's doing: they die, their engine restarts them, their address
 * changes. Requests never go to an address that the container no longer has: somebody else may have it by then.
 */
export class Recovery {
  readonly #control: Control;
  readonly #drains: Drains;
  readonly #launching: (hash: string) => boolean;
  /** Containers that were restarted and are probed until they are healthy again. */
  readonly #recovering = new Map<string, AbortController>();
  /** Of whom a change was reported and not looked at yet; null stands for all. */
  readonly #toLookAt = new Set<string | null>();
  #looking: Promise<void> | null = null;

  constructor(control: Control, { drains, launcher }: { drains: Drains; launcher: Launcher }) {
    this.#control = control;
    this.#drains = drains;
    this.#launching = (hash) => launcher.running.has(hash);
  }

  /**
   * Looks at one container, or at all (null). One look after the other: of two that overlap, the answer to the first
   * might come last, and what the container was be taken for what it is. Never rejects: an engine that does not answer
   * calls again later.
   */
  async look(id: string | null): Promise<void> {
    this.#toLookAt.add(id);
    this.#looking ??= this.#lookAtAll();
    await this.#looking;
  }

  async #lookAtAll(): Promise<void> {
    // What is added meanwhile is visited too.
    for (const id of this.#toLookAt) {
      this.#toLookAt.delete(id);
      await this.#lookAt(id);
    }
    this.#looking = null;
  }

  async #lookAt(id: string | null): Promise<void> {
    const { containers, runtime, log } = this.#control;
    try {
      const known = id === null ? containers.all() : [containers.get(id)].filter((each) => each !== null);
      for (const container of known) await this.#compare(container, await runtime.inspect(container.id));
      if (id === null) await this.#removeStrays();
    } catch (error) {
      log.warn({ why: messageOf(error) }, 'the state of containers is not known at the moment');
    }
  }

  /** Containers of launches that were cut short, or failed while their engine was out of reach. */
  async #removeStrays(): Promise<void> {
    const { containers, runtime, log } = this.#control;
    for (const { id, hash, mark, revision } of await runtime.list()) {
      if (mark !== 'launching' || containers.get(id) || this.#launching(hash)) continue;
      log.warn({ container: shortId(id), revision }, 'a launch has left its container: it goes');
      try {
        await runtime.remove(id);
      } catch (error) {
        log.error({ err: error, container: shortId(id) }, 'a container that a launch has left can not be removed');
      }
    }
  }

  async #compare(container: Container, info: ContainerInfo | null): Promise<void> {
    // A launch, a drain and a stop look after their container themselves.
    if (container.state === 'stopping' || container.drain !== null) return;
    if (container.state === 'starting' && !this.#recovering.has(container.id)) return;
    if (!info?.running) return this.#ended(container, info);
    const restarted = info.startedAt !== container.startedAt || container.state === 'failed';
    const moved = !sameAddress(info.address, container.address);
    container.startedAt = info.startedAt;
    container.address = info.address;
    if (restarted) await this.#restarted(container);
    else if (moved && container.state === 'active') await this.#direct(container);
  }

  async #ended(container: Container, info: ContainerInfo | null): Promise<void> {
    this.#recovering.get(container.id)?.abort();
    const { containers } = this.#control;
    const before = container.state;
    const why = howItEnded(info);
    container.address = null;
    containers.change(container, 'failed', why);
    if (container.inService) await this.#direct(null);
    else if (info === null) containers.forget(container);
    if (WORKED.has(before)) await this.#note(container, why);
  }

  /** What it wrote last is the best there is to say why, and is gone with it. */
  async #note(container: Container, why: string): Promise<void> {
    const { journal, log, runtime } = this.#control;
    const { id, hash, revision, inService } = container;
    let logs: string[] = [];
    try {
      logs = await runtime.logs(id, LOG_LINES);
    } catch (error) {
      log.info({ container: shortId(id), why: messageOf(error) }, 'what it wrote last is not known');
    }
    journal.add({
      ...{ Event: 'failure', Outcome: 'failed', By: '', Hash: hash, Revision: revision, Container: id },
      Message: inService ? `in service: ${why}` : why,
      ...(logs.length === 0 ? {} : { Detail: { Logs: logs } }),
    });
  }

  async #restarted(container: Container): Promise<void> {
    this.#recovering.get(container.id)?.abort();
    const given = new AbortController();
    this.#recovering.set(container.id, given);
    const before = container.state;
    const why = 'its engine restarted it';
    this.#control.containers.change(container, 'starting', why);
    if (container.inService) await this.#direct(null);
    if (WORKED.has(before)) await this.#note(container, why);
    void this.#untilHealthy(container, given);
  }

  async #untilHealthy(container: Container, given: AbortController): Promise<void> {
    const { app, containers, stopping, log } = this.#control;
    const config = await this.#configOf(container);
    const signal = AbortSignal.any([given.signal, stopping]);
    // Without its config nobody knows its health check; that it runs has to do.
    const healthy =
      config === null
        ? !signal.aborted
        : await probeUntilHealthy(() => container.address, probeFor(config, app), new ProbeLog(), signal);
    if (this.#recovering.get(container.id) === given) this.#recovering.delete(container.id);
    if (!healthy || container.state !== 'starting') return;
    log.info({ container: shortId(container.id) }, 'healthy again');
    containers.change(container, container.inService ? 'active' : 'ready');
    if (container.inService) await this.#direct(container);
  }

  async #configOf(container: Container): Promise<Container['config']> {
    try {
      container.config ??= (await this.#control.environment.launchConfig(container.hash)).config;
    } catch (error) {
      this.#control.log.warn({ why: messageOf(error) }, 'the health check of a restarted container is not known');
    }
    return container.config;
  }

  async #direct(container: Container | null): Promise<void> {
    const { traffic } = this.#control;
    const target = container === null ? null : routeTarget(container);
    // What is counted since the switch goes on being counted when nothing serves.
    const since = container === null ? traffic.route.activeSince : container.switchedAt;
    await traffic.direct(target, since, this.#drains.targets());
  }
}

function howItEnded(info: ContainerInfo | null): string {
  if (info === null) return 'it was removed';
  return info.lastExit === null ? 'it does not run at the moment' : `it ${exitInWords(info.lastExit)}`;
}

function sameAddress(a: Address | null, b: Address | null): boolean {
  return a?.host === b?.host && a?.port === b?.port;
}
