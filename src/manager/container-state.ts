/**
 * The life of a container:
 *
 *     starting → ready → active → draining → stopping → (gone)
 *
 * and `failed` from any of them. `starting` is also where a container is that its engine restarted by itself: it comes
 * back to what it was when it is healthy.
 */
export type ContainerState = 'starting' | 'ready' | 'active' | 'draining' | 'stopping' | 'failed';

/** Every change of state that there is; anything else is a bug. */
export const TRANSITIONS: Readonly<Record<ContainerState, readonly ContainerState[]>> = {
  // → active: found running at a start, or back after a restart by its engine.
  starting: ['ready', 'active', 'stopping', 'failed'],
  // → starting: its engine restarted it.
  ready: ['active', 'starting', 'stopping', 'failed'],
  // → starting: its engine restarted it.
  active: ['draining', 'starting', 'failed'],
  // → active: switched back to. → ready: launched again, so it is kept.
  draining: ['active', 'ready', 'stopping', 'failed'],
  stopping: ['failed'],
  // → starting: its engine restarted it.
  failed: ['starting', 'stopping'],
};

/** Whether the table allows it. Staying in a state is no change. */
export function mayBecome(from: ContainerState, to: ContainerState): boolean {
  return TRANSITIONS[from].includes(to);
}
