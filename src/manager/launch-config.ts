import { createHash } from 'node:crypto';
import * as z from 'zod';
import { messageOf, WunderproxyError } from '../errors.ts';

/** Docker's `ContainerConfig`, as far as wunderproxy reads it; everything else is handed on as it is. */
const containerConfig = z.looseObject({
  Image: z.string().optional(),
  Env: z.array(z.string()).nullish(),
  Cmd: z.union([z.array(z.string()), z.string()]).nullish(),
  Entrypoint: z.union([z.array(z.string()), z.string()]).nullish(),
  WorkingDir: z.string().nullish(),
  ExposedPorts: z.record(z.string(), z.unknown()).nullish(),
  Labels: z.record(z.string(), z.string()).nullish(),
});

const revisionPattern = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;

const launchConfig = z.strictObject({
  ContainerConfig: containerConfig,
  HostConfig: z.looseObject({}).nullish(),
  HealthCheckPath: z
    .string()
    .min(1)
    .regex(/^[\x21-\x7e]+$/, 'must be a path without spaces'),
  /** Also the image's tag, hence Docker's rule for tags. */
  Revision: z.string().regex(revisionPattern, 'must be usable as an image tag: letters, digits, _ . - (at most 128)'),
  ForceReload: z.boolean().optional(),
  ContainerPort: z.number().int().min(1).max(65_535).optional(),
  ImageArtifact: z.strictObject({ Bucket: z.string().min(1), Key: z.string().min(1) }).nullish(),
  /** Headers of the health probe that are to differ from the default. */
  HealthCheckHeaders: z.record(z.string(), z.string()).nullish(),
});

/** A launch config as it stands in the store (CONTRACT: "Store"). */
export type LaunchConfig = z.infer<typeof launchConfig>;

/** The port an application listens on when its config and image name none. */
export const DEFAULT_PORT = 9292;

const HASHES = { 32: 'md5', 64: 'sha256' } as const;

/**
 * A config's identifier in lower case: the hex MD5 or SHA-256 of its bytes, told apart by length.
 * `parameter`: of the call, where it is not its body. Throws `bad_identifier`.
 */
export function parseIdentifier(text: string, parameter?: string): string {
  if (/^(?:[0-9a-f]{32}|[0-9a-f]{64})$/i.test(text)) return text.toLowerCase();
  const message = `${parameter}: expected the hash of a launch config, 32 (MD5) or 64 (SHA-256) hex digits`;
  throw new WunderproxyError('bad_identifier', parameter === undefined ? {} : { message });
}

/** The key of the config with this identifier, below the prefix. */
export function launchConfigKey(hash: string): string {
  return `container.${hash}.json`;
}

/** Whether these bytes have this identifier. */
export function matchesHash(bytes: Buffer, hash: string): boolean {
  const algorithm = HASHES[hash.length as keyof typeof HASHES];
  return algorithm !== undefined && createHash(algorithm).update(bytes).digest('hex') === hash;
}

/** Throws `invalid_launch_config` with every problem by its path. */
export function parseLaunchConfig(bytes: Buffer): LaunchConfig {
  let json: unknown;
  try {
    json = JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw new WunderproxyError('invalid_launch_config', { message: notJson(bytes, cause), cause });
  }
  const parsed = launchConfig.safeParse(json, { error: inWords });
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((issue) => {
    if (issue.code === 'unrecognized_keys') return `unknown key ${issue.keys.join(', ')}`;
    return `${issue.path.join('.') || 'the config'}: ${issue.message}`;
  });
  throw new WunderproxyError('invalid_launch_config', {
    message: `The launch config is not valid: ${problems.join('; ')}.`,
    detail: { Problems: problems },
  });
}

/** V8's own words may quote what stands there, which may be a secret. */
function notJson(bytes: Buffer, error: unknown): string {
  if (bytes.toString('utf8').trim() === '') return 'The launch config is empty.';
  const [, line, column] = /\(line (\d+) column (\d+)\)/.exec(messageOf(error)) ?? [];
  return `The launch config is not JSON${line === undefined ? '' : `: line ${line}, column ${column}`}.`;
}

/** Zod's default for the rest, which names the types that are expected and given, never values. */
function inWords({ code, input }: { code?: string; input?: unknown }): string | undefined {
  return code === 'invalid_type' && input === undefined ? 'is missing' : undefined;
}

/** The application's port: named, else the one exposed TCP port, else 9292. */
export function containerPort(config: LaunchConfig, exposedByImage: string[] = []): number {
  if (config.ContainerPort !== undefined) return config.ContainerPort;
  const own = Object.keys(config.ContainerConfig.ExposedPorts ?? {});
  const ports = (own.length > 0 ? own : exposedByImage).filter((port) => /^\d+(\/tcp)?$/.test(port));
  const [only] = ports;
  return ports.length === 1 && only !== undefined ? Number.parseInt(only, 10) : DEFAULT_PORT;
}

/** The image reference: a missing or bare-tag `Image` stands for the revision's own image in the local registry. */
export function imageReference(config: LaunchConfig, app: string, registryPort: number): string {
  const image = config.ContainerConfig.Image;
  return image && /[/:@]/.test(image) ? image : `localhost:${registryPort}/${app}:${config.Revision}`;
}
