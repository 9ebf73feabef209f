import { join } from 'node:path';
import { DockerDaemon } from './docker-daemon.ts';
import { buildBaseImage } from './image.ts';
import { ImageRegistry } from './registry.ts';
import type { Service } from './service.ts';

/** A Docker Engine with the test application's image, and a registry on this machine. */
export const dockerService: Service = {
  name: 'Docker Engine and registry',
  async start(dir) {
    const daemon = await DockerDaemon.start(join(dir, 'engine'));
    const stops = [() => daemon.stop()];
    const stop = async () => {
      for (const each of stops.splice(0)) await each();
    };
    try {
      const registry = await ImageRegistry.start(join(dir, 'registry'));
      stops.push(() => registry.stop());
      await buildBaseImage(daemon.docker);
      return { env: { DOCKER_HOST: daemon.host, TEST_REGISTRY_PORT: String(registry.port) }, stop };
    } catch (error) {
      await stop();
      throw error;
    }
  },
};
