import { isIP } from 'node:net';
import { domainToASCII } from 'node:url';
import type { Option } from 'commander';
import { option } from './option.ts';
import { parseList } from './units.ts';

/** What the command line says about certificates that are to be had by ACME (RFC 8555). */
export interface AcmeConfig {
  /** Names of the certificate, in lower case and as ASCII, without repetitions; empty: no ACME. */
  acmeDomain: string[];
  /** Where the certificate authority writes to; null: nowhere. */
  acmeEmail: string | null;
  /** The certificate authority: URL of its directory. */
  acmeDirectory: string;
}

/** As commander gives them. */
export interface RawAcme {
  acmeDomain?: string[];
  acmeEmail?: string;
  acmeDirectory: string;
}

const LETS_ENCRYPT = 'https://acme-v02.api.letsencrypt.org/directory';

/** What Let's Encrypt and most others put into one certificate. */
const MAX_DOMAINS = 100;

/** LDH labels, two at least (RFC 5890 section 2.3.1). */
const DOMAIN = /^(?=.{1,253}$)(?:(?!-)[a-z0-9-]{1,63}(?<!-)\.)+(?!-)[a-z0-9-]{1,63}(?<!-)$/;

/** The options of ACME, in the order of `--help` and of README's table. */
export function acmeOptions(): Option[] {
  return [
    option(
      '--acme-domain <name,...>',
      "names of a certificate that is obtained and renewed by ACME; you agree to the authority's terms",
      parseDomains,
    ),
    option('--acme-email <address>', 'where the certificate authority may write to', parseEmail),
    option(
      '--acme-directory <url>',
      "the certificate authority's directory",
      parseDirectory,
      LETS_ENCRYPT,
      LETS_ENCRYPT,
    ),
  ];
}

/** With what is not given filled in. */
export function acmeConfig(raw: RawAcme): AcmeConfig {
  return { acmeDomain: raw.acmeDomain ?? [], acmeEmail: raw.acmeEmail ?? null, acmeDirectory: raw.acmeDirectory };
}

function parseDomains(text: string): string[] {
  const named = parseList(text).map(parseDomain);
  const domains = [...new Set(named)];
  if (domains.length === 0) throw new RangeError('expected at least one domain name');
  if (domains.length > MAX_DOMAINS) throw new RangeError(`expected at most ${MAX_DOMAINS} names for one certificate`);
  return domains;
}

function parseDomain(text: string): string {
  // RFC 8555 section 7.1.3; the CA/Browser Forum allows them by DNS only.
  if (text.includes('*')) throw new RangeError(`${text}: http-01 gives no certificates for wildcards`);
  // It would leave out what is no part of a host, such as a path.
  const ascii = /[^a-zA-Z0-9.\u0080-\uffff-]/.test(text) ? '' : domainToASCII(text.replace(/\.$/, ''));
  // The URL standard takes a name that ends in a number for an IPv4 address.
  if (isIP(ascii) !== 0 || !DOMAIN.test(ascii)) {
    throw new RangeError(`${text} is not a public domain name such as www.example.com`);
  }
  return ascii;
}

function parseEmail(text: string): string {
  // RFC 8555 section 7.3: one address, without the further fields that mailto: would allow.
  if (!/^[^\s@,?&<>%]+@[^\s@,?&<>%]+\.[^\s@,?&<>%]+$/.test(text)) throw new RangeError('expected an e-mail address');
  return text;
}

function parseDirectory(text: string): string {
  // RFC 8555 section 6.1.
  if (!URL.canParse(text) || new URL(text).protocol !== 'https:') throw new RangeError('expected an https URL');
  return text;
}
