import { Resolver } from 'node:dns/promises';
import type { Logger } from '../log.ts';
import { processUse } from '../process-use.ts';
import type { FromWorker, Route } from '../messages.ts';
import type { NamedAddresses, PeerMaterial } from '../peer-messages.ts';
import type { TlsMaterial, WorkerConfig } from '../worker-config.ts';
import type { WorkerStats } from '../worker-stats.ts';
import { AccessLog, linesLost } from './access-log.ts';
import { Account } from './account.ts';
import { Challenges } from './challenges.ts';
import { compressionRules } from './compress-headers.ts';
import { Encoders } from './encoders.ts';
import { type Trust, trustIn } from './headers.ts';
import { LineWriter } from './line-writer.ts';
import { Listener } from './listener.ts';
import { Markers } from './markers.ts';
import { Peers } from './peers.ts';
import { type PipelineContext, refuse, serve } from './pipeline.ts';
import { Router } from './router.ts';
import { Spool } from './spool.ts';
import { Sweeper } from './sweeper.ts';

const STATS_INTERVAL = 1_000;

/** Deadlines are looked at this often (ms), or four times within the shortest one. */
const SWEEP_INTERVAL = 1_000;

/** How long (ms) the server of peers' names may take for an answer, and how often it is asked. */
const LOOKUP = { timeout: 2_000, tries: 2 };

/** `onSent` is called when the message has left this process, or never can. */
export type Send = (message: FromWorker, onSent?: () => void) => void;

/** Everything that one worker process does, apart from being a process. */
export class DataPlane {
  readonly #config: WorkerConfig;
  readonly #log: Logger;
  readonly #send: Send;
  readonly #accessLog: AccessLog | null;
  readonly #account: Account;
  readonly #spool: Spool;
  readonly #router: Router;
  readonly #challenges: Challenges | null;
  readonly #peers: Peers | null;
  readonly #markers: Markers;
  readonly #https: { port: number | null; plainPaths: ReadonlySet<string> };
  readonly #listener: Listener;
  #version: number;
  #retireTimer: NodeJS.Timeout | null = null;

  /** `onDone` is called when it has retired and no connection is left. */
  constructor(config: WorkerConfig, route: Route, log: Logger, send: Send, onDone: () => void) {
    this.#config = config;
    this.#log = log;
    this.#send = send;
    const { timeouts, limits } = config;
    const trust = trustIn(config.trustedProxies);
    this.#spool = new Spool(config.spool);
    this.#accessLog = this.#openAccessLog(trust);
    const sweeper = new Sweeper(Math.min(SWEEP_INTERVAL, Math.ceil(Math.min(...Object.values(timeouts)) / 4)));
    this.#router = new Router(timeouts, sweeper, () => this.#sendStats());
    this.#account = new Account(log, this.#accessLog, this.#router.tallies, route.activeSince);
    this.#https = { port: this.#httpsPort(config.tls), plainPaths: new Set(config.https.plainPaths) };
    this.#challenges = config.acme ? new Challenges((token) => send({ type: 'challenge', token })) : null;
    this.#peers = this.#openPeers(sweeper);
    this.#markers = new Markers(config.peerMaterial, log, (nonce, until) => send({ type: 'nonce', nonce, until }));
    const context: PipelineContext = {
      router: this.#router,
      account: this.#account,
      spool: this.#spool,
      compression: compressionRules(config.compression),
      encoders: new Encoders(this.#spool),
      sweeper,
      limits: {
        body: limits.body,
        bodyRate: limits.bodyRate,
        bodyTimeout: timeouts.body,
        hosts: config.hosts.length === 0 ? null : new Set(config.hosts),
      },
      tunnelTimeout: timeouts.tunnel,
      challenges: this.#challenges,
      peers: this.#peers,
      markers: this.#markers,
      machine: config.machine,
      instance: config.instance,
      trust,
      https: this.#https,
      hsts: config.https.hsts,
      log,
    };
    this.#listener = new Listener(
      timeouts,
      limits,
      sweeper,
      {
        serve: (exchange) => void serve(exchange, context),
        refuse: (exchange, code) => void refuse(exchange, code, context),
        onAbuse: (client, reason) => this.#account.noteAbuse(client, reason),
        onEmpty: () => this.#account.whenNoneOpen(() => void this.#finish(onDone)),
      },
      config.tls,
    );
    this.#version = route.version;
    this.#router.update(route);
  }

  /** Accepts connections from now on and says so. */
  async listen(): Promise<void> {
    this.#checkSpool();
    // Before there are requests that may have to fall back; until it listens its predecessor serves, or they wait in the kernel.
    await this.#peers?.start();
    if (this.#listener.retiring) return;
    await this.#listener.listen(this.#config.proxyFd, this.#config.tlsFd);
    setInterval(() => this.#sendStats(), STATS_INTERVAL).unref();
    this.#send({ type: 'listening' });
  }

  /** Small bodies need no disk, so a folder that can't be used is no reason not to serve; but somebody must know. */
  #checkSpool(): void {
    const problem = this.#spool.check();
    if (problem !== null)
      this.#log.error({ cause: problem }, 'the spool folder can not be used: large bodies are refused');
  }

  /** Works by this route when it returns, and acknowledges it. */
  setRoute(route: Route): void {
    if (route.version >= this.#version) {
      this.#version = route.version;
      this.#router.update(route);
      this.#account.onSwitch(route.activeSince);
    }
    // First, so that whoever learns that the route is in force already has counts from after the switch.
    this.#sendStats();
    this.#send({ type: 'routed', version: route.version });
  }

  /** For handshakes from now on. */
  setTls(material: TlsMaterial): void {
    this.#listener.setTls(material);
    this.#https.port = this.#httpsPort(material);
  }

  /** Where plain requests are sent to: nowhere as long as there is no certificate that could answer there. */
  #httpsPort(material: TlsMaterial | null): number | null {
    return material === null || material.certificates.length === 0 ? null : this.#config.https.port;
  }

  /** For requests from now on. */
  setPeerMaterial(material: PeerMaterial): void {
    this.#peers?.setMaterial(material);
    this.#markers.setMaterial(material);
  }

  /** The primary's answer to the question whether a nonce is new. */
  answerNonce(nonce: string, fresh: boolean): void {
    this.#markers.receive(nonce, fresh);
  }

  #openPeers(sweeper: Sweeper): Peers | null {
    const { peers: config, peerMaterial: material, namedPeers: named, machine, instance, timeouts } = this.#config;
    if (config === null || material === null) return null;
    const names = {
      resolver: new Resolver(LOOKUP),
      known: named,
      onFound: (addresses: NamedAddresses) => this.#send({ type: 'namedPeers', addresses }),
    };
    return new Peers({ config, material, machine, instance, timeouts, sweeper, names, log: this.#log });
  }

  /** The manager's answer to an ACME challenge. */
  answerChallenge(token: string, answer: string | null): void {
    this.#challenges?.receive(token, answer);
  }

  cut(id: string): void {
    this.#router.cut(id);
    this.#sendStats();
  }

  /**
   * Stops accepting and finishes what runs within `timeoutMs`. With `keepIdle`, idle connections may stay for longer: until
   * their next answer or their idle timeout.
   */
  retire(timeoutMs: number, keepIdle: boolean): void {
    this.#send({ type: 'retiring' });
    if (this.#retireTimer) clearInterval(this.#retireTimer);
    // Again and again: what an idle connection begins later may run for as long.
    this.#retireTimer = setInterval(() => this.#breakOff(keepIdle), timeoutMs);
    this.#listener.retire(keepIdle);
  }

  #breakOff(keepIdle: boolean): void {
    // Chosen now: what begins on an idle connection from here on has a term of its own.
    const doomed = this.#listener.connectionsLeft(keepIdle);
    if (doomed.length === 0) return;
    this.#log.warn({ connections: doomed.length }, 'retire timeout: what still runs is broken off');
    this.#router.cutAll();
    this.#peers?.cutAll();
    // Answers that were just given get the chance to leave.
    setImmediate(() => doomed.forEach((connection) => connection.destroy()));
  }

  #openAccessLog(trust: Trust): AccessLog | null {
    const { accessLog } = this.#config;
    if (accessLog === null) return null;
    const onProblem = (error: Error) => this.#log.error({ cause: error.message }, 'the access log can not be written');
    return new AccessLog(new LineWriter(accessLog.fd, linesLost, onProblem), accessLog.query, trust);
  }

  /** The last lines and the last report must have left before this process ends. */
  async #finish(onDone: () => void): Promise<void> {
    await this.#accessLog?.end();
    this.#send({ type: 'stats', stats: this.#stats() }, onDone);
  }

  #sendStats(): void {
    this.#send({ type: 'stats', stats: this.#stats() });
  }

  #stats(): WorkerStats {
    return {
      targets: this.#router.stats(),
      states: this.#listener.states,
      connectionsAccepted: this.#listener.accepted,
      connectionsClosed: this.#listener.closed,
      turnedAway: this.#listener.turnedAway,
      cutOff: this.#listener.cutOff,
      ...this.#account.snapshot(),
      fallbacks: this.#peers?.counts ?? {},
      markers: this.#markers.counts.snapshot(),
      peers: this.#peers?.stats ?? [],
      namedPeersProblem: this.#peers?.namesProblem ?? null,
      buffers: this.#spool.use,
      ...processUse(),
    };
  }
}
