import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

/** What curl writes to stdout. Rejects with what it says when it fails; nothing takes it longer than 20 s. */
export async function curl(...args: string[]): Promise<Buffer> {
  const options = { encoding: 'buffer' as const, maxBuffer: 64 * 2 ** 20 };
  const always = ['--silent', '--show-error', '--fail', '--max-time', '20'];
  const { stdout } = await promisify(execFile)(process.env['TEST_CURL'] ?? 'curl', [...always, ...args], options);
  return stdout;
}
