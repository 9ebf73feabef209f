import { createLogger, dieLoudly } from '../log.ts';
import type { FromWorker, ToWorker } from '../messages.ts';
import type { WorkerConfig } from '../worker-config.ts';
import { DataPlane } from './data-plane.ts';

/*
 * A worker process: the data plane behind the primary's messages. It learns everything from its `start` message and holds
 * nothing that is worth stealing.
 */

/** How long (ms) requests may still run when the primary is gone. */
const ORPHAN_TIMEOUT = 5_000;

process.title = 'wunderproxy: worker';
const log = createLogger('worker');
dieLoudly(log);
// A terminal signals the whole process group; when workers go is the primary's decision.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});

let plane: DataPlane | null = null;

process.on('message', (message: ToWorker) => {
  switch (message.type) {
    case 'start':
      plane ??= start(message.config, message);
      break;
    case 'route':
      plane?.setRoute(message.route);
      break;
    case 'tls':
      plane?.setTls(message.material);
      break;
    case 'peerMaterial':
      plane?.setPeerMaterial(message.material);
      break;
    case 'nonce':
      plane?.answerNonce(message.nonce, message.fresh);
      break;
    case 'challenge':
      plane?.answerChallenge(message.token, message.answer);
      break;
    case 'cut':
      plane?.cut(message.id);
      break;
    case 'retire':
      if (plane === null) process.exit(0);
      plane.retire(message.timeoutMs, message.keepIdle);
      break;
  }
});

process.on('disconnect', () => {
  if (plane === null) process.exit(0);
  plane.retire(ORPHAN_TIMEOUT, false);
});

function start(config: WorkerConfig, message: Extract<ToWorker, { type: 'start' }>): DataPlane {
  const started = new DataPlane(config, message.route, log, send, () => process.exit(0));
  if (config.user !== null) dropPrivileges(config.user);
  // An inherited socket that can't be listened on is an exception like any other: it ends this process.
  void started.listen();
  return started;
}

/** In this order: once the user is another, the groups could not be changed any more. */
function dropPrivileges({ uid, gid }: { uid: number; gid: number }): void {
  process.setgroups?.([]);
  process.setgid?.(gid);
  process.setuid?.(uid);
}

function send(message: FromWorker, onSent = (): void => {}): void {
  if (process.connected) process.send?.(message, undefined, undefined, onSent);
  else onSent();
}
