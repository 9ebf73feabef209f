import { messageOf } from '../errors.ts';
import type { DrainingTarget } from '../messages.ts';
import { type Container, routeTarget, shortId } from './containers.ts';
import { pause } from './health.ts';
import type { Control } from './control.ts';

/** How long (ms) a container gets between SIGTERM and SIGKILL. */
const STOP_TIMEOUT = 10_000;

/** A container that could not be stopped, because its engine is out of reach, is tried again after so long (ms). */
const STOP_RETRY = 5_000;

/** Workers get so long (ms) to break off what runs past the deadline. */
const CUT_TIMEOUT = 2_000;

/** Lets containers that left service finish what they do, then stops and removes them. */
export class Drains {
  readonly #control: Control;
  readonly #running = new Map<string, { rescue: AbortController; gone: Promise<void> }>();

  constructor(control: Control) {
    this.#control = control;
  }

  /** What the workers are to know of the containers that drain. */
  targets(): DrainingTarget[] {
    return this.#control.containers.all().flatMap((container) => {
      const target = routeTarget(container);
      return container.drain && target ? [{ target, ...container.drain }] : [];
    });
  }

  /**
   * Drains a container whose `drain` is set, then stops and removes it, in the background. Its requests may run to the
   * deadline, then they are broken off; one that failed has none.
   */
  begin(container: Container, by: string): void {
    const rescue = new AbortController();
    const gone = this.#drain(container, by, rescue.signal).finally(() => {
      if (this.#running.get(container.id)?.rescue === rescue) this.#running.delete(container.id);
    });
    this.#running.set(container.id, { rescue, gone });
  }

  /** Drains a container that has been out of service since before this start. */
  beginLeftOver(container: Container): void {
    const since = Date.now();
    container.drain = { since, deadline: since + this.#control.drainTimeout };
    this.begin(container, '');
  }

  /** Ends a drain because the container is wanted again; it goes on running. */
  rescue(container: Container): void {
    this.#running.get(container.id)?.rescue.abort();
    this.#running.delete(container.id);
    container.drain = null;
  }

  /** Resolves when the container is gone; at once when it does not drain. */
  async whenGone(id: string): Promise<void> {
    await this.#running.get(id)?.gone;
  }

  /** Resolves when nothing drains any more. */
  async whenAllGone(): Promise<void> {
    await Promise.all(Array.from(this.#running.values(), async (drain) => drain.gone));
  }

  /** Stops and removes a container that has nothing left to do. Throws `runtime_unavailable`, `launch_failed`. */
  async stop(container: Container, by: string, why: string): Promise<void> {
    const { containers, runtime, journal } = this.#control;
    containers.change(container, 'stopping');
    try {
      await runtime.stop(container.id, STOP_TIMEOUT);
      await runtime.remove(container.id);
    } catch (error) {
      containers.change(container, 'failed', `it could not be stopped: ${messageOf(error)}`);
      journal.add({ ...this.#about(container, by), Event: 'failure', Outcome: 'failed', Message: messageOf(error) });
      throw error;
    }
    containers.forget(container);
    journal.add({ ...this.#about(container, by), Event: 'stop', Outcome: 'ok', Message: why });
  }

  async #drain(container: Container, by: string, rescued: AbortSignal): Promise<void> {
    const { counts, traffic, journal } = this.#control;
    const drain = container.drain;
    if (drain === null) return;
    // However the clock was set meanwhile: never longer than a drain may take.
    const left = AbortSignal.timeout(Math.min(Math.max(0, drain.deadline - Date.now()), this.#control.drainTimeout));
    const finished = await traffic.whenIdle(container.id, AbortSignal.any([left, rescued]));
    if (rescued.aborted) return;
    const cut = finished ? '' : await this.#cut(container);
    if (rescued.aborted) return;
    const seconds = ((Date.now() - drain.since) / 1_000).toFixed(1);
    const message = finished ? `finished after ${seconds}s` : `broken off after ${seconds}s: ${cut}`;
    counts.add('drain', finished ? 'ok' : 'drain_timeout');
    journal.add({
      ...this.#about(container, by),
      Event: 'drain',
      Outcome: finished ? 'ok' : 'failed',
      Message: message,
    });
    await this.#stopAtLast(container, by);
    container.drain = null;
    await traffic.direct(traffic.route.active, traffic.route.activeSince, this.targets());
  }

  /** Until it is gone, or the program ends: its mark tells the next start what to do with it. */
  async #stopAtLast(container: Container, by: string): Promise<void> {
    const { log, runtime, stopping } = this.#control;
    for (;;) {
      try {
        return await this.stop(container, by, 'it was drained');
      } catch (error) {
        log.error({ err: error, container: shortId(container.id) }, 'a drained container is still there');
      }
      do await pause(STOP_RETRY, stopping);
      while (runtime.problem !== null && !stopping.aborted);
      if (stopping.aborted) return;
    }
  }

  /** Resolves to what was broken off, for people. */
  async #cut(container: Container): Promise<string> {
    const { traffic, log } = this.#control;
    const { inFlight = 0, upgraded = 0 } = traffic.totals().targets.find(({ id }) => id === container.id) ?? {};
    log.warn({ container: shortId(container.id), inFlight, upgraded }, 'drain timeout: what still runs is broken off');
    traffic.cut(container.id);
    await traffic.whenIdle(container.id, AbortSignal.timeout(CUT_TIMEOUT));
    return `requests in flight ${inFlight}, tunnels ${upgraded}`;
  }

  #about(container: Container, by: string): { By: string; Hash: string; Revision: string; Container: string } {
    return { By: by, Hash: container.hash, Revision: container.revision, Container: container.id };
  }
}
