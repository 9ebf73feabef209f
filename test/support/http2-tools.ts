import { once } from 'node:events';
import { type Cleanup, spawnForTest } from './processes.ts';
import type { Service } from './service.ts';

/** Only has to be installed. */
export const http2Tools: Service = {
  name: 'HTTP/2 clients',
  start() {
    return Promise.resolve({ env: {}, stop: () => Promise.resolve() });
  },
};

/** Runs one of curl, nghttp and h2load to its end. Rejects when it fails. */
export async function runTool(t: Cleanup, tool: 'curl' | 'nghttp' | 'h2load', args: string[]): Promise<Buffer> {
  const child = spawnForTest(t, tool, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const chunks: Buffer[] = [];
  let complaints = '';
  child.stdout?.on('data', (chunk: Buffer) => chunks.push(chunk));
  child.stderr?.on('data', (chunk: Buffer) => (complaints += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`${tool} ended with ${code}: ${complaints}`);
  return Buffer.concat(chunks);
}
