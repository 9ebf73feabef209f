import { accessSync, constants } from 'node:fs';
import type { Service } from './service.ts';

const PROGRAM = '/usr/bin/chromium';

/** Debian's Chromium; each test file starts its own. */
export const chromiumService: Service = {
  name: 'Chromium',
  async start() {
    accessSync(PROGRAM, constants.X_OK);
    return { env: { TEST_CHROMIUM: PROGRAM }, stop: async () => {} };
  },
};
