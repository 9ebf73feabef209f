import { after } from 'node:test';
import { DockerRuntime } from '../../src/manager/docker-runtime.ts';
import { createLogger } from '../../src/log.ts';
import type { LaunchConfig } from '../../src/manager/launch-config.ts';
import { dockerForTest } from '../support/docker.ts';
import { runtimeContract } from './runtime.contract.ts';

runtimeContract('the Docker runtime', async () => {
  const docker = await dockerForTest({ after });
  await docker.appImage('v1');
  const open = () =>
    new DockerRuntime({
      app: docker.app,
      environment: 'test',
      registryPort: docker.registryPort,
      openArtifact: () => Promise.resolve(null),
      log: createLogger('manager'),
      dockerHost: docker.host,
    });
  const config = (
    settings: Record<string, string> = {},
    containerConfig: Record<string, unknown> = {},
  ): LaunchConfig => ({
    ContainerConfig: { Env: Object.entries(settings).map(([key, value]) => `${key}=${value}`), ...containerConfig },
    HealthCheckPath: '/up',
    Revision: 'v1',
  });
  const runtime = open();
  return {
    runtime,
    successor: open,
    config,
    withoutCommand: () => config({}, { Cmd: ['no-such-command'] }),
    close: () => {
      runtime.close();
      return Promise.resolve();
    },
  };
});
