import { join } from 'node:path';
import type { LaunchConfig } from '../../src/manager/launch-config.ts';
import { TestEngine } from '../support/engine.ts';
import { runtimeContract } from './runtime.contract.ts';

const SERVER = join(import.meta.dirname, '../support/app/server.js');

function config(settings: Record<string, string> = {}, containerConfig: Record<string, unknown> = {}): LaunchConfig {
  const Env = Object.entries(settings).map(([key, value]) => `${key}=${value}`);
  return {
    ContainerConfig: { Cmd: [process.execPath, SERVER], Env, ...containerConfig },
    HealthCheckPath: '/up',
    Revision: 'v1',
  };
}

runtimeContract('the process runtime', async () => {
  const engine = new TestEngine();
  const runtime = engine.connect();
  return Promise.resolve({
    runtime,
    successor: () => engine.connect(),
    config,
    withoutCommand: () => config({}, { Cmd: ['no-such-command'] }),
    close: async () => {
      runtime.close();
      await engine.disconnect();
    },
  });
});
