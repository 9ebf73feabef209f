import { createPrivateKey, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** How a certificate is to be made. */
export interface CertificateRequest {
  /** Host names, also of its subject (the first). */
  names: string[];
  type?: 'ec' | 'rsa';
  /** Default: since yesterday. */
  notBefore?: Date;
  /** Default: for 90 days. */
  notAfter?: Date;
  /** Default: itself. */
  issuer?: IssuedCertificate;
  /** May issue others. */
  authority?: boolean;
}

/** A certificate and its private key, PEM. */
export interface IssuedCertificate {
  cert: string;
  key: string;
  commonName: string;
}

const DAY = 86_400_000;

/** Makes a key and an X.509 certificate for it (RFC 5280). */
export function issue(request: CertificateRequest): IssuedCertificate {
  const { names, type = 'ec', issuer, authority = false } = request;
  const { notBefore = new Date(Date.now() - DAY), notAfter = new Date(Date.now() + 90 * DAY) } = request;
  const { publicKey, privateKey } =
    type === 'ec'
      ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
      : generateKeyPairSync('rsa', { modulusLength: 2_048 });
  const commonName = names[0] ?? '';
  const signer = issuer === undefined ? privateKey : createPrivateKey(issuer.key);
  const algorithm = algorithmOf(signer);
  const extensions = [extension('2.5.29.17', sequence(...names.map(alternativeName)))];
  if (authority) extensions.push(extension('2.5.29.19', sequence(der(0x01, Buffer.from([0xff])))));
  const signed = sequence(
    der(0xa0, integer(Buffer.from([2]))),
    integer(Buffer.concat([Buffer.from([1]), randomBytes(15)])),
    algorithm,
    nameOf(issuer?.commonName ?? commonName),
    sequence(time(notBefore), time(notAfter)),
    nameOf(commonName),
    publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(...extensions)),
  );
  const signature = der(0x03, Buffer.from([0]), sign('sha256', signed, signer));
  const lines =
    sequence(signed, algorithm, signature)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return {
    cert: ['-----BEGIN CERTIFICATE-----', ...lines, '-----END CERTIFICATE-----', ''].join('\n'),
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    commonName,
  };
}

/** Writes `name.crt` and `name.key`; returns the options that name them. */
export function writePair(folder: string, name: string, { cert, key }: IssuedCertificate): string[] {
  writeFileSync(join(folder, `${name}.crt`), cert);
  writeFileSync(join(folder, `${name}.key`), key, { mode: 0o600 });
  return ['--tls-cert', join(folder, `${name}.crt`), '--tls-key', join(folder, `${name}.key`)];
}

// DER (ITU-T X.690) -------------------------------------------------------------------------------------------------

function der(tag: number, ...contents: Buffer[]): Buffer {
  const content = Buffer.concat(contents);
  const { length } = content;
  const size = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...size]), content]);
}

function sequence(...contents: Buffer[]): Buffer {
  return der(0x30, ...contents);
}

function integer(bytes: Buffer): Buffer {
  return der(0x02, bytes);
}

function objectId(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  const bytes = [first * 40 + second];
  for (const part of rest) {
    const groups = [part & 0x7f];
    for (let left = part >> 7; left > 0; left >>= 7) groups.unshift((left & 0x7f) | 0x80);
    bytes.push(...groups);
  }
  return der(0x06, Buffer.from(bytes));
}

function algorithmOf(signer: KeyObject): Buffer {
  return signer.asymmetricKeyType === 'rsa'
    ? sequence(objectId('1.2.840.113549.1.1.11'), der(0x05))
    : sequence(objectId('1.2.840.10045.4.3.2'));
}

function nameOf(commonName: string): Buffer {
  return sequence(der(0x31, sequence(objectId('2.5.4.3'), der(0x0c, Buffer.from(commonName)))));
}

function alternativeName(name: string): Buffer {
  return der(0x82, Buffer.from(name));
}

function extension(id: string, value: Buffer): Buffer {
  return sequence(objectId(id), der(0x04, value));
}

function time(date: Date): Buffer {
  const digits = date.toISOString().replace(/[-:T]|\.\d+/g, '');
  return date.getUTCFullYear() < 2050 ? der(0x17, Buffer.from(digits.slice(2))) : der(0x18, Buffer.from(digits));
}
