import { ChildProcesses } from './engine-children.ts';
import { createLogger, dieLoudly } from './log.ts';
import { messageOf } from './errors.ts';
import type { FromEngine, ToEngine } from './engine-messages.ts';

/*
 * The engine of `--runtime process`: owns the application's child processes, so that they outlive a manager that
 * crashes. It ends with the primary, and they with it.
 */

/** How long the children may take to end after the primary did, in ms. */
const END_GRACE = 2_000;

process.title = 'wunderproxy: engine';
const log = createLogger('engine');
dieLoudly(log);

const children = new ChildProcesses({
  changed: (id) => {
    send({ type: 'changed', id });
  },
});

function send(message: FromEngine): void {
  if (process.connected) process.send?.(message, undefined, undefined, () => {});
}

async function answer(message: ToEngine): Promise<unknown> {
  switch (message.method) {
    case 'list':
      return children.list();
    case 'create':
      return children.create(message);
    case 'start':
      children.start(message.id);
      return null;
    case 'mark':
      children.mark(message.id, message.mark);
      return null;
    case 'logs':
      return children.logs(message.id, message.lines);
    case 'lines-since':
      return children.linesSince(message.id, message.ended, message.lines);
    case 'stop':
      await children.stop(message.id, message.timeoutMs);
      return null;
    case 'remove':
      await children.remove(message.id);
      return null;
  }
}

process.on('message', (message: ToEngine) => {
  const { call } = message;
  answer(message).then(
    (result) => {
      send({ type: 'reply', call, result });
    },
    (error: unknown) => {
      send({ type: 'reply', call, error: messageOf(error) });
    },
  );
});

// Ctrl-C and a service manager signal every process of the program. This one is to outlast the others: the children
// still have requests to finish.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});

process.on('disconnect', () => {
  void children.stopAll(END_GRACE).then(() => process.exit(0));
});

process.on('exit', () => {
  children.killAll();
});
