import { WunderproxyError } from '../errors.ts';
import type { ApiOptions } from '../manager/api.ts';
import { type Container, isOld, shortId } from '../manager/containers.ts';
import { rollbackTarget } from '../manager/history.ts';
import { parseIdentifier } from '../manager/launch-config.ts';
import type { ActKind } from './acts.ts';
import { age, duration, plural } from './format.ts';
import { html, type Html } from './html.ts';

/** What an act will do, before it is done. */
export interface Plan {
  kind: ActKind;
  title: string;
  /** What will happen, step by step. */
  steps: Html[];
  button: string;
  hash: string | null;
  revision: string | null;
  /** The container in service that the plan was made with. */
  seen: string;
}

/**
 * Says what an act will do if it is done now. `text`: the hash as it was given.
 * Throws what the act itself would throw at once: `bad_identifier`, `launch_config_not_found`, `not_launched`, …
 */
export async function planOf(kind: ActKind, text: string, options: ApiOptions): Promise<Plan> {
  const seen = options.control.containers.active?.id ?? '';
  switch (kind) {
    case 'launch':
      return { ...(await launchPlan(parseIdentifier(text.trim()), options)), seen };
    case 'switch':
      return { ...switchPlan(parseIdentifier(text.trim()), options), seen };
    case 'rollback':
      return { ...(await rollbackPlan(text.trim(), options)), seen };
    case 'stop-old':
      return { ...stopPlan(options), seen };
  }
}

/** Carries out a plan and resolves to what came of it, in a sentence. */
export async function carryOut(
  { kind, hash }: Pick<Plan, 'kind' | 'hash'>,
  by: string,
  { deployments }: ApiOptions,
): Promise<string> {
  switch (kind) {
    case 'launch': {
      const container = await deployments.launch(hash ?? '', by);
      return `Container ${shortId(container.id)} is healthy. It gets no traffic until you switch to it.`;
    }
    case 'switch':
    case 'rollback': {
      const { container, previous } =
        kind === 'switch' ? await deployments.switchTo(hash ?? '', by) : await deployments.rollback(hash, by);
      const after = previous ? ` ${previous.revision} finishes its requests and is then stopped.` : '';
      return `All new requests go to container ${shortId(container.id)}.${after}`;
    }
    case 'stop-old': {
      const stopped = await deployments.stopOld(by);
      return stopped.length === 0 ? 'There was nothing to stop.' : `Stopped ${stopped.map(named).join(', ')}.`;
    }
  }
}

type Draft = Omit<Plan, 'seen'>;

async function launchPlan(hash: string, { control }: ApiOptions): Promise<Draft> {
  const { config } = await control.environment.launchConfig(hash);
  const { Revision, HealthCheckPath, ForceReload } = config;
  const running = control.containers.find(hash, 'ready', 'active', 'draining')[0];
  const image = config.ContainerConfig.Image;
  const steps =
    running && ForceReload !== true
      ? [
          html`<b>${Revision}</b> runs already in container ${named(running)}. It is probed; if it is healthy, that is
            all.`,
          html`If it is not, a new container is launched as below.`,
        ]
      : [];
  return {
    kind: 'launch',
    title: `Launch ${Revision}?`,
    steps: [
      ...steps,
      control.runtime.kind === 'docker'
        ? html`The image ${image ? html`<code>${image}</code>` : `of ${Revision}`} is pulled if the engine does not have
          it.`
        : html`The command of the config is started as a process.`,
      html`A container is created and started, and <code>${HealthCheckPath}</code> probed once a second until it answers
        200, for ${exactly(control.launchTimeout)} at the most.`,
      html`If that fails, the container is removed again and you see why.`,
      html`Traffic is not touched: that takes a switch afterwards.`,
    ],
    button: `Launch ${Revision}`,
    hash,
    revision: Revision,
  };
}

function switchPlan(hash: string, { control }: ApiOptions): Draft {
  const { containers } = control;
  const [target] = [...containers.find(hash, 'ready'), ...containers.find(hash, 'active', 'draining')];
  if (!target) throw new WunderproxyError('not_launched');
  return {
    kind: 'switch',
    title: `Switch to ${target.revision}?`,
    steps: switchSteps(target.revision, shortId(target.id), target.id, control),
    button: `Switch to ${target.revision}`,
    hash,
    revision: target.revision,
  };
}

async function rollbackPlan(text: string, { control }: ApiOptions): Promise<Draft> {
  const history = await control.environment.history();
  const named = text === '' ? null : parseIdentifier(text);
  const target = rollbackTarget(history, control.containers.active?.hash ?? null, named);
  const later = history.slice(history.findLastIndex(({ Hash }) => Hash === target.Hash) + 1);
  const running = control.containers.find(target.Hash, 'ready', 'active', 'draining')[0];
  return {
    kind: 'rollback',
    title: `Roll back to ${target.Revision}?`,
    steps: [
      running
        ? html`<b>${target.Revision}</b> still runs in container ${shortId(running.id)}; it is probed and launched anew
            if it is not healthy.`
        : html`<b>${target.Revision}</b> does not run any more: it is launched first, and nothing changes if that fails.`,
      ...switchSteps(
        target.Revision,
        running ? shortId(running.id) : 'its new container',
        running?.id ?? null,
        control,
      ),
      later.length === 0
        ? html`The history stays as it is.`
        : html`The history is cut after it: ${later.map(({ Revision }) => Revision).join(', ')}
          ${later.length === 1 ? 'is' : 'are'} taken out.`,
    ],
    button: `Roll back to ${target.Revision}`,
    hash: target.Hash,
    revision: target.Revision,
  };
}

function switchSteps(revision: string, container: string, id: string | null, control: ApiOptions['control']): Html[] {
  const { active } = control.containers;
  const steps = [html`All new requests go to <b>${revision}</b> (${container}).`];
  if (!active) return [...steps, html`Nothing is in service before it: clients get 503 until then.`];
  if (active.id === id) return [html`<b>${revision}</b> is in service already; only the store is written again.`];
  const counts = control.traffic.totals().targets.find(({ id }) => id === active.id);
  return [
    ...steps,
    html`<b>${active.revision}</b> (${shortId(active.id)}), in service now, finishes what it does: at the moment
      ${plural(counts?.inFlight ?? 0, 'request')} and ${plural(counts?.upgraded ?? 0, 'tunnel')}. It has
      ${exactly(control.drainTimeout)} for that; what still runs then is broken off.`,
    html`After that ${active.revision} is stopped and removed.`,
  ];
}

function stopPlan({ control }: ApiOptions): Draft {
  const old = control.containers.all().filter(isOld);
  return {
    kind: 'stop-old',
    title: 'Stop old containers?',
    steps:
      old.length === 0
        ? [html`There is none: every container is in service, draining or being launched.`]
        : old.map((each) => html`<b>${each.revision}</b> (${shortId(each.id)}, ${each.state}) is stopped and removed.`),
    button: old.length === 1 ? 'Stop it' : `Stop ${old.length}`,
    hash: null,
    revision: null,
  };
}

/** A duration that was set, in ms, as people say it. */
function exactly(ms: number): string {
  return ms % 1_000 === 0 ? age(ms) : duration(ms);
}

function named(container: Container): string {
  return `${container.revision} (${shortId(container.id)})`;
}
