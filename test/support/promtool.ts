import { spawnSync } from 'node:child_process';

/** What `promtool check metrics` has to say against a scrape; nothing when it is clean. */
export function complaintsOfPromtool(scrape: string): string {
  const { status, stdout, stderr, error } = spawnSync(process.env.TEST_PROMTOOL ?? 'promtool', ['check', 'metrics'], {
    input: scrape,
    encoding: 'utf8',
  });
  if (error) throw error;
  return status === 0 ? `${stdout}${stderr}`.trim() : `status ${status}: ${stdout}${stderr}`.trim();
}
