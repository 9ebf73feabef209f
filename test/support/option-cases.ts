import type { Config } from '../../src/config.ts';

/** What an option takes and refuses. */
export interface OptionCase {
  key: keyof Config;
  /** What is written, and what it means; null: the flag takes no value. */
  value: [string | null, unknown];
  /** Another, to tell which of two wins. */
  other: [string, unknown];
  /** Without the option, where that is the same on every machine. */
  fallback?: unknown;
  bad: string[];
  /** An option that must be given as many values. */
  partner?: string;
}

/** The options of machines that see one another. */
export const FLEET_OPTIONS: Record<string, OptionCase> = {
  '--api-url': {
    key: 'apiUrl',
    value: ['https://web1.example.com/proxy/', 'https://web1.example.com/proxy'],
    other: ['http://10.0.0.1:8001', 'http://10.0.0.1:8001'],
    fallback: null,
    bad: [
      '',
      'web1:8001',
      'unix:/run/api',
      'ftp://web1',
      'http://root:secret@web1',
      'http://web1/?token=x',
      'http://x/#y',
    ],
  },
  '--heartbeat': {
    key: 'heartbeat',
    value: ['1s', 1_000],
    other: ['5m', 300_000],
    fallback: 10_000,
    bad: ['10', '0s', '999ms', '301s', ''],
  },
};
