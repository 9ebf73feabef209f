import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { byTurns, type Case, type Context, FAILED, type Measured } from './case.ts';
import { UPSTREAM } from './load-case.ts';
import type { Load } from './load.ts';
import type { Sample } from './statistics.ts';
import type { Deployment } from './subject.ts';

/** From one deployment to the next, in ms. */
const EVERY = 1_000;
/** Not so many that the processors have nothing left: the new application has to start next to them. */
const LOAD: Load = { driver: 'autocannon', connections: 16, path: '/small' };
/** A window must hold some deployments (seconds). */
const SHORTEST = 10;

/**
 * Deployments under load: no request may fail, and the slowest are to stay as fast. An application that starts costs
 * processor time whoever starts it; so the window with switches is compared with one in which applications are launched
 * and stopped in the same rhythm, but never come into service.
 */
export const switches: Case = {
  name: 'switches',
  title: 'A launch and a switch every second under load of 16 connections (wunderproxy alone)',
  quick: true,
  metrics: [
    { key: 'switches', title: 'switches', digits: 0, compared: false },
    { key: 'failed', title: FAILED.title, digits: 0, compared: false },
    { key: 'p99Quiet', title: 'p99 ms quiet', digits: 2, compared: false },
    { key: 'p99Launches', title: 'with launches', digits: 2, compared: false },
    { key: 'p99Switches', title: 'with switches', digits: 2, compared: false },
    { key: 'p99Ratio', title: 'switches / launches', digits: 2, compared: false },
  ],
  measure,
};

async function measure(context: Context): Promise<Measured> {
  const contenders = context.contenders.filter(({ subject }) => subject.name.startsWith('wunderproxy'));
  const seconds = context.quick ? 3 : Math.max(SHORTEST, context.seconds);
  const rounds = context.quick ? 1 : context.rounds;
  const samples = await byTurns(contenders, rounds, async (contender) => {
    const { deployment, target } = await context.running(contender, UPSTREAM, false);
    if (deployment === undefined) throw new Error(`${contender.name} can't be told to switch`);
    const quiet = await context.load.load(LOAD, target, seconds);
    const during = async (calls: string[]) => {
      const rhythm = new Rhythm(deployment, calls);
      try {
        return { ...(await context.load.load(LOAD, target, seconds)), deployments: await rhythm.end() };
      } finally {
        await rhythm.end();
      }
    };
    const launches = await during(['/launch', '/stop-old']);
    const switched = await during(['/launch', '/switch']);
    const sample: Sample = {
      switches: switched.deployments,
      failed: switched.failed,
      p99Quiet: quiet.p99,
      p99Launches: launches.p99,
      p99Switches: switched.p99,
      p99Ratio: launches.p99 === null || switched.p99 === null ? null : switched.p99 / launches.p99,
    };
    return sample;
  });
  return { contenders, samples, notes: [] };
}

/** Deploys a new revision of the same application once a second, or as soon as the last one is done. */
class Rhythm {
  static #revisions = 0;
  readonly #stop = new AbortController();
  readonly #done: Promise<number>;

  /** @param calls of the manager's API that make up a deployment */
  constructor(deployment: Deployment, calls: string[]) {
    this.#done = this.#run(deployment, calls);
    // It is looked at in end(), which comes after the load.
    this.#done.catch(() => {});
  }

  async #run({ program, config }: Deployment, calls: string[]): Promise<number> {
    let deployments = 0;
    while (!this.#stop.signal.aborted) {
      const due = performance.now() + EVERY;
      const hash = config(`r${++Rhythm.#revisions}`);
      for (const path of calls) {
        const answer = await program.call('POST', path, path === '/stop-old' ? '' : hash);
        assert.equal(answer.status, 200, answer.text);
      }
      deployments++;
      const left = Math.max(0, due - performance.now());
      await delay(left, undefined, { signal: this.#stop.signal }).catch(() => {});
    }
    return deployments;
  }

  /** How many there were, once the last one is over. Rejects when one failed. */
  async end(): Promise<number> {
    this.#stop.abort();
    return this.#done;
  }
}
