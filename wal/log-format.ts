import { crc32 } from 'node:zlib';
import type { ZodType } from 'zod';
import type { LogClock, LogEntry, LogEvent, LogVersion } from '../engine/commit-log.ts';
import { PitrError } from '../engine/errors.ts';
import { IMAGE_BYTES_MAX } from '../engine/image.ts';
import { writeU48 } from '../engine/state-record.ts';
import { EXTENSION_BYTES, FLAG } from './block.ts';
import { unpackBytes } from './envelope.ts';
import { readExtension, versionMisfit, writeExtension } from './extension.ts';
import { logClockSchema, logEventSchema, misfit } from './schema.ts';

/** Bytes of the local log; the layout is in README.md (wal), section "Log". */
export const LOG_MAGIC = 'PITRLOG\n';
export const LOG_VERSION = 3;
export const FRAME_HEADER_BYTES = 24;
const FRAME_MAGIC = 0x4d524650; // 'PFRM' little endian
/** Bound on one frame: a group of commits with its largest image. */
export const FRAME_BYTES_MAX = IMAGE_BYTES_MAX + 64 * 1024 * 1024;

export const FRAME = { commits: 1, event: 2, clock: 3, seal: 4 } as const;

export interface LogFileHeader {
  readonly engine: string;
  readonly stream: string;
  readonly timeline: string;
  /** Number of the file, from 1, dense. */
  readonly sequence: number;
  /** LSN of the first version or event that this file may hold. */
  readonly lsnFirst: number;
  readonly epoch: number;
  /** crc32 with which the chain goes on: the last frame's of the predecessor. */
  readonly chain: number;
}

/** The bytes of a text that is mostly the same as the one before. */
class LastText {
  #text = '';
  #bytes = Buffer.alloc(0);

  of(text: string): Buffer {
    if (text !== this.#text) {
      this.#bytes = Buffer.from(text, 'utf8');
      this.#text = text;
    }
    return this.#bytes;
  }
}

const BUFFER_BYTES = 64 * 1024;
/** A buffer that one large write has made larger than this is not kept. */
const KEPT_BYTES_MAX = 8 * 1024 * 1024;

/**
 * Collects frames of one write. crc32 runs over the chain so far, so no frame fits anywhere but where it was written.
 * Two buffers take turns: while the bytes of one are being written, the other collects. A new one for each write would be
 * garbage outside the heap, which the collector pays for with many times the cost of the write.
 */
export class FrameBuffer {
  #bytes = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  #other = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  #used = 0;
  #frameStart = -1;
  readonly #namespace = new LastText();
  readonly #set = new LastText();
  readonly #seed: number;
  chain: number;

  constructor(chain: number, seed: number) {
    this.chain = chain;
    this.#seed = seed;
  }

  get length(): number {
    return this.#used;
  }

  /** Bytes collected so far; the buffer is empty afterwards. They stay as they are until the next call. */
  take(): Buffer {
    const full = this.#bytes;
    const bytes = full.subarray(0, this.#used);
    this.#bytes = this.#other;
    this.#other = full.length > KEPT_BYTES_MAX ? Buffer.allocUnsafeSlow(BUFFER_BYTES) : full;
    this.#used = 0;
    return bytes;
  }

  begin(type: number, syncedBytes: number): void {
    this.#frameStart = this.#used;
    this.#need(FRAME_HEADER_BYTES + 1);
    this.#bytes.writeUInt32LE(syncedBytes % 2 ** 32, this.#used + 16);
    this.#bytes.writeUInt32LE(Math.floor(syncedBytes / 2 ** 32), this.#used + 20);
    this.#used += FRAME_HEADER_BYTES;
    this.#bytes[this.#used++] = type;
  }

  version(v: LogVersion): void {
    const namespace = this.#namespace.of(v.namespace);
    const set = this.#set.of(v.set);
    const { image, seen } = v;
    const imageBytes = (seen ? EXTENSION_BYTES : 0) + (image?.length ?? 0);
    this.#need(55 + namespace.length + set.length + imageBytes);
    const b = this.#bytes;
    let at = this.#used;
    b[at++] =
      (image === undefined ? FLAG.delete : 0) |
      (v.batchMore ? FLAG.batchMore : 0) |
      (seen?.late ? FLAG.late : 0) |
      (seen ? FLAG.extension : 0);
    at = writeU48(b, v.lsn, at);
    at = writeU48(b, v.ts, at);
    at = b.writeUInt16LE(v.generation, at);
    at = b.writeUInt32LE(v.voidTime, at);
    b.set(v.digest, at);
    at += 20;
    b[at++] = namespace.length;
    b.set(namespace, at);
    at += namespace.length;
    b[at++] = set.length;
    b.set(set, at);
    at += set.length;
    at = b.writeUInt32LE(imageBytes, at);
    if (seen) at = writeExtension(b, seen, at);
    if (image) {
      b.set(image, at);
      at += image.length;
    }
    this.#used = at;
  }

  raw(bytes: Uint8Array): void {
    this.#need(bytes.length);
    this.#bytes.set(bytes, this.#used);
    this.#used += bytes.length;
  }

  end(): void {
    const start = this.#frameStart;
    const payload = this.#used - start - FRAME_HEADER_BYTES;
    if (payload > FRAME_BYTES_MAX)
      throw new PitrError('bad-record', { what: `a write of ${payload} bytes is over the limit` });
    this.#bytes.writeUInt32LE(FRAME_MAGIC, start);
    this.#bytes.writeUInt32LE(payload, start + 4);
    this.#bytes.writeUInt32LE(this.chain, start + 8);
    const crc = frameCrc(this.#bytes.subarray(start, this.#used), this.#seed);
    this.#bytes.writeUInt32LE(crc, start + 12);
    this.chain = crc;
    this.#frameStart = -1;
  }

  #need(bytes: number): void {
    if (this.#used + bytes <= this.#bytes.length) return;
    const bigger = Buffer.allocUnsafeSlow(Math.max(this.#bytes.length * 2, this.#used + bytes));
    this.#bytes.copy(bigger, 0, 0, this.#used);
    this.#bytes = bigger;
  }
}

/**
 * What the crc of an engine's frames starts from: its random id. So bytes of another log that somebody stores in a bin never
 * pass for frames.
 */
export const frameSeed = (engineId: string): number => crc32(engineId);

/** crc32 of a frame without its crc field; the previous frame's crc is inside. */
const frameCrc = (frame: Buffer, seed: number): number =>
  crc32(frame.subarray(16), crc32(frame.subarray(0, 12), seed));

export interface Frame {
  readonly offset: number;
  readonly bytes: number;
  readonly type: number;
  /** File bytes that were durable when this frame was written. */
  readonly syncedBytes: number;
  readonly payload: Buffer;
}

/**
 * The frame at `offset`, or why there is none. `chain` undefined: the link to the predecessor is not checked.
 */
export const frameAt = (
  file: Buffer,
  offset: number,
  chain: number | undefined,
  seed: number,
): Frame | { why: string } => {
  if (offset + FRAME_HEADER_BYTES > file.length) return { why: 'frame header is truncated' };
  if (file.readUInt32LE(offset) !== FRAME_MAGIC) return { why: 'no frame starts here' };
  const payloadBytes = file.readUInt32LE(offset + 4);
  if (payloadBytes < 1 || payloadBytes > FRAME_BYTES_MAX) return { why: `frame of ${payloadBytes} bytes` };
  const bytes = FRAME_HEADER_BYTES + payloadBytes;
  if (offset + bytes > file.length) return { why: 'frame is truncated' };
  const frame = file.subarray(offset, offset + bytes);
  if (frameCrc(frame, seed) !== file.readUInt32LE(offset + 12)) return { why: 'frame checksum' };
  if (chain !== undefined && file.readUInt32LE(offset + 8) !== chain)
    return { why: 'frame does not follow its predecessor' };
  return {
    offset,
    bytes,
    type: frame[FRAME_HEADER_BYTES],
    syncedBytes: file.readUInt32LE(offset + 16) + file.readUInt32LE(offset + 20) * 2 ** 32,
    payload: frame.subarray(FRAME_HEADER_BYTES + 1),
  };
};

export const frameCrcOf = (file: Buffer, offset: number): number => file.readUInt32LE(offset + 12);

/** Bytes whose checksum a search for frames may compute: hostile content must not turn start-up into hours. */
const SEARCH_BYTES_MAX = 2 * 1024 * 1024 * 1024;

/**
 * Intact frames that start after `offset`, wherever they are: the chain to them may be broken. The search is bounded; where
 * it would go on, it throws what `tooLong` makes: nobody can tell then, so nothing may be cut off.
 */
export function* framesAfter(
  file: Buffer,
  offset: number,
  seed: number,
  tooLong: () => PitrError,
): Generator<Frame> {
  const magic = Buffer.alloc(4);
  magic.writeUInt32LE(FRAME_MAGIC);
  let searched = 0;
  for (let at = file.indexOf(magic, offset + 1); at >= 0; at = file.indexOf(magic, at + 1)) {
    if (at + FRAME_HEADER_BYTES > file.length) return;
    searched += Math.min(file.readUInt32LE(at + 4), file.length - at);
    if (searched > SEARCH_BYTES_MAX) throw tooLong();
    const frame = frameAt(file, at, undefined, seed);
    if ('payload' in frame && frame.syncedBytes <= at) yield frame;
  }
}

/**
 * True when an intact frame after `offset` says that the bytes there had been synced: then what does not check at
 * `offset` is corruption, not the unfinished end of the last write.
 */
export const syncedPast = (file: Buffer, offset: number, seed: number, tooLong: () => PitrError): boolean => {
  for (const frame of framesAfter(file, offset, seed, tooLong)) if (frame.syncedBytes > offset) return true;
  return false;
};

/** Calls `entry` for what a frame holds; versions are views of the file's bytes. @throws log-corrupt by way of `bad` */
export const decodeFrame = (
  frame: Frame,
  entry: (e: LogEntry) => void,
  bad: (why: string) => PitrError,
): void => {
  switch (frame.type) {
    case FRAME.commits:
      decodeVersions(frame.payload, entry, bad);
      return;
    case FRAME.event:
      entry({ kind: 'event', event: unpacked<LogEvent>(frame, logEventSchema, bad) });
      return;
    case FRAME.clock:
      entry({ kind: 'clock', clock: unpacked<LogClock>(frame, logClockSchema, bad) });
      return;
    case FRAME.seal:
      return;
    default:
      throw bad(`unknown frame type ${frame.type}`);
  }
};

const unpacked = <T>(frame: Frame, schema: ZodType, bad: (why: string) => PitrError): T => {
  let value: T;
  try {
    value = unpackBytes<T>(frame.payload, 'frame');
  } catch (error) {
    throw bad(String((error as PitrError).facts.why));
  }
  const why = misfit(schema, value);
  if (why !== undefined) throw bad(why);
  return value;
};

const decodeVersions = (b: Buffer, entry: (e: LogEntry) => void, bad: (why: string) => PitrError): void => {
  let at = 0;
  const need = (n: number): void => {
    if (at + n > b.length) throw bad('a version reaches past its frame');
  };
  while (at < b.length) {
    need(41);
    const flags = b[at];
    const lsn = b.readUIntLE(at + 1, 6);
    const ts = b.readUIntLE(at + 7, 6);
    const generation = b.readUInt16LE(at + 13);
    const voidTime = b.readUInt32LE(at + 15);
    const digest = b.subarray(at + 19, at + 39);
    at += 39;
    const text = (): string => {
      need(1);
      const length = b[at++];
      need(length);
      at += length;
      return b.toString('utf8', at - length, at);
    };
    const namespace = text();
    const set = text();
    need(4);
    const imageBytes = b.readUInt32LE(at);
    at += 4;
    need(imageBytes);
    const why = versionMisfit(flags, b, at, imageBytes, ts);
    if (why !== undefined) throw bad(why);
    const seen = flags & FLAG.extension ? readExtension(b, at, (flags & FLAG.late) !== 0) : undefined;
    const image =
      flags & FLAG.delete ? undefined : b.subarray(seen ? at + EXTENSION_BYTES : at, at + imageBytes);
    at += imageBytes;
    const batchMore = (flags & FLAG.batchMore) !== 0;
    const version = { lsn, ts, namespace, set, digest, generation, voidTime, image, batchMore };
    entry({ kind: 'version', version: seen ? { ...version, seen } : version });
  }
};
