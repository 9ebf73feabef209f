import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { messageOf } from './errors.ts';
import type { Logger } from './log.ts';
import type { PeerMaterial } from './peer-messages.ts';
import type { PeerConfig } from './peer-options.ts';
import { readSecrets } from './secret-file.ts';

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
  const secrets = attempt('--peer-secret-file', peerSecretFile, () => readSecrets(peerSecretFile));
  for (const { line, text } of secrets) {
    if (text.length >= MIN_SECRET) continue;
    throw new PeerFileError(
      `--peer-secret-file ${peerSecretFile}: line ${line} holds ${text.length} bytes, at least ${MIN_SECRET} are needed`,
    );
  }
  const encoded = secrets.map(({ text }) => Buffer.from(text, 'latin1').toString('base64'));
  return { secrets: encoded, ca: peerCa === null ? null : readAuthorities(peerCa) };
}

const PEM = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

function readAuthorities(file: string): string {
  const found = attempt('--peer-ca', file, () => readFileSync(file, 'latin1')).match(PEM) ?? [];
  try {
    for (const pem of found) new X509Certificate(pem);
  } catch (error) {
    throw new PeerFileError(`--peer-ca ${file}: ${messageOf(error)}`, { cause: error });
  }
  if (found.length === 0) throw new PeerFileError(`--peer-ca ${file}: there is no certificate in it`);
  return found.join('\n');
}

function attempt<T>(option: string, file: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw new PeerFileError(`${option} ${file}: ${messageOf(error)}`, { cause: error });
  }
}

/**
 * The secrets that machines share, kept in the primary, which alone can read their file. A file that turns bad leaves what
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
      if (this.#material !== null)
        this.#log.info({ secrets: this.#material.secrets.length }, "the peers' secret was read");
    } catch (error) {
      this.#log.error({ why: messageOf(error) }, 'what is known of peers stays as it was');
    }
    return this.#material;
  }
}
