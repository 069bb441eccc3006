import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TlsOptions } from 'node:tls';
import type { MessageView } from '../../../engine/aerospike/message.ts';
import { BODY_BYTES_MAX } from '../../../engine/aerospike/proto.ts';
import { ResultCode } from '../../../engine/aerospike/result-code.ts';
import { type Clock, systemClock } from '../../../engine/clock.ts';
import { isPitrError, PitrError } from '../../../engine/errors.ts';
import type { Files } from '../../../engine/files.ts';
import type { Journal } from '../journal.ts';
import { type ConnectionHost, XdrConnection } from './connection.ts';
import { answerConnectorInfo } from './connector-info.ts';
import { Graves } from './graves.ts';
import { Intake } from './intake.ts';
import { Owed } from './owed.ts';
import { Recent } from './recent.ts';
import { readRecentLog } from './recent-log.ts';
import { Unseen } from './unseen.ts';
import type { ListenerReport, XdrGap } from './xdr-report.ts';

/** Frames of a turn over all connections. */
const TURN_FRAMES = 16_384;
/** The index follows the log at least that often, and after so many changes. */
const UPKEEP_MS = 1000;
const INDEX_CHANGES = 20_000;
/** Messages that are not whole, over all connections: then the largest goes. */
const HELD_BYTES_MAX = 256 * 1024 * 1024;
const CONNECTIONS_MAX = 1024;
const STALL_MS = 60_000;
/** How long connections may take to end at close. */
const CLOSE_MS = 2000;

export interface XdrListenerOptions {
  /** Open; nobody else tells it anything but within {@link XdrListener.between}. Its history has begun (`loaded`). */
  readonly journal: Journal;
  /** Default 127.0.0.1; port 0: any. */
  readonly host?: string;
  readonly port: number;
  /** Certificate and key, and with `ca` those whose clients are let in. */
  readonly tls?: TlsOptions;
  readonly clock?: Clock;
  readonly files?: Files;
  readonly messageBytesMax?: number;
  readonly connectionsMax?: number;
  readonly stallMs?: number;
  /** What went wrong and is no fault of a peer. After a failure of the log everything is answered with 11. */
  readonly onError?: (error: unknown) => void;
}

/**
 * A connector destination: takes what an Enterprise cluster ships, and acknowledges it when it is durable (README.md).
 *
 *     const listener = await XdrListener.start({ journal, host: '0.0.0.0', port: 3400 });
 *     await listener.between(() => journal.state(provenTs));
 *     await listener.close();
 */
export class XdrListener {
  readonly intake: Intake;
  readonly owed: Owed;
  readonly unseen: Unseen;
  readonly #journal: Journal;
  readonly #options: XdrListenerOptions;
  readonly #clock: Clock;
  readonly #server: Server;
  readonly #host: ConnectionHost;
  readonly #connections = new Set<XdrConnection>();
  readonly #sockets = new Set<Socket>();
  /** Connections that want a turn, and work that wants to be between two. */
  #wanting = new Set<XdrConnection>();
  #between: (() => Promise<void>)[] = [];
  #running: Promise<void> | undefined;
  #timers: NodeJS.Timeout[] = [];
  #heldBytes = 0;
  #unindexed = 0;
  #nowMs = 0;
  #isClosing = false;
  #closed: Promise<void> | undefined;
  #failure: unknown;
  #retryWhy: string | undefined;
  /** When something was last answered with 11, ms of the monotonic clock. */
  #retriedMs = Number.NEGATIVE_INFINITY;
  #address = { host: '', port: 0 };

  private constructor(options: XdrListenerOptions, graves: Graves, recent: Recent) {
    const { journal, tls, stallMs = STALL_MS } = options;
    this.#options = options;
    this.#journal = journal;
    this.#clock = options.clock ?? systemClock;
    this.owed = Owed.from(journal.note.xdrOwed as ReturnType<Owed['stored']> | undefined);
    this.unseen = Unseen.from(journal.note.xdrUnseen as readonly XdrGap[] | undefined);
    this.intake = new Intake(journal, { graves, recent, owed: this.owed, unseen: this.unseen });
    this.#host = {
      messageBytesMax: options.messageBytesMax ?? BODY_BYTES_MAX,
      wants: (connection) => this.#wants(connection),
      judge: (m) => this.#judge(m),
      malformed: (code, why) => this.intake.malformed(code, why),
      info: (body) =>
        answerConnectorInfo(body, {
          nodeId: journal.identity.engineId.slice(0, 16).toUpperCase(),
          port: this.#address.port,
          namespaces: journal.source.namespaces,
        }),
      holds: (bytes) => {
        this.#heldBytes += bytes;
        if (bytes > 0 && this.#heldBytes > HELD_BYTES_MAX) this.#dropLargest();
      },
    };
    const connect = (socket: Socket): void => this.#connect(socket);
    // a peer that has sent its last request still reads the answers
    this.#server = tls
      ? createTlsServer({ handshakeTimeout: stallMs, ...tls, ...mutual(tls), allowHalfOpen: true }, connect)
      : createServer({ allowHalfOpen: true }, connect);
    this.#server.on('tlsClientError', (_, socket: Socket) => socket.destroy());
    this.#server.on('connection', (socket: Socket) => {
      if (this.#sockets.size >= (options.connectionsMax ?? CONNECTIONS_MAX)) {
        socket.destroy();
        return;
      }
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
  }

  /** Listens. @throws io when the address cannot be had, log-corrupt */
  static async start(options: XdrListenerOptions): Promise<XdrListener> {
    const { journal, clock = systemClock, files, stallMs = STALL_MS } = options;
    const graves = new Graves();
    const recent = new Recent();
    await readRecentLog(journal.dir, { graves, recent }, clock.nowMs(), files);
    const listener = new XdrListener(options, graves, recent);
    await listener.#listen();
    listener.#timers = [
      setInterval(() => listener.#upkeep(), UPKEEP_MS).unref(),
      setInterval(() => listener.#dropStalled(stallMs), Math.max(10, stallMs / 4)).unref(),
    ];
    return listener;
  }

  get address(): { readonly host: string; readonly port: number } {
    return this.#address;
  }

  /** Nothing was answered with 11 for `ms`. */
  isQuiet(ms: number): boolean {
    return performance.now() - this.#retriedMs >= ms;
  }

  report(): ListenerReport {
    return {
      address: this.#address,
      connections: this.#connections.size,
      counts: { ...this.intake.counts },
      unseen: this.unseen.count,
      refusals: this.intake.refusals,
      retryWhy: this.#retryWhy,
      owed: { records: this.owed.size, isOverfull: this.owed.isOverfull, first: this.owed.first(10) },
    };
  }

  /** Does `work` on the journal between two turns: everything that was acknowledged is durable then, and nothing is told meanwhile. */
  between<T>(work: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#between.push(async () => {
        try {
          resolve(await work());
        } catch (error) {
          if (isPitrError(error, 'log-full')) this.#fail(error);
          reject(error);
        }
      });
      this.#go();
    });
  }

  /** Takes no more connections, answers what has arrived with 11, makes the index follow, and ends. The journal stays open. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#isClosing = true;
    for (const timer of this.#timers) clearInterval(timer);
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const connection of this.#connections) connection.end();
    const late = setTimeout(() => {
      for (const connection of this.#connections) connection.destroy();
      for (const socket of this.#sockets) socket.destroy();
    }, CLOSE_MS);
    await closed;
    clearTimeout(late);
    await this.#running;
    if (this.#failure === undefined) await this.between(() => this.#index());
  }

  #listen(): Promise<void> {
    const { host = '127.0.0.1', port } = this.#options;
    return new Promise((resolve, reject) => {
      this.#server.once('error', (cause: NodeJS.ErrnoException) =>
        reject(new PitrError('io', { op: 'listen on', path: `${host}:${port}`, why: cause.code }, { cause })),
      );
      this.#server.listen({ host, port }, () => {
        const bound = this.#server.address();
        this.#address = { host, port: typeof bound === 'object' && bound ? bound.port : port };
        resolve();
      });
    });
  }

  #connect(socket: Socket): void {
    const connection = new XdrConnection(socket, this.#host);
    this.#connections.add(connection);
    socket.once('close', () => this.#connections.delete(connection));
    if (this.#isClosing) connection.end();
  }

  #wants(connection: XdrConnection): void {
    this.#wanting.add(connection);
    this.#go();
  }

  #go(): void {
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
      if (this.#wanting.size > 0 || this.#between.length > 0) this.#go();
    });
  }

  async #run(): Promise<void> {
    while (this.#wanting.size > 0 || this.#between.length > 0) {
      // what else has arrived by now shares the turn
      await new Promise(setImmediate);
      for (const work of this.#between.splice(0)) await work();
      if (this.#wanting.size > 0) await this.#turn();
    }
  }

  async #turn(): Promise<void> {
    const turn = [...this.#wanting];
    this.#wanting = new Set();
    this.#nowMs = this.#clock.nowMs();
    this.#retryWhy = this.#whyRetry();
    let left = TURN_FRAMES;
    for (const connection of turn) {
      if (left === 0) this.#wanting.add(connection);
      else left -= this.#take(connection, left);
    }
    const isDurable = await this.#sync();
    for (const connection of turn) connection.answer(isDurable);
  }

  #take(connection: XdrConnection, frames: number): number {
    try {
      return connection.take(frames);
    } catch (error) {
      // no fault of the peer; it sends again what it has no answer for
      this.#options.onError?.(error);
      connection.destroy();
      return 0;
    }
  }

  /** Undefined: changes are taken. */
  #whyRetry(): string | undefined {
    if (this.#failure !== undefined) return `the log failed: ${this.#failure}`;
    if (this.#isClosing) return 'it is closing';
    return this.#journal.hasRoom ? undefined : 'there is no room for more log: the archive is behind';
  }

  #judge(m: MessageView): number {
    if (this.#retryWhy === undefined) {
      try {
        this.#unindexed++;
        return this.intake.take(m, this.#nowMs);
      } catch (error) {
        this.#fail(error);
      }
    }
    this.#retriedMs = performance.now();
    this.intake.counts.retried++;
    return ResultCode.partitionUnavailable;
  }

  /** False: nobody knows what of the turn is durable. */
  async #sync(): Promise<boolean> {
    if (this.#failure !== undefined) return false;
    try {
      if (this.owed.hasChanged || this.unseen.hasChanged)
        this.#journal.keep({ xdrOwed: this.owed.stored(), xdrUnseen: this.unseen.stored() });
      else if (this.#unindexed < INDEX_CHANGES) {
        await this.#journal.sync();
        return true;
      }
      await this.#index();
      return true;
    } catch (error) {
      this.#fail(error);
      this.#retriedMs = performance.now();
      return false;
    }
  }

  async #index(): Promise<void> {
    this.#unindexed = 0;
    await this.#journal.flush();
  }

  /** Something is in the log that the archiver does not see, or that the index has not. */
  #upkeep(): void {
    if (this.#failure !== undefined || this.#journal.isSealed) return;
    this.between(() => {
      this.#unindexed = 0;
      return this.#journal.isSealed ? Promise.resolve() : this.#journal.seal();
    }).catch((error) => this.#fail(error));
  }

  /** After this nothing is told to the journal any more: everything is answered with 11. */
  #fail(error: unknown): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    this.#retryWhy = this.#whyRetry();
    this.#options.onError?.(error);
  }

  #dropLargest(): void {
    let largest: XdrConnection | undefined;
    for (const connection of this.#connections)
      if (connection.held > (largest?.held ?? 0)) largest = connection;
    largest?.destroy();
  }

  #dropStalled(ms: number): void {
    for (const connection of this.#connections) if (connection.isStalled(ms)) connection.destroy();
  }
}

const mutual = (tls: TlsOptions): TlsOptions =>
  tls.ca === undefined ? {} : { requestCert: true, rejectUnauthorized: true };
