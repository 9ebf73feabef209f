import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { unpackPackage } from './packages.ts';
import type { Service } from './service.ts';

/** Prometheus' own checker: the one of this machine, or that of Debian's package, of which nothing else is used. */
export const promtoolService: Service = {
  name: 'promtool',
  start: async (dir) => {
    let path = 'promtool';
    if (spawnSync(path, ['--version'], { stdio: 'ignore' }).status !== 0) {
      unpackPackage('prometheus', dir);
      path = join(dir, 'usr/bin/promtool');
    }
    return Promise.resolve({ env: { TEST_PROMTOOL: path }, stop: async () => Promise.resolve() });
  },
};
