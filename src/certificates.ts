import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import { messageOf } from './errors.ts';
import type { CertificateInfo } from './messages.ts';
import type { Certificate } from './worker-config.ts';

/** A certificate can't be used: one line that names its file and says why. */
export class CertificateError extends Error {}

/** A certificate, taken apart. */
export interface ParsedCertificate {
  certificate: Certificate;
  info: CertificateInfo;
  /** Of its names, those that TLS can ask for (RFC 6066 section 3), in lower case; a leading `*.` stands for one label. */
  hosts: string[];
  /** Of the key, as Node names it: `rsa`, `ec`, … */
  keyType: string;
}

const ONE_CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/;
const ENCRYPTED_KEY = /-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED/m;

/**
 * As `parseCertificate`, and proves that a TLS server can use it with its key. Throws CertificateError. Whether it is
 * valid at this time is not asked: an expired certificate is better than none.
 */
export function checkCertificate(certificate: Certificate): ParsedCertificate {
  const { source, cert, key } = certificate;
  const parsed = parseCertificate(certificate);
  const matches = attempt(source, 'the key can not be compared', () =>
    readLeaf(certificate).checkPrivateKey(readKey(certificate)),
  );
  if (!matches) throw new CertificateError(`${source}: the certificate and the private key do not belong together`);
  attempt(source, 'TLS can not use it', () => createSecureContext({ cert, key, minVersion: 'TLSv1.2' }));
  return parsed;
}

/** Throws CertificateError when there is no certificate or no key that can be read. */
export function parseCertificate(certificate: Certificate): ParsedCertificate {
  const { source } = certificate;
  const leaf = readLeaf(certificate);
  const key = readKey(certificate);
  const { hosts, addresses } = alternativeNames(leaf);
  return {
    certificate,
    info: {
      names: [...hosts, ...addresses],
      source,
      issuer: issuerOf(leaf),
      notBefore: leaf.validFromDate.getTime(),
      notAfter: leaf.validToDate.getTime(),
      problem: null,
    },
    hosts,
    keyType: key.asymmetricKeyType ?? '',
  };
}

function readLeaf({ source, cert }: Certificate): X509Certificate {
  const pem = ONE_CERTIFICATE.exec(cert)?.[0];
  if (pem === undefined) throw new CertificateError(`${source}: there is no PEM certificate in it`);
  return attempt(source, 'the certificate can not be read', () => new X509Certificate(pem));
}

function readKey({ source, key }: Certificate): KeyObject {
  if (!/-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(key)) {
    throw new CertificateError(`${source}: there is no PEM private key for it`);
  }
  if (ENCRYPTED_KEY.test(key)) throw new CertificateError(`${source}: its private key is protected by a password`);
  return attempt(source, 'the private key can not be read', () => createPrivateKey(key));
}

/** OpenSSL's messages name what is wrong, never what stands in a key. */
function attempt<T>(source: string, what: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw new CertificateError(`${source}: ${what}: ${messageOf(error)}`, { cause: error });
  }
}

/** Names with a comma or quote in them, which Node writes in quotes, can be nobody's host name. */
function alternativeNames(leaf: X509Certificate): { hosts: string[]; addresses: string[] } {
  const parts = (leaf.subjectAltName ?? '').split(', ');
  const of = (kind: string) => parts.flatMap((part) => (part.startsWith(kind) ? [part.slice(kind.length)] : []));
  const hosts = of('DNS:')
    .map((name) => name.toLowerCase())
    .filter((name) => /^(?:\*\.)?[a-z0-9._-]+$/.test(name));
  return { hosts, addresses: of('IP Address:') };
}

/** The common name, else the organization, else all that there is. */
function issuerOf({ issuer }: X509Certificate): string {
  const lines = issuer.split('\n');
  const named = (attribute: string) =>
    lines.find((line) => line.startsWith(`${attribute}=`))?.slice(attribute.length + 1);
  return named('CN') ?? named('O') ?? lines.join(', ');
}
