import { randomBytes } from 'node:crypto';
import { describeError, ERROR_CODES, type ErrorCode } from '../errors.ts';
import type { Pass } from './breaker.ts';
import type { Exchange, Fields } from './exchange.ts';
import type { Http1ResponseHead } from './http1-response.ts';
import type { Peer } from './peer.ts';
import { fitsPeer, peerFields, refusalOf } from './peer-headers.ts';
import type { PeerSecret } from './peer-secret.ts';
import type { Peers } from './peers.ts';

/** So many peers are tried for one request. */
const MOST_PEERS = 2;

/** A request that this machine could not answer, on its way to others. */
export class Fallback {
  readonly #peers: Peers;
  readonly #exchange: Exchange;
  readonly #fields: Fields;
  readonly #tried: Peer[] = [];
  /** What is answered when no peer can, either: how it failed here. */
  readonly local: { code: ErrorCode; cause: Error | undefined };

  /** @param fields what the container would have got */
  constructor(peers: Peers, exchange: Exchange, fields: Fields, code: ErrorCode, cause: Error | undefined) {
    this.#peers = peers;
    this.#exchange = exchange;
    this.#fields = fields;
    this.local = { code, cause };
  }

  /** The next peer to try; null when that was all. */
  next(): FallbackAttempt | null {
    if (this.#tried.length >= MOST_PEERS) return null;
    if (!fitsPeer(this.#exchange.head, this.#fields)) {
      this.#note('', 'too_large');
      return null;
    }
    const peer = this.#peers.choose(this.#tried);
    if (peer === null || !this.#peers.budget.allows) {
      // What was tried has been counted already.
      if (this.#tried.length === 0) this.#note('', peer === null ? 'no_peer' : 'over_budget');
      return null;
    }
    const pass = peer.breaker.enter();
    if (pass === null) return null;
    this.#tried.push(peer);
    return new FallbackAttempt(this.#peers, peer, pass, this.#exchange, this.#fields, (outcome) =>
      this.#note(peer.url, outcome),
    );
  }

  #note(peer: string, outcome: string): void {
    const { code } = this.local;
    const kind = { peer, reason: code === 'upstream_bad_gateway' ? 'status_502' : code, outcome };
    this.#exchange.trace.fallback = kind;
    this.#peers.count(kind, this.#exchange.id);
  }
}

/** A request that is tried on one peer. */
export class FallbackAttempt {
  readonly peer: Peer;
  readonly #peers: Peers;
  readonly #pass: Pass;
  readonly #exchange: Exchange;
  readonly #fields: Fields;
  readonly #onOver: (outcome: string) => void;
  #nonce = '';
  /** What it was sent with: its answer is signed with the same. */
  #secret: PeerSecret;
  #over = false;
  #left = false;
  /** The peer's own error, which its answer is. */
  #refusal: ErrorCode | null = null;

  constructor(
    peers: Peers,
    peer: Peer,
    pass: Pass,
    exchange: Exchange,
    fields: Fields,
    onOver: (outcome: string) => void,
  ) {
    this.#peers = peers;
    this.#secret = peers.secrets.first;
    this.peer = peer;
    this.#pass = pass;
    this.#exchange = exchange;
    this.#fields = fields;
    this.#onOver = onOver;
  }

  /** What is sent to the peer. Each time that it is sent it has a marker of its own. */
  fields(): string[] {
    const nonce = randomBytes(16).toString('base64url');
    this.#nonce = nonce;
    this.#secret = this.#peers.secrets.first;
    return peerFields(this.#exchange.head, this.#fields, (parts) =>
      this.#secret.seal('request', { nonce, time: String(Date.now()) }, parts),
    );
  }

  /** The error that a peer's answer is, when it proves to be the peer's own and not the application's; else null. */
  refusal(head: Http1ResponseHead): ErrorCode | null {
    const text = refusalOf(head);
    const values = text === null ? null : this.#secret.open('refusal', text, [this.#nonce]);
    this.#refusal = ERROR_CODES.find((code) => code === values?.['error']) ?? null;
    return this.#refusal;
  }

  /** Its answer is here, and is the client's. */
  answered(): void {
    this.#leave(this.#refusal);
  }

  #leave(failure: ErrorCode | null): void {
    if (this.#left) return;
    this.#left = true;
    const { breaker } = this.peer;
    breaker.leave(this.#pass, failure === null ? 'ok' : isFault(failure) ? 'failed' : 'unknown');
  }

  /** Nothing comes from it any more. `failure`: null when its answer is whole. */
  end(failure: ErrorCode | null): void {
    if (this.#over) return;
    this.#over = true;
    const outcome = failure ?? this.#refusal;
    this.#leave(outcome);
    if (outcome !== null && isFault(outcome)) {
      this.peer.note(outcome);
      this.#peers.budget.noteFailure();
    }
    this.#onOver(outcome ?? 'ok');
  }
}

/** Whether an error is the peer's, not the request's. */
function isFault(code: ErrorCode): boolean {
  return describeError(code).status >= 500;
}
