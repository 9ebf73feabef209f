import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { CertificateError } from './certificates.ts';
import { messageOf } from './errors.ts';
import type { Certificate } from './worker-config.ts';
import type { TlsConfig } from './tls-options.ts';

/** Where a certificate and its key stand: two files, or one with both. */
export interface CertificateFile {
  cert: string;
  key: string;
}

/** The files that options name, those of `--tls-dir` last and by name. Rejects with CertificateError. */
export async function listFiles(config: TlsConfig): Promise<CertificateFile[]> {
  const named = config.tlsCert.map((cert, i) => ({ cert, key: config.tlsKey[i] ?? cert }));
  return config.tlsDir === null ? named : [...named, ...(await listDirectory(config.tlsDir))];
}

async function listDirectory(directory: string): Promise<CertificateFile[]> {
  let names: string[];
  try {
    // Kubernetes keeps what its links point to in `..data`.
    names = (await readdir(directory)).filter((name) => !name.startsWith('.')).toSorted();
  } catch (error) {
    throw new CertificateError(`--tls-dir ${directory}: ${messageOf(error)}`, { cause: error });
  }
  const files: CertificateFile[] = [];
  for (const name of names) {
    const file = join(directory, name);
    if (name.endsWith('.pem')) files.push({ cert: file, key: file });
    if (name.endsWith('.crt')) files.push({ cert: file, key: file.replace(/\.crt$/, '.key') });
    if (name.endsWith('.key') && !names.includes(name.replace(/\.key$/, '.crt'))) {
      throw new CertificateError(`${file}: there is no ${name.replace(/\.key$/, '.crt')} for it`);
    }
  }
  if (files.length === 0) throw new CertificateError(`--tls-dir ${directory}: there is no .crt or .pem in it`);
  return files;
}

/** Rejects with CertificateError. */
export async function readCertificate(file: CertificateFile): Promise<Certificate> {
  return { source: file.cert, cert: await read(file.cert), key: await read(file.key) };
}

async function read(file: string): Promise<string> {
  try {
    return await readFile(file, 'latin1');
  } catch (error) {
    throw new CertificateError(`${file}: ${messageOf(error)}`, { cause: error });
  }
}

/**
 * A text that changes with the files: by content, replacement or a link that points elsewhere. Never rejects; what can't
 * be looked at is part of it.
 */
export async function fingerprint(config: TlsConfig): Promise<string> {
  try {
    const paths = (await listFiles(config)).flatMap(({ cert, key }) => (cert === key ? [cert] : [cert, key]));
    return (await Promise.all(paths.map(look))).join('\n');
  } catch (error) {
    return messageOf(error);
  }
}

async function look(path: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
    return [path, dev, ino, size, mtimeNs, ctimeNs].join(' ');
  } catch (error) {
    return `${path} ${messageOf(error)}`;
  }
}
