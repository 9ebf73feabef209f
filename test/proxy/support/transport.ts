import { randomBytes } from 'node:crypto';
import type { TlsMaterial } from '../../../src/worker-config.ts';
import { issue } from '../../support/certificates.ts';

/**
 * Test files that speak through RawClient to a TestWorker can be run a second time over TLS: see over-tls.test.ts. What
 * holds for HTTP/1 must hold there too.
 */
export const overTls = process.env['TEST_OVER_TLS'] === 'true';

export const TEST_HOST = 'localhost';

let material: TlsMaterial | null = null;

/** A certificate for TEST_HOST that clients of the tests trust. */
export function testMaterial(): TlsMaterial {
  material ??= {
    certificates: [{ source: 'test.crt', ...issue({ names: [TEST_HOST] }) }],
    ticketKey: randomBytes(48).toString('base64'),
  };
  return material;
}
