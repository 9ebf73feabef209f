import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { issue } from './certificates.ts';
import type { Service } from './service.ts';

/**
 * What a Pebble needs to speak TLS. Each test starts its own (pebble.ts): where it looks for answers to challenges is
 * fixed when it starts, and it is up in no time. TEST_PEBBLE is the folder of its `cert.pem` and `key.pem`, for `localhost`;
 * `pebble` and `pebble-challtestsrv` are found in PATH.
 */
export const pebbleService: Service = {
  name: 'ACME (Pebble)',
  start(dir) {
    const { cert, key } = issue({ names: ['localhost'], authority: true });
    writeFileSync(join(dir, 'cert.pem'), cert);
    writeFileSync(join(dir, 'key.pem'), key, { mode: 0o600 });
    return Promise.resolve({ env: { TEST_PEBBLE: dir }, stop: () => Promise.resolve() });
  },
};
