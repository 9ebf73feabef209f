import type { Config } from '../../src/config.ts';

/** How an option is written, and what it means. */
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
export const PEER_CASES: Record<string, OptionCase> = {
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
