import type { ErrorCode } from '../errors.ts';
import type { ProbeResult } from '../manager/health.ts';

/** What an error means for the operator, and what to do next. Codes that only clients of the application meet have none. */
const ADVICE: Partial<Record<ErrorCode, string>> = {
  bad_identifier: 'Paste the hash of the launch config as md5sum or sha256sum prints it, without the file name.',
  launch_config_not_found:
    'Upload the launch config to the store under its hash first. A config that was uploaded under another prefix is not seen here.',
  hash_mismatch: 'Upload the launch config again, under the hash of exactly these bytes.',
  invalid_launch_config: 'Correct the launch config and upload it under its new hash.',
  image_unavailable:
    'Neither the container engine, nor the registry, nor the ImageArtifact had the image. Push it, then launch again.',
  launch_failed: 'The container engine refused. Its words say why; the container is gone again.',
  not_healthy:
    'The container was started, but did not answer its health check with 200. It is gone again; traffic was not touched. Its last words stand below.',
  not_launched: 'Launch it first: only a container that is ready can be switched to.',
  empty_history: 'The history has no deployment before the one in service.',
  not_in_history: 'Somebody else has changed the history meanwhile. Launch the hash and switch to it instead.',
  store_unavailable: 'Nothing was changed, traffic goes on. Try again when the store answers.',
  runtime_unavailable: 'Traffic goes on to the container in service. Look after the container engine, then try again.',
  workers_unavailable: 'No process serves clients. They are started again by themselves; the log says why they end.',
  shutting_down: 'wunderproxy is being stopped. Try again when it is back.',
  unauthorized: 'Log in with the token that --api-token-file holds.',
  too_many_attempts: 'Wait some seconds, then try again.',
  forbidden: 'Open the page by the address that wunderproxy listens on, and use the buttons on it.',
  not_found: 'Go back to the status page.',
  internal_error: 'This is a bug in wunderproxy. Its log has the details.',
};

export function adviceFor(code: ErrorCode): string | null {
  return ADVICE[code] ?? null;
}

/** What an error's detail tells: probes and log lines of a container, problems of a config. */
export interface Evidence {
  probes: ProbeResult[];
  logs: string[];
  problems: string[];
}

/** Reads the detail of an error or of a journal entry, which other versions may have written. */
export function evidenceOf(detail: unknown): Evidence {
  const { Probes, Logs, Problems } = (typeof detail === 'object' && detail !== null ? detail : {}) as Record<
    string,
    unknown
  >;
  return { probes: list(Probes).filter(isProbe), logs: strings(Logs), problems: strings(Problems) };
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function strings(value: unknown): string[] {
  return list(value).filter((each) => typeof each === 'string');
}

function isProbe(value: unknown): value is ProbeResult {
  if (typeof value !== 'object' || value === null) return false;
  const { Result, Count, FirstAt, LastAt } = value as Partial<Record<keyof ProbeResult, unknown>>;
  return [Result, FirstAt, LastAt].every((each) => typeof each === 'string') && typeof Count === 'number';
}
