import type { Option } from 'commander';
import type { AcmeConfig } from './acme-options.ts';
import { option, repeatable, UsageError } from './option.ts';
import { parseDuration, parseList } from './units.ts';

/** What the command line says about TLS. */
export interface TlsConfig {
  /** PEM files, the first with the first of `tlsKey` and so on. */
  tlsCert: string[];
  tlsKey: string[];
  /** Folder of certificates with their keys, or null. */
  tlsDir: string | null;
  /** Value of Strict-Transport-Security, or null. */
  hsts: string | null;
  /** Paths that are served over plain HTTP although there is TLS. */
  plainPath: string[];
}

/** As commander gives them. */
export type RawTls = Partial<Omit<TlsConfig, 'tlsDir' | 'hsts'>> & { tlsDir?: string; hsts?: string };

/** The options about TLS, in the order of `--help` and of README's table. */
export function tlsOptions(): Option[] {
  return [
    repeatable('--tls-cert <file>', 'PEM file with a certificate and its chain; may be repeated'),
    repeatable('--tls-key <file>', 'PEM file with the private key; as many as --tls-cert, in the same order'),
    option('--tls-dir <dir>', 'folder of certificates: name.crt with name.key, or name.pem with both'),
    option('--hsts <dur[,...]>', 'send Strict-Transport-Security; includeSubDomains and preload may follow', parseHsts),
    option('--plain-path <path,...>', 'paths served over plain HTTP too, where all else is sent to https', parsePaths),
  ];
}

/** RFC 6797 section 6.1; `preload` is what browsers' lists ask for. */
const HSTS_DIRECTIVES = new Map(['includeSubDomains', 'preload'].map((name) => [name.toLowerCase(), name]));

function parseHsts(text: string): string {
  const [duration = '', ...rest] = text.split(',').map((part) => part.trim());
  const directives = rest.map((name) => {
    const known = HSTS_DIRECTIVES.get(name.toLowerCase());
    if (known === undefined) throw new RangeError(`${name || 'nothing'} is neither includeSubDomains nor preload`);
    return known;
  });
  return [`max-age=${Math.floor(parseDuration(duration) / 1_000)}`, ...directives].join('; ');
}

function parsePaths(text: string): string[] {
  const paths = parseList(text);
  for (const path of paths) {
    if (!/^\/[\x21\x22\x24-\x3e\x40-\x7e]*$/.test(path)) throw new RangeError(`${path} is not a path such as /up`);
  }
  return paths;
}

/** With what is not given filled in. Throws UsageError when certificates and keys do not pair up. */
export function tlsConfig(raw: RawTls): TlsConfig {
  const { tlsCert = [], tlsKey = [], tlsDir = null, hsts = null, plainPath = [] } = raw;
  if (tlsCert.length !== tlsKey.length) {
    throw new UsageError(`--tls-cert and --tls-key come in pairs: there are ${tlsCert.length} and ${tlsKey.length}`);
  }
  return { tlsCert, tlsKey, tlsDir, hsts, plainPath };
}

/** Whether the TLS listener is to be opened. */
export function servesTls(config: TlsConfig & Pick<AcmeConfig, 'acmeDomain'>): boolean {
  return config.tlsCert.length > 0 || config.tlsDir !== null || config.acmeDomain.length > 0;
}
