import { constants } from 'node:crypto';
import type * as net from 'node:net';
import * as tls from 'node:tls';
import { parseCertificate, type ParsedCertificate } from '../certificates.ts';
import type { TlsMaterial } from '../worker-config.ts';
import { CertificateChoice } from './certificate-choice.ts';

/** Offered by ALPN (RFC 7301 section 3.2), the preferred first; who offers others only is refused. */
const PROTOCOLS = ['h2', 'http/1.1'];

/** Forward-secret AEAD suites only (RFC 9325 section 4.2): TLS 1.3 has no others, of TLS 1.2 these are left. */
const CIPHERS = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_CHACHA20_POLY1305_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
].join(':');

const GROUPS = 'X25519:P-256:P-384';
/** The hybrid keeps what is recorded today from a quantum computer of tomorrow; OpenSSL knows it from 3.5 on. */
const HYBRID_GROUPS = `X25519MLKEM768:${GROUPS}`;

const SECURE_OPTIONS =
  constants.SSL_OP_NO_RENEGOTIATION |
  constants.SSL_OP_NO_COMPRESSION |
  // A client without AES in hardware says so by its order.
  constants.SSL_OP_PRIORITIZE_CHACHA;

/** How long (s) a session can be resumed. */
const SESSION_LIFE = 7_200;

/** Ends TLS on accepted connections. */
export class TlsTerminator {
  readonly #server: tls.Server;
  #choice = new CertificateChoice([], 0);
  #contexts = new Map<ParsedCertificate, tls.SecureContext>();
  #ticketKeys = Buffer.alloc(0);

  /**
   * `onSecure` gets a connection whose handshake is done, with the socket that was given to `accept`; `onFailure` one
   * whose handshake failed, before it is closed.
   */
  constructor(
    material: TlsMaterial,
    onSecure: (secured: tls.TLSSocket, accepted: net.Socket) => void,
    onFailure: (error: Error, accepted: net.Socket) => void,
  ) {
    this.#server = tls.createServer({
      ALPNProtocols: PROTOCOLS,
      SNICallback: (host, done) => done(null, this.#contextFor(host)),
    });
    this.#server.on('secureConnection', (socket) => onSecure(socket, acceptedBelow(socket)));
    this.#server.on('tlsClientError', (error, socket) => onFailure(error, acceptedBelow(socket)));
    this.update(material);
  }

  /** Handshakes from now on use this. Connections that there are keep what they have. */
  update(material: TlsMaterial): void {
    this.#choice = new CertificateChoice(material.certificates.map(parseCertificate), Date.now());
    this.#contexts = new Map();
    this.#ticketKeys = Buffer.from(material.ticketKey, 'base64');
    this.#server.setSecureContext(this.#optionsFor(this.#choice.general));
  }

  /** Begins the handshake on a connection. */
  accept(socket: net.Socket): void {
    this.#server.emit('connection', socket);
  }

  /** Contexts are made when they are first asked for: there may be thousands of names. */
  #contextFor(host: string): tls.SecureContext | undefined {
    const certificate = this.#choice.forHost(host);
    if (certificate === null) return undefined;
    const known = this.#contexts.get(certificate);
    if (known !== undefined) return known;
    const context = tls.createSecureContext(this.#optionsFor([certificate]));
    this.#contexts.set(certificate, context);
    return context;
  }

  #optionsFor(certificates: readonly ParsedCertificate[]): tls.TlsOptions {
    return {
      cert: certificates.map(({ certificate }) => certificate.cert),
      key: certificates.map(({ certificate }) => certificate.key),
      ciphers: CIPHERS,
      ecdhCurve: knownGroups(),
      honorCipherOrder: true,
      minVersion: 'TLSv1.2',
      secureOptions: SECURE_OPTIONS,
      // The same in all workers, else none would resume what another began.
      sessionIdContext: 'wunderproxy',
      sessionTimeout: SESSION_LIFE,
      ticketKeys: this.#ticketKeys,
    };
  }
}

/** Node keeps the socket below a TLS socket where its own modules find it, and has no other way to get at it. */
function acceptedBelow(socket: tls.TLSSocket): net.Socket {
  return (socket as unknown as { _parent: net.Socket })._parent;
}

let groups: string | null = null;

function knownGroups(): string {
  groups ??= isKnown(HYBRID_GROUPS) ? HYBRID_GROUPS : GROUPS;
  return groups;
}

function isKnown(ecdhCurve: string): boolean {
  try {
    tls.createSecureContext({ ecdhCurve });
    return true;
  } catch {
    return false;
  }
}
