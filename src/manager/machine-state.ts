import type { Control } from './control.ts';
import type { Deployments } from './deployments.ts';
import type { HeartbeatActive, MachineState } from './heartbeat.ts';
import { isoTime } from '../units.ts';

/** What a machine's state is told by. */
export interface MachineCircumstances {
  stopping: boolean;
  /** A worker serves. */
  serving: boolean;
  /** Requests have a container to go to. */
  routed: boolean;
  /** The container engine can be reached. */
  engineUp: boolean;
  launching: boolean;
  draining: boolean;
}

/** One word for all: the worst that is true, from the view of those who want to be served. */
export function machineState(circumstances: MachineCircumstances): MachineState {
  const { stopping, serving, routed, engineUp, launching, draining } = circumstances;
  if (stopping) return 'stopping';
  if (!serving) return 'no_workers';
  if (!routed) return 'no_active_container';
  if (!engineUp) return 'docker_down';
  if (launching) return 'deploying';
  return draining ? 'draining' : 'ready';
}

/** What changes rarely, and is to be known to others at once when it does. */
export interface Standing {
  State: MachineState;
  Active: HeartbeatActive | null;
}

/** How this machine stands. */
export function standingOf({ containers, runtime, stopping, traffic }: Control, { launcher }: Deployments): Standing {
  const State = machineState({
    stopping: stopping.aborted,
    serving: traffic.serving,
    routed: traffic.route.active !== null,
    engineUp: runtime.problem === null,
    launching: launcher.running.size > 0,
    draining: traffic.route.draining.length > 0,
  });
  const { active } = containers;
  if (active === null) return { State, Active: null };
  const { hash, revision, switchedAt } = active;
  const SwitchedAt = switchedAt === null ? null : isoTime(switchedAt);
  return { State, Active: { Hash: hash, Revision: revision, SwitchedAt } };
}

/** What its heartbeat counts. */
export function countsOf({ recent, traffic }: Control): Record<'InFlight' | 'Requests' | 'ErrorsLastMinute', number> {
  const { targets, requests } = traffic.totals();
  const codes = recent.slices.slice(-6).flatMap(({ StatusCodes }) => Object.entries(StatusCodes));
  return {
    InFlight: targets.reduce((sum, { inFlight }) => sum + inFlight, 0),
    Requests: requests,
    ErrorsLastMinute: codes.reduce((sum, [code, count]) => (code.startsWith('5') ? sum + count : sum), 0),
  };
}
