import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { messageOf } from './errors.ts';
import type { Logger } from './log.ts';
import type { PeerMaterial } from './peer-messages.ts';
import type { PeerConfig } from './peer-options.ts';

/** A file about peers that can't be used: one line that names it. */
export class PeerFileError extends Error {}

/** In bytes; HMAC-SHA256 gets no stronger than with a key as long as its result (RFC 2104 section 3). */
const MIN_SECRET = 32;

/**
 * Reads what the options name; null without a secret, for then no machine is trusted. Throws PeerFileError, which never
 * holds anything of a file's content.
 */
export function readPeerFiles({ peerSecretFile, peerCa }: PeerConfig): PeerMaterial | null {
  if (peerSecretFile === null) return null;
  const secret = trimmed(readFile('--peer-secret-file', peerSecretFile));
  if (secret.length < MIN_SECRET) {
    throw new PeerFileError(
      `--peer-secret-file ${peerSecretFile}: it holds ${secret.length} bytes, at least ${MIN_SECRET} are needed`,
    );
  }
  return { secret: secret.toString('base64'), ca: peerCa === null ? null : readAuthorities(peerCa) };
}

/** Without the white space that editors put around it. */
function trimmed(bytes: Buffer): Buffer {
  return Buffer.from(bytes.toString('latin1').replace(/^[ \t\r\n]+|[ \t\r\n]+$/g, ''), 'latin1');
}

const PEM = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

function readAuthorities(file: string): string {
  const found = readFile('--peer-ca', file).toString('latin1').match(PEM) ?? [];
  try {
    for (const pem of found) new X509Certificate(pem);
  } catch (error) {
    throw new PeerFileError(`--peer-ca ${file}: ${messageOf(error)}`, { cause: error });
  }
  if (found.length === 0) throw new PeerFileError(`--peer-ca ${file}: there is no certificate in it`);
  return found.join('\n');
}

function readFile(option: string, file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new PeerFileError(`${option} ${file}: ${messageOf(error)}`, { cause: error });
  }
}

/**
 * The secret that machines share, kept in the primary, which alone can read its file. A file that turns bad leaves what
 * was read from it before in use.
 */
export class PeerKeeper {
  readonly #config: PeerConfig;
  readonly #log: Logger;
  #material: PeerMaterial | null;

  /** Throws PeerFileError. */
  constructor(config: PeerConfig, log: Logger) {
    this.#config = config;
    this.#log = log;
    this.#material = readPeerFiles(config);
  }

  get material(): PeerMaterial | null {
    return this.#material;
  }

  /** Reads the files again and returns what is to be used from now on. */
  reload(): PeerMaterial | null {
    try {
      this.#material = readPeerFiles(this.#config);
    } catch (error) {
      this.#log.error({ why: messageOf(error) }, 'what is known of peers stays as it was');
    }
    return this.#material;
  }
}
