import { randomBytes } from 'node:crypto';
import { type CertificateFile, fingerprint, listFiles, readCertificate } from './certificate-files.ts';
import { CertificateError, checkCertificate, type ParsedCertificate } from './certificates.ts';
import { messageOf } from './errors.ts';
import type { Logger } from './log.ts';
import type { CertificateInfo } from './messages.ts';
import type { Certificate, TlsMaterial } from './worker-config.ts';
import type { TlsConfig } from './tls-options.ts';
import { isoTime } from './units.ts';

/** How often (ms) the files are looked at. */
const WATCH_INTERVAL = 2_000;
/** How long (ms) one key may protect session tickets: who steals it can read the sessions that it was used for. */
const TICKET_KEY_LIFE = 12 * 3_600_000;
/** From so long (ms) before its end on a certificate is warned of: what renews them by itself begins earlier. */
const LAST_DAYS = 14 * 86_400_000;
/** Name, HMAC key and AES key of a ticket, as Node's `ticketKeys` wants them. */
const TICKET_KEY_BYTES = 48;

/** What the keeper tells its owner. */
export interface TlsKeeperEvents {
  /** Workers are to use this from now on. */
  onMaterial(material: TlsMaterial): void;
  onCertificates(certificates: CertificateInfo[]): void;
}

/**
 * The certificates and the key of session tickets, kept in the primary, which alone can read the files. All workers get
 * the same, so a session that one began is taken up by any.
 *
 * A file that turns bad leaves what was read from it before in use.
 */
export class TlsKeeper {
  readonly #config: TlsConfig;
  readonly #log: Logger;
  #events: TlsKeeperEvents | null = null;
  #fromFiles: ParsedCertificate[] = [];
  /** By ACME. */
  #obtained: ParsedCertificate[] = [];
  /** Of files that are not in use as they are now, by source. */
  readonly #problems = new Map<string, string>();
  #ticketKey = randomBytes(TICKET_KEY_BYTES);
  /** Of the files as they were last read, and as they were last seen. */
  #read = '';
  #seen = '';
  /** One look at the files at a time: on a slow disk they could overtake one another. */
  #work: Promise<void> = Promise.resolve();
  #waiting = 0;

  /** Reads all certificates. Rejects with CertificateError when one can't be served. */
  static async open(config: TlsConfig, log: Logger): Promise<TlsKeeper> {
    const keeper = new TlsKeeper(config, log);
    keeper.#read = await fingerprint(config);
    keeper.#seen = keeper.#read;
    for (const file of await listFiles(config)) {
      keeper.#fromFiles.push(checkCertificate(await readCertificate(file)));
    }
    keeper.#warnOfDates();
    return keeper;
  }

  private constructor(config: TlsConfig, log: Logger) {
    this.#config = config;
    this.#log = log;
  }

  get material(): TlsMaterial {
    return { certificates: this.#certificates(), ticketKey: this.#ticketKey.toString('base64') };
  }

  #certificates(): Certificate[] {
    return this.#served().map(({ certificate }) => certificate);
  }

  #served(): ParsedCertificate[] {
    return [...this.#fromFiles, ...this.#obtained];
  }

  /** What is served now, and what could not be read. */
  get infos(): CertificateInfo[] {
    const served = this.#served().map(({ info }) => ({ ...info, problem: this.#problems.get(info.source) ?? null }));
    const sources = new Set(served.map(({ source }) => source));
    const unread = [...this.#problems].filter(([source]) => !sources.has(source));
    return [
      ...served,
      ...unread.map(([source, problem]) => ({ names: [], source, issuer: '', notBefore: 0, notAfter: 0, problem })),
    ];
  }

  /** From now on changed files are taken up by themselves, and the ticket key changes from time to time. */
  watch(events: TlsKeeperEvents): void {
    this.#events = events;
    setInterval(() => {
      if (this.#waiting === 0) this.#enqueue(() => this.#look());
    }, WATCH_INTERVAL).unref();
    setInterval(() => {
      this.#changeTicketKey();
      this.#warnOfDates();
    }, TICKET_KEY_LIFE).unref();
  }

  /** What the manager has obtained by ACME, served after those of files. One that can't be served changes nothing. */
  setObtained(certificates: Certificate[]): void {
    try {
      this.#obtained = certificates.map(checkCertificate);
    } catch (error) {
      this.#log.error({ why: messageOf(error) }, 'a certificate is refused: what was served before stays');
    }
    this.#announce();
  }

  /** Reads the files again, whether they have changed or not. */
  reload(): void {
    this.#enqueue(() => this.#reload());
  }

  #enqueue(work: () => Promise<void>): void {
    this.#waiting++;
    this.#work = this.#work
      .then(work)
      .catch((err: unknown) => this.#log.error({ err }, 'certificates could not be read'))
      .finally(() => this.#waiting--);
  }

  async #reload(): Promise<void> {
    this.#read = await fingerprint(this.#config);
    this.#seen = this.#read;
    await this.#readAgain();
    this.#announce();
  }

  /** A certificate and its key are replaced one after the other, so a change is taken up once it has come to rest. */
  async #look(): Promise<void> {
    const now = await fingerprint(this.#config);
    const resting = now === this.#seen;
    this.#seen = now;
    if (resting && now !== this.#read) await this.#reload();
  }

  async #readAgain(): Promise<void> {
    this.#problems.clear();
    let files: CertificateFile[];
    try {
      files = await listFiles(this.#config);
    } catch (error) {
      return this.#refuse(this.#config.tlsDir ?? '', error);
    }
    const read: ParsedCertificate[] = [];
    for (const file of files) {
      try {
        read.push(checkCertificate(await readCertificate(file)));
      } catch (error) {
        this.#refuse(file.cert, error);
        const before = this.#fromFiles.find(({ info }) => info.source === file.cert);
        if (before !== undefined) read.push(before);
      }
    }
    if (read.length > 0) this.#fromFiles = read;
    this.#warnOfDates();
  }

  #refuse(source: string, error: unknown): void {
    const problem = error instanceof CertificateError ? error.message : 'it can not be used';
    this.#problems.set(source, problem);
    this.#log.error({ file: source, why: problem }, 'a certificate is refused: what was served before stays');
  }

  #warnOfDates(): void {
    const now = Date.now();
    for (const { info } of this.#fromFiles) {
      const { source: file, notBefore, notAfter } = info;
      const left = notAfter - now;
      if (left < 0) this.#log.warn({ file, notAfter: isoTime(notAfter) }, 'a certificate has expired');
      else if (left < LAST_DAYS)
        this.#log.warn({ file, notAfter: isoTime(notAfter) }, 'a certificate is about to expire');
      if (now < notBefore) this.#log.warn({ file, notBefore: isoTime(notBefore) }, 'a certificate is not valid yet');
    }
  }

  #changeTicketKey(): void {
    this.#ticketKey = randomBytes(TICKET_KEY_BYTES);
    this.#announce();
  }

  #announce(): void {
    this.#events?.onMaterial(this.material);
    this.#events?.onCertificates(this.infos);
  }
}
