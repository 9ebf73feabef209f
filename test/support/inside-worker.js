// Preloaded into a worker (NODE_OPTIONS=--import): at SIGUSR2 it tries what somebody would who has taken the worker over,
// and logs what came of it. What to try stands in the file that TMPDIR holds: workers get no other variable of ours.
import { url as debuggerUrl } from 'node:inspector';
import { open, openSync, readdirSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';

/** @param {() => unknown} act */
function outcome(act) {
  try {
    act();
    return 'done';
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code ?? String(error);
  }
}

/** @param {string} path */
async function tryAll(path) {
  const read = await new Promise((resolve) => open(path, 'r', (error) => resolve(error?.code ?? 'done')));
  const connected = await new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => resolve('done')).once('error', (error) => resolve(error.code));
  });
  return {
    read,
    readSync: outcome(() => openSync(path, 'r')),
    write: outcome(() => openSync(path, 'a')),
    list: outcome(() => readdirSync(path)),
    connected,
  };
}

if (process.argv[1]?.endsWith('/proxy/worker.js') === true) {
  process.on('SIGUSR2', () => {
    const { paths } = JSON.parse(readFileSync(join(process.env.TMPDIR ?? '', 'tries.json'), 'utf8'));
    void Promise.all(paths.map(async (path) => [path, await tryAll(path)])).then((tried) => {
      const root = outcome(() => process.setuid?.(0));
      const groups = outcome(() => process.setgroups?.([0]));
      const line = {
        msg: 'tried',
        pid: process.pid,
        debugger: debuggerUrl() ?? null,
        root,
        groups,
        tried: Object.fromEntries(tried),
        env: process.env,
      };
      process.stdout.write(`${JSON.stringify(line)}\n`);
    });
  });
}
