import type { ParsedCertificate } from '../certificates.ts';

/** Which certificate answers to which host name. */
export class CertificateChoice {
  /**
   * For clients that name no host, or none that is known: the first certificate, and with it one of each other key type
   * that shares a name with it. They are offered together, so that a client gets the one that it can check.
   */
  readonly general: readonly ParsedCertificate[];
  readonly #byName = new Map<string, ParsedCertificate>();

  /** @param now ms since the epoch: of several for the same name, one that is valid goes before one that is not */
  constructor(certificates: readonly ParsedCertificate[], now: number) {
    const isValid = ({ info }: ParsedCertificate) => info.notBefore <= now && now <= info.notAfter;
    for (const each of [...certificates.filter(isValid), ...certificates.filter((other) => !isValid(other))]) {
      for (const host of each.hosts) if (!this.#byName.has(host)) this.#byName.set(host, each);
    }
    this.general = generalOf(certificates);
  }

  /**
   * For a client that asks for this host, in any case: by exact name, else by a wildcard for its first label (RFC 9525
   * section 6.3). Null: the general ones.
   */
  forHost(host: string): ParsedCertificate | null {
    const lower = host.toLowerCase();
    const wildcard = wildcardFor(lower);
    const found = this.#byName.get(lower) ?? this.#byName.get(wildcard);
    if (found === undefined) return null;
    // Node can choose one certificate only by name; the general ones are offered together.
    const general = this.general.every(({ hosts }) => hosts.includes(lower) || hosts.includes(wildcard));
    return general && this.general.includes(found) ? null : found;
  }
}

/** `*.example.com` for `www.example.com`. */
function wildcardFor(host: string): string {
  const dot = host.indexOf('.');
  return dot > 0 ? `*${host.slice(dot)}` : '';
}

function generalOf(certificates: readonly ParsedCertificate[]): readonly ParsedCertificate[] {
  const [first] = certificates;
  if (first === undefined) return [];
  const chosen = [first];
  for (const each of certificates) {
    const fits = first.hosts.some((host) => each.hosts.includes(host));
    if (fits && chosen.every(({ keyType }) => keyType !== each.keyType)) chosen.push(each);
  }
  return chosen;
}
