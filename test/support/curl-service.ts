import type { Service } from './service.ts';

/** Nothing to start: it is enough that it is installed. */
export const curlService: Service = {
  name: 'curl',
  start: () => Promise.resolve({ env: { TEST_CURL: 'curl' }, stop: () => Promise.resolve() }),
};
