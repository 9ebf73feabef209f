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

/** The options about other machines. */
export const PEER_OPTIONS: Record<string, OptionCase> = {
  '--peer': {
    key: 'peer',
    value: ['http://10.0.0.2', ['http://10.0.0.2']],
    other: [
      'http://10.0.0.2:80/, https://web2.example:8443, http://[fd00::2]:8080,http://10.0.0.2',
      ['http://10.0.0.2', 'https://web2.example:8443', 'http://[fd00::2]:8080'],
    ],
    partner: '--peer-secret-file',
    fallback: [],
    bad: [
      '',
      ',',
      '10.0.0.2',
      'ftp://10.0.0.2',
      'http://10.0.0.2/path',
      'http://10.0.0.2?x',
      'http://a:b@10.0.0.2',
      'http://',
      Array.from({ length: 65 }, (_, i) => `http://10.0.1.${i}`).join(),
    ],
  },
  '--peers-dns': {
    key: 'peersDns',
    value: ['peers.example', { name: 'peers.example', port: 80 }],
    other: ['_shop._tcp.peers:8080', { name: '_shop._tcp.peers', port: 8_080 }],
    partner: '--peer-secret-file',
    fallback: null,
    bad: ['', 'http://peers.example', 'peers.example:0', 'peers.example:http', '10.0.0.2', '[fd00::2]', 'a b', 'a:1:2'],
  },
  '--peer-secret-file': {
    key: 'peerSecretFile',
    value: ['/etc/secret', '/etc/secret'],
    other: ['/run/secret', '/run/secret'],
    fallback: null,
    bad: [],
  },
  '--peer-ca': {
    key: 'peerCa',
    value: ['/etc/ca.pem', '/etc/ca.pem'],
    other: ['b.pem', 'b.pem'],
    fallback: null,
    bad: [],
  },
  '--fallback-on': {
    key: 'fallbackOn',
    value: ['502', [502]],
    other: [' 502, 502', [502]],
    fallback: [],
    bad: ['503', '504', '502,503', '500', '', 'all'],
  },
  '--debug-headers': { key: 'debugHeaders', value: [null, true], other: ['true', true], fallback: false, bad: [] },
};

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
