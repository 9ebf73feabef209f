import { WunderproxyError } from '../errors.ts';

/** The engine can't be reached; `problem` says why. */
export function unavailable(problem: string): WunderproxyError {
  return new WunderproxyError('runtime_unavailable', { message: problem });
}

/** The engine will not create or start a container. */
export function launchFailed(message: string): WunderproxyError {
  return new WunderproxyError('launch_failed', { message });
}

/** What `create` throws once its signal was aborted: the reason, if it is one for callers. */
export function launchCancelled(signal: AbortSignal): WunderproxyError {
  return signal.reason instanceof WunderproxyError ? signal.reason : launchFailed('The launch was broken off.');
}
