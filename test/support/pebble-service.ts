import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import type { Service } from './service.ts';

/**
 * What a Pebble needs to speak TLS. Each test starts its own (pebble.ts): where it looks for answers to challenges is
 * fixed when it starts, and it is up in no time.
 */
export const pebbleService: Service = {
  name: 'ACME (Pebble)',
  start(dir) {
    const made = spawnSync(
      'openssl',
      [
        ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
        ...['-subj', '/CN=Pebble of a test', '-addext', 'subjectAltName=IP:127.0.0.1'],
        ...['-keyout', join(dir, 'key.pem'), '-out', join(dir, 'cert.pem')],
      ],
      { encoding: 'utf8' },
    );
    if (made.status !== 0) throw new Error(`openssl ended with ${made.status ?? made.error?.message}: ${made.stderr}`);
    return Promise.resolve({ env: { TEST_PEBBLE: dir }, stop: () => Promise.resolve() });
  },
};
