import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { PitrError } from '../../errors.ts';
import { Info1, Info2 } from '../bits.ts';
import { inflateBody } from '../compressed.ts';
import { FieldId } from '../field.ts';
import { type InfoCommand, infoError, infoReply, parseInfoRequest } from '../info.ts';
import { MessageView } from '../message.ts';
import { MessageWriter } from '../message-writer.ts';
import { FrameReader, ProtoType } from '../proto.ts';
import { ResultCode } from '../result-code.ts';
import { type BatchHost, runBatch } from './batch-command.ts';
import type { Database } from './database.ts';
import { engineRefusal } from './engine-refusal.ts';
import { answerInfo, type InfoContext, SUMMARY } from './info-commands.ts';
import type { Login } from './login.ts';
import { RecordCommand } from './record-command.ts';
import { Scan, type Sink } from './scan.ts';

/** Frames of one turn: then what was decided is made durable and answered, and others have their turn. */
const TURN_FRAMES = 4096;
/** Bytes of answers of one turn, and of requests that wait for theirs, beyond which the socket is not read. */
const TURN_BYTES = 1024 * 1024;
const WAITING_BYTES_MAX = 1024 * 1024;
/** The same when all connections together hold much: see {@link Host.isPressed}. */
const PRESSED_BYTES = 32 * 1024;

/** What connections have in common. */
export interface Host {
  readonly database: Database;
  readonly login: Login | undefined;
  /** Bytes of a request at most. */
  readonly requestBytesMax: number;
  readonly infoContext: () => InfoContext;
  /** Whether the node that was connected to has a partition. */
  readonly masters: (partition: number) => boolean;
  /** Says that a connection holds so many bytes more (or less) of requests. */
  readonly holds: (bytes: number) => void;
  /** Connections hold so much that each of them has to do with less. */
  readonly isPressed: () => boolean;
  readonly onError: (error: unknown) => void;
}

/**
 * One client. Requests are answered in order, in turns: everything that has arrived is carried out in one go, made durable by one group
 * commit, and answered with one write. While a turn is under way, or the client does not read its answers, nothing more is read
 * from it than {@link WAITING_BYTES_MAX}.
 */
export class Connection implements BatchHost, Sink {
  readonly from: string;
  readonly #socket: Socket;
  readonly #host: Host;
  readonly #reader: FrameReader;
  readonly #out = new MessageWriter();
  readonly #message = new MessageView();
  readonly #command: RecordCommand;
  #isBusy = false;
  /** A chunk came since the reader was found empty. */
  #hasMore = false;
  #isEnding = false;
  #isAuthenticated: boolean;
  #held = 0;
  /** When a byte came, or went, last: see {@link isStalled}. */
  #movedMs: number;
  #suspectMs = -1;
  #sentBytes = 0;

  constructor(socket: Socket, host: Host) {
    this.#socket = socket;
    this.#host = host;
    this.from = `${socket.remoteAddress ?? ''}:${socket.remotePort ?? 0}`;
    this.#reader = new FrameReader({ bodyBytesMax: host.requestBytesMax });
    this.#command = new RecordCommand(host.database);
    this.#isAuthenticated = host.login === undefined;
    this.#movedMs = performance.now();
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.#take(chunk));
    socket.on('end', () => this.#endAfterTurn());
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#hold(0));
  }

  get isClosed(): boolean {
    return this.#socket.destroyed;
  }

  /** The peer sent part of a frame, or does not read, and has not moved for `ms`. */
  isStalled(ms: number): boolean {
    const waits = !this.#reader.isBetweenFrames || this.#socket.writableNeedDrain;
    if (!waits || performance.now() - this.#movedMs < ms) return false;
    // seen twice: after a turn that took long, what has come meanwhile is read only now
    const wasSeen = this.#suspectMs === this.#movedMs;
    this.#suspectMs = this.#movedMs;
    return wasSeen;
  }

  destroy(): void {
    this.#socket.destroy();
    // its socket says that it is closed only later
    this.#hold(0);
  }

  /** Ends when what has arrived is answered. */
  end(): void {
    this.#socket.pause();
    this.#endAfterTurn();
  }

  #endAfterTurn(): void {
    this.#isEnding = true;
    if (!this.#isBusy) this.#socket.destroySoon();
  }

  #take(chunk: Buffer): void {
    this.#movedMs = performance.now();
    this.#reader.push(chunk);
    this.#hasMore = true;
    if (!this.#isBusy) {
      this.#isBusy = true;
      void this.#run();
      return;
    }
    if (this.#reader.buffered > this.#bound(WAITING_BYTES_MAX)) this.#socket.pause();
  }

  /** Turn after turn until nothing whole is left. */
  async #run(): Promise<void> {
    try {
      while (await this.#turn()) await new Promise(setImmediate);
      this.#hold(this.isClosed ? 0 : this.#reader.held);
    } catch (error) {
      // nothing more is read: nobody knows where a frame begins
      this.#isEnding = true;
      await this.#break(error).catch((e) => {
        this.#host.onError(e);
        this.destroy();
      });
    }
    this.#isBusy = false;
    if (this.#isEnding) this.#socket.destroySoon();
    else if (this.#socket.isPaused()) this.#socket.resume();
  }

  #bound(bytes: number): number {
    return this.#host.isPressed() ? PRESSED_BYTES : bytes;
  }

  /** Bytes of requests that it holds between two turns, and of answers that are not read. */
  get held(): number {
    return this.#held;
  }

  #hold(bytes: number): void {
    if (bytes === this.#held) return;
    const change = bytes - this.#held;
    this.#held = bytes;
    this.#host.holds(change);
  }

  /** A peer whose frames cannot be told apart is left, after the answers to what it said before, as the server does it. */
  async #break(error: unknown): Promise<void> {
    if (isMalformed(error) && !this.isClosed) {
      await this.flush();
      this.#socket.destroySoon();
      return;
    }
    if (!isMalformed(error)) this.#host.onError(error);
    this.destroy();
  }

  /** False when nothing whole is left. */
  async #turn(): Promise<boolean> {
    let frames = 0;
    this.#hasMore = false;
    while (frames < TURN_FRAMES && this.#out.length < this.#bound(TURN_BYTES)) {
      if (this.isClosed) return false;
      if (!this.#reader.next()) {
        await this.flush();
        // more may have come meanwhile
        return this.#hasMore;
      }
      frames++;
      const later = this.#handle(this.#reader.type, this.#reader.body);
      if (later) await later;
    }
    await this.flush();
    return true;
  }

  /** Undefined: done already. */
  #handle(type: ProtoType, body: Buffer): Promise<void> | undefined {
    switch (type) {
      case ProtoType.info:
        return this.#info(body);
      case ProtoType.security:
        return this.#security(body);
      case ProtoType.message:
      case ProtoType.compressed:
        return this.#request(type, body);
      default:
        return type satisfies never;
    }
  }

  /** A message that is not well-formed is refused; the next one is found where its frame ends. */
  #request(type: ProtoType, body: Buffer): Promise<void> | undefined {
    const m = this.#message;
    try {
      m.parseWhole(type === ProtoType.compressed ? inflateBody(body, this.#host.requestBytesMax) : body);
    } catch (error) {
      if (!isMalformed(error)) throw error;
      this.#out.status(Number(error.facts.result), 0, 0);
      return undefined;
    }
    if (!this.#isAuthenticated) {
      this.#out.status(ResultCode.notAuthenticated, 0, 0);
      return undefined;
    }
    if (m.info1 & Info1.batch) return runBatch(m, this.#command, this.#out, this);
    if (!m.has(FieldId.digest)) return this.#scan(m);
    const wait = m.info2 & Info2.write ? this.writable() : undefined;
    if (wait) return this.#whenWritable(wait);
    this.#single(0);
    return undefined;
  }

  async #whenWritable(first: Promise<number>): Promise<void> {
    await this.flush();
    let refusal = 0;
    for (let wait: Promise<number> | undefined = first; wait && refusal === 0; wait = this.writable())
      refusal = await wait;
    this.#single(refusal);
  }

  /** One command on one record; `refusal`: it is not carried out, and this is why. */
  #single(refusal: number): void {
    const m = this.#message;
    const digestStart = m.fieldStart(FieldId.digest);
    if (m.fieldEnd(FieldId.digest) - digestStart !== 20) {
      this.#out.status(ResultCode.parameter, 0, 0);
      return;
    }
    this.#out.beginFrame();
    if (refusal !== 0) this.#command.refuse(m, this.#out, refusal, -1);
    else this.#command.run(m, this.#out, m.bytes, digestStart, undefined, -1);
    this.#out.endFrame();
  }

  async #scan(m: MessageView): Promise<void> {
    // answers to what came before go first
    await this.flush();
    await new Scan(this.#host.database, m, this, this.#host.masters).run();
  }

  async #info(body: Buffer): Promise<void> {
    const asked = parseInfoRequest(body);
    const commands =
      body.length > 0
        ? asked
        : SUMMARY.map(
            (name): InfoCommand => ({ raw: Buffer.from(name), name, argument: '', parameters: new Map() }),
          );
    // what was written before counts in what is answered
    await this.flush();
    const answers = [];
    for (const command of commands) {
      const value = this.#isAuthenticated
        ? await answerInfo(this.#host.infoContext(), command)
        : infoError(ResultCode.notAuthenticated, 'not authenticated');
      answers.push({ raw: command.raw, value });
    }
    this.#out.bytes(infoReply(answers));
  }

  async #security(body: Buffer): Promise<void> {
    const { login } = this.#host;
    if (!login) {
      // 52, security is off: a client that was given a user goes on without it
      this.#out.bytes(NO_SECURITY);
      return;
    }
    await this.flush();
    const { reply, isAuthenticated } = await login.answer(body);
    if (isAuthenticated !== undefined) this.#isAuthenticated = isAuthenticated;
    this.#out.bytes(reply);
  }

  writable(): Promise<number> | undefined {
    return this.#host.database.engine.writable()?.then(
      () => ResultCode.ok,
      (error) => {
        const code = error instanceof PitrError ? engineRefusal(error) : undefined;
        if (code === undefined) throw error;
        return code;
      },
    );
  }

  /**
   * Makes what was decided durable and sends what was answered. Nothing may be awaited between a decision and this: a failure of
   * the log in between would go unheard.
   */
  async flush(): Promise<void> {
    const durable = this.#host.database.engine.committed();
    if (durable) await durable;
    if (this.#out.length > 0) await this.send(this.#out.take());
  }

  async send(bytes: Buffer): Promise<void> {
    if (this.isClosed) return;
    const { faults } = this.#host.database;
    if (faults && (faults.trickleBytes > 0 || faults.dropAfterBytes > 0)) return this.#sendBadly(bytes);
    if (this.#socket.write(bytes)) return;
    await this.#drained();
  }

  async #drained(): Promise<void> {
    const socket = this.#socket;
    if (!socket.writableNeedDrain || socket.destroyed) return;
    this.#hold(this.#reader.held + socket.writableLength);
    await new Promise<void>((resolve) => {
      const done = (): void => {
        socket.off('drain', done);
        socket.off('close', done);
        resolve();
      };
      socket.on('drain', done);
      socket.on('close', done);
    });
    this.#hold(this.isClosed ? 0 : this.#reader.held);
    this.#movedMs = performance.now();
  }

  async #sendBadly(bytes: Buffer): Promise<void> {
    const { faults } = this.#host.database;
    for (let at = 0; faults && at < bytes.length && !this.isClosed; ) {
      const left =
        faults.dropAfterBytes > 0 ? faults.dropAfterBytes - this.#sentBytes : Number.POSITIVE_INFINITY;
      if (left <= 0) return this.destroy();
      const piece = bytes.subarray(at, at + Math.min(left, faults.trickleBytes || bytes.length));
      this.#socket.write(piece);
      at += piece.length;
      this.#sentBytes += piece.length;
      if (faults.trickleBytes > 0) await sleep(faults.trickleMs);
    }
  }
}

const isMalformed = (error: unknown): error is PitrError =>
  error instanceof PitrError && error.id === 'wire-malformed';

const NO_SECURITY = Buffer.from([
  2,
  2,
  0,
  0,
  0,
  0,
  0,
  16,
  0,
  ResultCode.securityNotEnabled,
  ...new Array(14).fill(0),
]);
