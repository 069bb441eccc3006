import type { Socket } from 'node:net';
import { inflateBody } from '../../../engine/aerospike/compressed.ts';
import { MessageView } from '../../../engine/aerospike/message.ts';
import { MessageWriter } from '../../../engine/aerospike/message-writer.ts';
import { FrameReader, ProtoType } from '../../../engine/aerospike/proto.ts';
import { ResultCode } from '../../../engine/aerospike/result-code.ts';
import { isPitrError, type PitrError } from '../../../engine/errors.ts';

/** Of a turn. */
const TURN_FRAMES = 4096;
/** Requests that wait for their turn, bytes, beyond which the socket is not read. */
const WAITING_BYTES_MAX = 1024 * 1024;

/** What connections have in common. */
export interface ConnectionHost {
  readonly messageBytesMax: number;
  /** Something has arrived: the connection wants its turn. */
  readonly wants: (connection: XdrConnection) => void;
  /** Carries a message out; returns its result code. */
  readonly judge: (m: MessageView) => number;
  /** Counts a message that is none; returns its result code. */
  readonly malformed: (code: number, why: string) => number;
  readonly info: (body: Buffer) => Buffer;
  /** Connections hold so many bytes more (or less) of messages that are not whole. */
  readonly holds: (bytes: number) => void;
}

/**
 * One peer that ships. It is read when it has its turn ({@link take}); its answers are sent when the turn's changes are durable ({@link answer}), in the
 * order of the requests (X1, X2).
 */
export class XdrConnection {
  readonly #socket: Socket;
  readonly #host: ConnectionHost;
  readonly #reader: FrameReader;
  readonly #message = new MessageView();
  /** Answers of the turn. */
  readonly #out = new MessageWriter();
  /** Where in them result codes are that a failed sync turns into 11. */
  #okAt: number[] = [];
  #isEnding = false;
  #isBroken = false;
  #hasSpoken = false;
  /** The last turn took all that it might: more may be there. */
  #hasMore = false;
  #held = 0;
  #movedMs = performance.now();
  #suspectMs = -1;

  constructor(socket: Socket, host: ConnectionHost) {
    this.#socket = socket;
    this.#host = host;
    this.#reader = new FrameReader({ bodyBytesMax: host.messageBytesMax, ownsChunks: true });
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.#arrived(chunk));
    socket.on('drain', () => this.#drained());
    socket.on('end', () => {
      this.#isEnding = true;
      this.#host.wants(this);
    });
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#letGo());
  }

  get isClosed(): boolean {
    return this.#socket.destroyed;
  }

  /** Bytes that it holds of requests. */
  get held(): number {
    return this.#held;
  }

  /** It sent part of a message, does not read its answers, or never said anything, and has not moved for `ms`. */
  isStalled(ms: number): boolean {
    const waits =
      !this.#hasSpoken || !this.#reader.isBetweenFrames || this.#socket.writableNeedDrain || this.#isEnding;
    if (!waits || performance.now() - this.#movedMs < ms) return false;
    // seen twice: after a turn that took long, what has come meanwhile is read only now
    const wasSeen = this.#suspectMs === this.#movedMs;
    this.#suspectMs = this.#movedMs;
    return wasSeen;
  }

  /** Ends when what has arrived is answered. */
  end(): void {
    this.#isEnding = true;
    this.#socket.pause();
    this.#host.wants(this);
  }

  destroy(): void {
    this.#socket.destroy();
    // its socket says that it is closed only later
    this.#letGo();
  }

  /** Judges what has arrived, `frames` at most; returns how many it were. What comes of it is told by {@link answer}. */
  take(frames: number): number {
    const max = Math.min(frames, TURN_FRAMES);
    let taken = 0;
    try {
      while (taken < max && this.#isReadable && this.#reader.next()) {
        this.#hasSpoken = true;
        taken++;
        this.#handle(this.#reader.type, this.#reader.body);
      }
    } catch (error) {
      if (!isMalformed(error)) throw error;
      // nobody knows where the next frame begins
      this.#isBroken = true;
      this.#host.malformed(ResultCode.parameter, 'frames that cannot be told apart');
    }
    this.#hasMore = taken === max;
    if (this.#hasMore) this.#host.wants(this);
    return taken;
  }

  /** The turn's changes are durable, or (false) they are not: then what would have been acknowledged is to be sent again. */
  answer(isDurable: boolean): void {
    if (this.isClosed) {
      this.#letGo();
      return;
    }
    if (this.#out.length > 0) {
      const bytes = this.#out.take();
      if (!isDurable) for (const at of this.#okAt) bytes[at] = ResultCode.partitionUnavailable;
      this.#socket.write(bytes);
    }
    this.#okAt = [];
    this.#hold();
    if (this.#isBroken) this.#socket.destroySoon();
    else if (this.#isEnding && this.#isReadable && !this.#hasMore) this.#socket.destroySoon();
    else if (this.#isReadable && this.#socket.isPaused() && !this.#isEnding) this.#socket.resume();
  }

  /** Whether more is taken from it: a peer that does not read its answers sends no more requests. */
  get #isReadable(): boolean {
    return !this.isClosed && !this.#isBroken && !this.#socket.writableNeedDrain;
  }

  #arrived(chunk: Buffer): void {
    if (this.isClosed || this.#isBroken) return;
    this.#movedMs = performance.now();
    this.#reader.push(chunk);
    if (this.#reader.buffered > WAITING_BYTES_MAX) this.#socket.pause();
    this.#hold();
    this.#host.wants(this);
  }

  #drained(): void {
    this.#movedMs = performance.now();
    this.#host.wants(this);
  }

  #handle(kind: ProtoType, body: Buffer): void {
    switch (kind) {
      case ProtoType.info:
        this.#out.bytes(this.#host.info(body));
        return;
      case ProtoType.security:
        this.#out.bytes(NO_SECURITY);
        return;
      case ProtoType.message:
      case ProtoType.compressed: {
        const code = this.#judge(kind, body);
        this.#out.status(code, 0, 0);
        if (code === ResultCode.ok) this.#okAt.push(this.#out.length - STATUS_BYTES + STATUS_CODE_AT);
        return;
      }
      default:
        kind satisfies never;
    }
  }

  #judge(type: ProtoType, body: Buffer): number {
    const m = this.#message;
    try {
      m.parseWhole(type === ProtoType.compressed ? inflateBody(body, this.#host.messageBytesMax) : body);
    } catch (error) {
      if (!isMalformed(error)) throw error;
      return this.#host.malformed(ResultCode.parameter, 'a message that is not well-formed');
    }
    return this.#host.judge(m);
  }

  #hold(): void {
    const bytes = this.isClosed ? 0 : this.#reader.held;
    if (bytes === this.#held) return;
    const change = bytes - this.#held;
    this.#held = bytes;
    this.#host.holds(change);
  }

  #letGo(): void {
    this.#hold();
    this.#reader.release();
  }
}

const isMalformed = (error: unknown): error is PitrError => isPitrError(error, 'wire-malformed');

/** A message without fields and ops, and where its result is. */
const STATUS_BYTES = 30;
const STATUS_CODE_AT = 13;

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
