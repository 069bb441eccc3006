import type { PitrError } from '../errors.ts';
import { giveBack } from '../give-back.ts';
import { malformed } from './malformed.ts';

/** Bytes before every body: u8 version, u8 type, u48 bytes of the body. */
export const PROTO_HEADER_BYTES = 8;
export const PROTO_VERSION = 2;

export const ProtoType = { info: 1, security: 2, message: 3, compressed: 4 } as const;
export type ProtoType = (typeof ProtoType)[keyof typeof ProtoType];

/** The protocol's bound on one body. */
export const BODY_BYTES_MAX = 128 * 1024 * 1024;

/** A body that comes in pieces is given this much at first, and twice as much whenever that is full: never on the word of a header alone. */
const BODY_FIRST_BYTES = 64 * 1024;

/** Smaller chunks are left to the garbage collector. */
const LARGE_CHUNK_BYTES = 16 * 1024;

export const writeProtoHeader = (out: Buffer, at: number, type: ProtoType, bodyBytes: number): void => {
  out[at] = PROTO_VERSION;
  out[at + 1] = type;
  out.writeUInt16BE(Math.floor(bodyBytes / 2 ** 32), at + 2);
  out.writeUInt32BE(bodyBytes >>> 0, at + 4);
};

/** The body's bytes as a header states them. */
export const bodyBytesOf = (header: Buffer, at = 0): number =>
  header.readUInt16BE(at + 2) * 2 ** 32 + header.readUInt32BE(at + 4);

/**
 * Frames out of a stream. Chunks go in with {@link push} as they arrive; {@link next} steps to the next whole frame, whose
 * {@link type} and {@link body} hold until the next call. Whoever cannot keep up stops calling `next` and stops the socket.
 * A frame within one chunk is a view of it (A2). After a throw the reader is of no use any more: nobody knows where a frame begins.
 */
export class FrameReader {
  readonly #bodyBytesMax: number;
  readonly #ownsChunks: boolean;
  readonly #bodyFirstBytes: number;
  /** A body that was kept is a view of the chunk. */
  #isChunkKept = false;
  readonly #chunks: Buffer[] = [];
  #chunk: Buffer = EMPTY;
  #at = 0;
  readonly #header = Buffer.alloc(PROTO_HEADER_BYTES);
  #headerBytes = 0;
  /** Bytes of the body that is being read, -1 between frames. */
  #bodyBytes = -1;
  /** What has arrived of a body that is in several chunks. */
  #partial: Buffer | undefined;
  #partialBytes = 0;
  #type: ProtoType = ProtoType.info;
  #body: Buffer = EMPTY;
  /** The body is a buffer of its own. */
  #isOwnBody = false;

  /**
   * `ownsChunks`: nobody else has the memory of what is pushed, and it is given back when it was read. `bodyFirstBytes`: what a body in pieces is given at
   * first, where the peer is trusted.
   */
  constructor({
    bodyBytesMax = BODY_BYTES_MAX,
    ownsChunks = false,
    bodyFirstBytes = BODY_FIRST_BYTES,
  }: { bodyBytesMax?: number; ownsChunks?: boolean; bodyFirstBytes?: number } = {}) {
    this.#bodyFirstBytes = bodyFirstBytes;
    this.#bodyBytesMax = bodyBytesMax;
    this.#ownsChunks = ownsChunks;
  }

  get type(): ProtoType {
    return this.#type;
  }

  get body(): Buffer {
    return this.#body;
  }

  /** The {@link body} for good: it holds for as long as it is kept. */
  keep(): Buffer {
    if (!this.#isOwnBody) this.#isChunkKept = true;
    this.#isOwnBody = false;
    return this.#body;
  }

  /** Bytes of memory that hold what is {@link buffered}. */
  get held(): number {
    return this.buffered - this.#partialBytes + (this.#partial?.length ?? 0);
  }

  /** Bytes taken in and not given out yet. */
  get buffered(): number {
    let bytes = this.#headerBytes + this.#partialBytes + this.#chunk.length - this.#at;
    for (const chunk of this.#chunks) bytes += chunk.length;
    return bytes;
  }

  /** True when the stream may end here: no frame has begun. */
  get isBetweenFrames(): boolean {
    return this.buffered === 0 && this.#bodyBytes < 0;
  }

  /** Gives back what it holds: nothing more is read. A {@link body} that it gave out is gone, too. */
  release(): void {
    if (this.#partial) giveBack([this.#partial]);
    if (this.#isOwnBody) giveBack([this.#body]);
    this.#partial = undefined;
    this.#partialBytes = 0;
    this.#isOwnBody = false;
    this.#body = EMPTY;
    this.#chunk = EMPTY;
    this.#at = 0;
    this.#chunks.length = 0;
  }

  push(chunk: Buffer): void {
    if (this.#at === this.#chunk.length && this.#chunks.length === 0) {
      this.#chunk = chunk;
      this.#at = 0;
    } else this.#chunks.push(chunk);
  }

  /** Steps to the next frame; false: it has not arrived as a whole. @throws wire-malformed */
  next(): boolean {
    // large ones at once: the garbage collector would be late
    if (this.#isOwnBody) giveBack([this.#body]);
    this.#isOwnBody = false;
    this.#body = EMPTY;
    for (;;) {
      if (this.#bodyBytes < 0 && !this.#readHeader()) {
        if (!this.#nextChunk()) return false;
        continue;
      }
      if (this.#readBody()) return true;
      if (!this.#nextChunk()) return false;
    }
  }

  #nextChunk(): boolean {
    if (this.#ownsChunks && !this.#isChunkKept && this.#chunk.length >= LARGE_CHUNK_BYTES)
      giveBack([this.#chunk]);
    this.#isChunkKept = false;
    const chunk = this.#chunks.shift();
    if (chunk === undefined) {
      // let go of: a view of it would keep all of it in memory
      this.#chunk = EMPTY;
      this.#at = 0;
      return false;
    }
    this.#chunk = chunk;
    this.#at = 0;
    return true;
  }

  #readHeader(): boolean {
    const left = this.#chunk.length - this.#at;
    if (this.#headerBytes === 0 && left >= PROTO_HEADER_BYTES) {
      this.#begin(this.#chunk, this.#at);
      this.#at += PROTO_HEADER_BYTES;
      return true;
    }
    const taken = Math.min(left, PROTO_HEADER_BYTES - this.#headerBytes);
    this.#chunk.copy(this.#header, this.#headerBytes, this.#at, this.#at + taken);
    this.#at += taken;
    this.#headerBytes += taken;
    // refused as early as it can be told: not only when the peer has sent the rest
    if (this.#headerBytes > 0 && this.#header[0] !== PROTO_VERSION) throw badVersion(this.#header[0]);
    if (this.#headerBytes < PROTO_HEADER_BYTES) return false;
    this.#headerBytes = 0;
    this.#begin(this.#header, 0);
    return true;
  }

  #begin(header: Buffer, at: number): void {
    if (header[at] !== PROTO_VERSION) throw badVersion(header[at]);
    const type = header[at + 1];
    if (type < ProtoType.info || type > ProtoType.compressed) throw malformed(`a frame of type ${type}`);
    const bytes = bodyBytesOf(header, at);
    if (bytes > this.#bodyBytesMax)
      throw malformed(`a frame of ${bytes} bytes; at most ${this.#bodyBytesMax}`);
    this.#type = type as ProtoType;
    this.#bodyBytes = bytes;
  }

  #readBody(): boolean {
    const bytes = this.#bodyBytes;
    const left = this.#chunk.length - this.#at;
    if (this.#partialBytes === 0 && left >= bytes) {
      this.#body = this.#chunk.subarray(this.#at, this.#at + bytes);
      this.#at += bytes;
      this.#bodyBytes = -1;
      return true;
    }
    if (left === 0) return false;
    const taken = Math.min(left, bytes - this.#partialBytes);
    const partial = this.#room(this.#partialBytes + taken);
    this.#chunk.copy(partial, this.#partialBytes, this.#at, this.#at + taken);
    this.#at += taken;
    this.#partialBytes += taken;
    if (this.#partialBytes < bytes) return false;
    this.#body = partial.subarray(0, bytes);
    this.#isOwnBody = true;
    this.#partial = undefined;
    this.#partialBytes = 0;
    this.#bodyBytes = -1;
    return true;
  }

  #room(bytes: number): Buffer {
    const old = this.#partial;
    if (old && old.length >= bytes) return old;
    const size = Math.min(this.#bodyBytes, Math.max(bytes, this.#bodyFirstBytes, 2 * (old?.length ?? 0)));
    const grown = Buffer.allocUnsafeSlow(size);
    old?.copy(grown, 0, 0, this.#partialBytes);
    if (old) giveBack([old]);
    this.#partial = grown;
    return grown;
  }
}

const EMPTY = Buffer.alloc(0);

const badVersion = (version: number): PitrError => malformed(`a frame of protocol version ${version}`);
