import { randomBytes } from 'node:crypto';
import { type ContainerCreateOptions, type ContainerInspectInfo } from 'dockerode';
import type { Address } from '../messages.ts';
import { containerPort } from './launch-config.ts';
import type { ContainerInfo, ContainerMark, CreateRequest } from './runtime.ts';

/** Labels by which wunderproxy finds its containers again. */
export const LABELS = {
  app: 'wunderproxy.app',
  /** Name of the store and prefix: another environment of the same app may share the engine. */
  environment: 'wunderproxy.environment',
  hash: 'wunderproxy.hash',
  revision: 'wunderproxy.revision',
  /** Where the application listens in the container. */
  port: 'wunderproxy.port',
} as const;

/**
 * The name says how far a container has come: unlike labels, Docker lets it change, and it is what people see in
 * `docker ps`. `<app>-<revision>-<first 8 of the id>`, with `-launching` or `-superseded` behind it.
 */
export function containerName(app: string, revision: string, id: string, mark: ContainerMark): string {
  const name = `${app}-${revision}-${id.slice(0, 8)}`;
  return mark === 'launched' ? name : `${name}-${mark}`;
}

/** A name nobody else has, for a container that has no id yet. */
export function launchingName(app: string, revision: string): string {
  return containerName(app, revision, randomBytes(4).toString('hex'), 'launching');
}

/**
 * The mark that a name stands for. A name that a person gave it stands for `launched`: such a container is left alone.
 * A revision may end like a mark, which is no matter: an id stands behind it.
 */
export function markOf(name: string): ContainerMark {
  if (name.endsWith('-launching')) return 'launching';
  return name.endsWith('-superseded') ? 'superseded' : 'launched';
}

/**
 * The body of `POST /containers/create`: the launch config's own parts as they are, plus what wunderproxy needs.
 * `exposedByImage` as in the image's config, such as `9292/tcp`.
 */
export function createBody(
  app: string,
  environment: string,
  image: string,
  exposedByImage: string[],
  request: Pick<CreateRequest, 'hash' | 'config' | 'environment'>,
): ContainerCreateOptions {
  const { ContainerConfig, HostConfig, Revision } = request.config;
  const port = containerPort(request.config, exposedByImage);
  const body = {
    ...ContainerConfig,
    Image: image,
    Env: mergeEnvironment(request.environment, ContainerConfig.Env ?? []),
    ExposedPorts: { ...ContainerConfig.ExposedPorts, [`${port}/tcp`]: {} },
    Labels: {
      ...ContainerConfig.Labels,
      [LABELS.app]: app,
      [LABELS.environment]: environment,
      [LABELS.hash]: request.hash,
      [LABELS.revision]: Revision,
      [LABELS.port]: String(port),
    },
    HostConfig: HostConfig ?? {},
  };
  return body as ContainerCreateOptions;
}

/** `KEY=value` lines in which the container's own (also a bare `KEY`, which Docker takes as "unset") win. */
export function mergeEnvironment(environment: Record<string, string>, own: string[]): string[] {
  const keys = new Set(own.map((line) => line.split('=', 1)[0]));
  const common = Object.entries(environment).filter(([key]) => !keys.has(key));
  return [...common.map(([key, value]) => `${key}=${value}`), ...own];
}

/**
 * What Docker's `GET /containers/{id}/json` says of a container of this app and environment; null for a container of
 * somebody else. One without an environment's label was started by hand for whoever takes it up.
 */
export function containerInfo(app: string, environment: string, inspected: ContainerInspectInfo): ContainerInfo | null {
  const labels = inspected.Config.Labels ?? {};
  if (labels[LABELS.app] !== app || (labels[LABELS.environment] ?? environment) !== environment) return null;
  const { Status, StartedAt, ExitCode } = inspected.State;
  // While a restart policy waits, Docker says Running as well as Restarting: it does not run, nor has it exited for good.
  const running = inspected.State.Running && !inspected.State.Restarting;
  const neverStarted = StartedAt.startsWith('0001-');
  const exited = Status === 'exited' || Status === 'dead';
  return {
    id: inspected.Id,
    hash: labels[LABELS.hash] ?? '',
    revision: labels[LABELS.revision] ?? '',
    image: inspected.Config.Image,
    mark: markOf(inspected.Name),
    running,
    exitCode: exited ? ExitCode : null,
    lastExit: running || neverStarted ? null : { status: ExitCode, outOfMemory: inspected.State.OOMKilled },
    address: running ? addressOf(inspected, Number(labels[LABELS.port])) : null,
    startedAt: neverStarted ? null : StartedAt,
  };
}

/**
 * Where this host reaches a running container: at its own address, so that neither docker-proxy nor a port of the host is
 * in the way, else at a published port.
 */
export function addressOf(
  inspected: Pick<ContainerInspectInfo, 'HostConfig' | 'NetworkSettings'>,
  port: number,
): Address | null {
  const mode = inspected.HostConfig.NetworkMode ?? 'default';
  if (mode === 'host') return { host: '127.0.0.1', port };

  const networks = Object.entries(inspected.NetworkSettings.Networks ?? {});
  const wanted = mode === 'default' ? 'bridge' : mode;
  networks.sort(([a, left], [b, right]) => {
    const rank = (name: string, id: string) => (name === wanted || id === wanted ? 0 : 1);
    return rank(a, left.NetworkID) - rank(b, right.NetworkID);
  });
  for (const [, network] of networks) {
    const host = network.IPAddress || network.GlobalIPv6Address;
    if (host) return { host, port };
  }

  const published = inspected.NetworkSettings.Ports?.[`${port}/tcp`] ?? [];
  const binding = published.find((each) => !each.HostIp.includes(':')) ?? published[0];
  if (!binding) return null;
  return { host: LOCAL[binding.HostIp] ?? binding.HostIp, port: Number(binding.HostPort) };
}

/** How this host reaches a port that is bound to all its addresses. */
const LOCAL: Record<string, string> = { '': '127.0.0.1', '0.0.0.0': '127.0.0.1', '::': '::1' };
