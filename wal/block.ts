import { constants, crc32, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { PitrError } from '../engine/errors.ts';
import { IMAGE_BYTES_MAX } from '../engine/image.ts';

/**
 * A **block**: versions of one namespace as columns, so that a merge compares and copies words and never makes an object
 * for a version. Layout in README.md (wal), section "Block".
 */

/** Version flags, one u16 a row. */
export const FLAG = {
  /** The version is a delete: no image. */
  delete: 1,
  /** The next LSN of this stream belongs to the same batch. */
  batchMore: 2,
  /** Found late (F2): its ts is above its LUT. */
  late: 4,
  /** The heap entry starts with an extension: LUT, window, versions missed and since when. */
  extension: 8,
} as const;

/**
 * Extension bytes: u64 LUT ms, u64 window start ms, u64 window end ms, u32 versions missed before this one, u64 the instant after which
 * they came, ms.
 */
export const EXTENSION_BYTES = 36;

const PREFIX_BYTES = 16;
const STORED_HEADER_BYTES = 16;
/** Most bytes that are taken for a block before any of it is decompressed. */
const CHUNK_BYTES_MAX = 1024 * 1024;
/** Least piece of output that the decoder accepts. */
const CHUNK_BYTES_MIN = 64;
/** Bytes that a row takes outside the heap: twelve u32 columns and three u16 columns. */
export const ROW_BYTES = 12 * 4 + 3 * 2;
/** Raw size at which a block is closed; one version that is larger gets a block of its own. */
export const BLOCK_BYTES = 256 * 1024;
/** A block that is not quite full yet takes one more version, whatever its size. */
const BLOCK_BYTES_MAX = BLOCK_BYTES + IMAGE_BYTES_MAX + EXTENSION_BYTES + ROW_BYTES + PREFIX_BYTES;

const TWO32 = 4294967296;
/** High word of the largest safe integer. */
const SAFE_HI = 0x1fffff;

/** When a version that was found came, in (start, end], and what was missed before it: all that came after `missedAfterMs`. */
export interface FoundWindow {
  readonly startMs: number;
  readonly endMs: number;
  readonly missed: number;
  readonly missedAfterMs: number;
}

/** A decoded block: typed-array views on one buffer. Row `i` is described by element `i` of every column. */
export class Block {
  /** Index into the segment's table of namespaces. */
  readonly namespace: number;
  readonly rows: number;
  /** Sort key, five big-endian words (see engine/partition.ts). */
  readonly w0: Uint32Array;
  readonly w1: Uint32Array;
  readonly w2: Uint32Array;
  readonly w3: Uint32Array;
  readonly w4: Uint32Array;
  /** Commit time, ms, and LSN: low and high words. */
  readonly tsLo: Uint32Array;
  readonly tsHi: Uint32Array;
  readonly lsnLo: Uint32Array;
  readonly lsnHi: Uint32Array;
  /** Void time, seconds since 1970, 0 = never. */
  readonly voidTime: Uint32Array;
  /** End of the row's bytes in the heap; they start where the previous row's end. */
  readonly heapEnd: Uint32Array;
  /** Index into the segment's table of streams. */
  readonly source: Uint16Array;
  /** Index into the segment's table of sets. */
  readonly set: Uint32Array;
  readonly generation: Uint16Array;
  readonly flags: Uint16Array;
  readonly heap: Uint8Array;
  #view: DataView | undefined;

  constructor(raw: Uint8Array) {
    if (raw.length < PREFIX_BYTES)
      throw new PitrError('object-corrupt', { name: 'block', why: 'shorter than its header' });
    const head = new DataView(raw.buffer, raw.byteOffset, PREFIX_BYTES);
    const rows = head.getUint32(0, true);
    const heapBytes = head.getUint32(4, true);
    if (rows === 0 || PREFIX_BYTES + rows * ROW_BYTES + heapBytes !== raw.length)
      throw new PitrError('object-corrupt', { name: 'block', why: 'row count and size disagree' });
    this.rows = rows;
    this.namespace = head.getUint32(8, true);
    let at = raw.byteOffset + PREFIX_BYTES;
    const u32 = (): Uint32Array => {
      const column = new Uint32Array(raw.buffer, at, rows);
      at += rows * 4;
      return column;
    };
    const u16 = (): Uint16Array => {
      const column = new Uint16Array(raw.buffer, at, rows);
      at += rows * 2;
      return column;
    };
    this.w0 = u32();
    this.w1 = u32();
    this.w2 = u32();
    this.w3 = u32();
    this.w4 = u32();
    this.tsLo = u32();
    this.tsHi = u32();
    this.lsnLo = u32();
    this.lsnHi = u32();
    this.voidTime = u32();
    this.heapEnd = u32();
    this.set = u32();
    this.source = u16();
    this.generation = u16();
    this.flags = u16();
    this.heap = new Uint8Array(raw.buffer, at, heapBytes);
    if (this.heapEnd[rows - 1] !== heapBytes)
      throw new PitrError('object-corrupt', { name: 'block', why: 'heap size disagrees with its rows' });
  }

  /**
   * Why the rows cannot be those of a segment with so many namespaces, sets and streams, or undefined. Checksums show that the
   * bytes are those of the writer; this keeps a row from reading its neighbour's bytes, or a table where it has no entry.
   */
  misfit(namespaces: number, sets: number, streams: number): string | undefined {
    const { heapEnd, flags, set, source, tsHi, lsnHi } = this;
    if (this.namespace >= namespaces) return 'a block of an unknown namespace';
    for (let i = 0, start = 0; i < this.rows; i++) {
      if (heapEnd[i] < start + (flags[i] & FLAG.extension ? EXTENSION_BYTES : 0))
        return `row ${i} has less than its bytes`;
      if (set[i] >= sets || source[i] >= streams) return `row ${i} is of an unknown set or stream`;
      if (tsHi[i] > SAFE_HI || lsnHi[i] > SAFE_HI) return `row ${i} has a position over 2^53`;
      start = heapEnd[i];
    }
    return undefined;
  }

  /**
   * Gives the memory back now: a merge decodes blocks faster than the garbage collector notices that they are gone. Every view on this
   * block is empty afterwards.
   */
  release(): void {
    const buffer = this.heap.buffer as ArrayBuffer;
    // a small block may lie in the pool of all small buffers
    const bytes = PREFIX_BYTES + this.rows * ROW_BYTES + this.heap.length;
    if (buffer.byteLength <= bytes + CHUNK_BYTES_MIN) buffer.transfer(0);
  }

  heapStart(i: number): number {
    return i === 0 ? 0 : this.heapEnd[i - 1];
  }

  ts(i: number): number {
    return this.tsHi[i] * TWO32 + this.tsLo[i];
  }

  lsn(i: number): number {
    return this.lsnHi[i] * TWO32 + this.lsnLo[i];
  }

  /** Last-update time, ms: the extension's, else ts. */
  lut(i: number): number {
    return this.flags[i] & FLAG.extension ? this.#extension(i, 0) : this.ts(i);
  }

  /** Start of the image in the heap: after the extension, if there is one. */
  imageStart(i: number): number {
    return this.heapStart(i) + (this.flags[i] & FLAG.extension ? EXTENSION_BYTES : 0);
  }

  /** What the extension says of a version that was found: the window of its change, and the versions missed before it (S7). */
  window(i: number): FoundWindow | undefined {
    if (!(this.flags[i] & FLAG.extension)) return undefined;
    return {
      startMs: this.#extension(i, 8),
      endMs: this.#extension(i, 16),
      missed: this.#words.getUint32(this.heapStart(i) + 24, true),
      missedAfterMs: this.#extension(i, 28),
    };
  }

  #extension(i: number, offset: number): number {
    const at = this.heapStart(i) + offset;
    return this.#words.getUint32(at + 4, true) * TWO32 + this.#words.getUint32(at, true);
  }

  /** The heap as numbers: made once, since every version of a capture has an extension. */
  get #words(): DataView {
    this.#view ??= new DataView(this.heap.buffer, this.heap.byteOffset, this.heap.length);
    return this.#view;
  }

  /** The 20-byte sort key of row `i`. */
  sortKey(i: number): Buffer {
    const key = Buffer.allocUnsafe(20);
    key.writeUInt32BE(this.w0[i], 0);
    key.writeUInt32BE(this.w1[i], 4);
    key.writeUInt32BE(this.w2[i], 8);
    key.writeUInt32BE(this.w3[i], 12);
    key.writeUInt32BE(this.w4[i], 16);
    return key;
  }
}

/** Collects sorted rows into columns and encodes them. Reused for block after block. */
export class BlockBuilder {
  rows = 0;
  heapBytes = 0;
  #capacity = 8192;
  readonly #words: Uint32Array[];
  readonly #halves: Uint16Array[];
  #heap = Buffer.allocUnsafeSlow(BLOCK_BYTES);
  #raw = Buffer.alloc(0);

  constructor() {
    this.#words = Array.from({ length: 12 }, () => new Uint32Array(this.#capacity));
    this.#halves = Array.from({ length: 3 }, () => new Uint16Array(this.#capacity));
  }

  /** Raw size if encoded now. */
  get bytes(): number {
    return PREFIX_BYTES + this.rows * ROW_BYTES + this.heapBytes;
  }

  /** Appends row `i` of `from`, with its stream and set renumbered. */
  copyRow(from: Block, i: number, source: number, set: number, voidTime: number): void {
    const row = this.#reserve(from.heapEnd[i] - from.heapStart(i));
    const words = this.#words;
    words[0][row] = from.w0[i];
    words[1][row] = from.w1[i];
    words[2][row] = from.w2[i];
    words[3][row] = from.w3[i];
    words[4][row] = from.w4[i];
    words[5][row] = from.tsLo[i];
    words[6][row] = from.tsHi[i];
    words[7][row] = from.lsnLo[i];
    words[8][row] = from.lsnHi[i];
    words[9][row] = voidTime;
    const halves = this.#halves;
    words[11][row] = set;
    halves[0][row] = source;
    halves[1][row] = from.generation[i];
    halves[2][row] = from.flags[i];
    this.#copyHeap(row, from.heap, from.heapStart(i), from.heapEnd[i]);
  }

  /** Appends a row from its parts; `heap[start, end)` is extension and image. */
  addRow(
    sortKey: DataView,
    keyAt: number,
    ts: number,
    lsn: number,
    voidTime: number,
    source: number,
    set: number,
    generation: number,
    flags: number,
    heap: Uint8Array,
    start: number,
    end: number,
  ): void {
    const row = this.#reserve(end - start);
    const words = this.#words;
    for (let w = 0; w < 5; w++) words[w][row] = sortKey.getUint32(keyAt + w * 4);
    words[5][row] = ts % TWO32;
    words[6][row] = Math.floor(ts / TWO32);
    words[7][row] = lsn % TWO32;
    words[8][row] = Math.floor(lsn / TWO32);
    words[9][row] = voidTime;
    const halves = this.#halves;
    words[11][row] = set;
    halves[0][row] = source;
    halves[1][row] = generation;
    halves[2][row] = flags;
    this.#copyHeap(row, heap, start, end);
  }

  /** The heap with room for `bytes` at {@link heapBytes}: for a row that is made there and added by {@link addMade}. */
  room(bytes: number): Buffer {
    const end = this.heapBytes + bytes;
    if (end > this.#heap.length) this.#growHeap(end);
    return this.#heap;
  }

  /** Appends a row without stream position beyond `lsn` 0, whose image was made in {@link room} up to `heapEnd`; words are those of the sort key. */
  addMade(
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    w4: number,
    ts: number,
    voidTime: number,
    set: number,
    generation: number,
    heapEnd: number,
  ): void {
    const row = this.#reserve(0);
    const words = this.#words;
    words[0][row] = w0;
    words[1][row] = w1;
    words[2][row] = w2;
    words[3][row] = w3;
    words[4][row] = w4;
    words[5][row] = ts % TWO32;
    words[6][row] = ts / TWO32;
    words[7][row] = 0;
    words[8][row] = 0;
    words[9][row] = voidTime;
    words[10][row] = heapEnd;
    words[11][row] = set;
    const halves = this.#halves;
    halves[0][row] = 0;
    halves[1][row] = generation;
    halves[2][row] = 0;
    this.heapBytes = heapEnd;
  }

  /** Sort key of the first row. */
  firstKey(): Buffer {
    const key = Buffer.allocUnsafe(20);
    for (let w = 0; w < 5; w++) key.writeUInt32BE(this.#words[w][0], w * 4);
    return key;
  }

  /** Raw bytes of the block, a view that holds until the next call; the builder is empty afterwards. */
  take(namespace: number): Buffer {
    const { rows, heapBytes } = this;
    if (this.#raw.length < this.bytes) this.#raw = Buffer.allocUnsafeSlow(this.bytes + (this.bytes >>> 3));
    const raw = this.#raw.subarray(0, this.bytes);
    raw.writeUInt32LE(rows, 0);
    raw.writeUInt32LE(heapBytes, 4);
    raw.writeUInt32LE(namespace, 8);
    raw.writeUInt32LE(0, 12);
    let at = PREFIX_BYTES;
    for (const column of this.#words) {
      raw.set(new Uint8Array(column.buffer, 0, rows * 4), at);
      at += rows * 4;
    }
    for (const column of this.#halves) {
      raw.set(new Uint8Array(column.buffer, 0, rows * 2), at);
      at += rows * 2;
    }
    this.#heap.copy(raw, at, 0, heapBytes);
    this.rows = 0;
    this.heapBytes = 0;
    return raw;
  }

  #reserve(heapBytes: number): number {
    if (this.rows === this.#capacity) {
      this.#capacity *= 2;
      const grow = <T extends Uint32Array | Uint16Array>(columns: T[], make: (n: number) => T): void => {
        for (let c = 0; c < columns.length; c++) {
          const bigger = make(this.#capacity);
          bigger.set(columns[c]);
          columns[c] = bigger;
        }
      };
      grow(this.#words, (n) => new Uint32Array(n));
      grow(this.#halves, (n) => new Uint16Array(n));
    }
    const end = this.heapBytes + heapBytes;
    if (end > this.#heap.length) this.#growHeap(end);
    return this.rows++;
  }

  #growHeap(end: number): void {
    const bigger = Buffer.allocUnsafeSlow(Math.max(end, this.#heap.length * 2));
    this.#heap.copy(bigger, 0, 0, this.heapBytes);
    this.#heap = bigger;
  }

  #copyHeap(row: number, from: Uint8Array, start: number, end: number): void {
    const heap = this.#heap;
    let to = this.heapBytes;
    // a typed loop beats a native call for the small images that are usual
    if (end - start <= 64) for (let j = start; j < end; j++) heap[to++] = from[j];
    else {
      heap.set(start === 0 && end === from.length ? from : from.subarray(start, end), to);
      to += end - start;
    }
    this.heapBytes = to;
    this.#words[10][row] = to;
  }
}

/** zstd level of blocks: measured in bench/merge.ts; higher ones cost more than they save on images with random bytes. */
const ZSTD_LEVEL = 3;

/** What higher levels than this one cannot make smaller they only make slower. */
export const ZSTD_LEVEL_FAST = 1;

/** Compresses raw bytes into their stored form: u32 stored length, u32 raw length, u32 crc32 of each, zstd frame. */
export const encodeStored = (raw: Uint8Array, level = ZSTD_LEVEL): Buffer => {
  // room for all of it, or it would come in pieces of 16 KiB that are put together: that takes longer than compressing
  const chunkSize = Math.min(
    Math.max(raw.length, CHUNK_BYTES_MIN) + (raw.length >>> 8) + 512,
    CHUNK_BYTES_MAX,
  );
  const params = { [constants.ZSTD_c_compressionLevel]: level };
  const packed = zstdCompressSync(raw, { params, chunkSize });
  const out = Buffer.allocUnsafe(STORED_HEADER_BYTES + packed.length);
  out.writeUInt32LE(packed.length, 0);
  out.writeUInt32LE(raw.length, 4);
  out.writeUInt32LE(crc32(packed), 8);
  out.writeUInt32LE(crc32(raw), 12);
  packed.copy(out, STORED_HEADER_BYTES);
  const used = packed.buffer as ArrayBuffer;
  // the garbage collector would be late
  if (used.byteLength === chunkSize) used.transfer(0);
  return out;
};

/**
 * Undoes {@link encodeStored}: checks the stored bytes, bounds the size before allocation, checks the plain bytes.
 * The result is a whole ArrayBuffer of its own, so typed arrays can view it.
 * @throws object-corrupt
 */
export const decodeStored = (stored: Uint8Array, name: string): Uint8Array => {
  const corrupt = (why: string, cause?: unknown): PitrError =>
    new PitrError('object-corrupt', { name, why }, { cause });
  if (stored.length < STORED_HEADER_BYTES) throw corrupt('block header is truncated');
  const head = new DataView(stored.buffer, stored.byteOffset, STORED_HEADER_BYTES);
  const packedBytes = head.getUint32(0, true);
  const rawBytes = head.getUint32(4, true);
  if (packedBytes !== stored.length - STORED_HEADER_BYTES)
    throw corrupt('block length disagrees with its index');
  if (rawBytes > BLOCK_BYTES_MAX) throw corrupt(`block of ${rawBytes} bytes is over the limit`);
  const packed = stored.subarray(STORED_HEADER_BYTES);
  if (crc32(packed) !== head.getUint32(8, true)) throw corrupt('checksum of the stored bytes');
  let raw: Buffer;
  try {
    // one piece of output instead of many that are put together; one byte more, or it would look for another piece. A length that
    // is not true must not cost more memory than a usual block
    const chunkSize = Math.min(Math.max(rawBytes + 1, CHUNK_BYTES_MIN), CHUNK_BYTES_MAX);
    raw = zstdDecompressSync(packed, { chunkSize, maxOutputLength: Math.max(rawBytes, 1) });
  } catch (cause) {
    throw corrupt('zstd frame', cause);
  }
  if (raw.length !== rawBytes || crc32(raw) !== head.getUint32(12, true))
    throw corrupt('checksum of the plain bytes');
  return raw.byteOffset % 4 === 0 ? raw : new Uint8Array(raw);
};
