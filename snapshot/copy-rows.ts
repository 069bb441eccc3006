import type { RecordBlock } from '../engine/aerospike/client/record-block.ts';
import { imageBytesMax, writeRecordImage } from '../engine/aerospike/client/record-image.ts';
import { type ContentDigest, contentHash, seedOf } from '../engine/content-digest.ts';
import { BaseRows, ROW_FLAG } from '../wal/capture/index-row.ts';
import { isLoggedSet } from '../wal/capture/logged-sets.ts';
import type { SegmentWriter } from '../wal/segment-writer.ts';
import type { HeldRecords, RecordOrder } from './held-records.ts';
import { SourceSets } from './source-sets.ts';

/** What a copy cannot keep, by why. */
export interface LeftOut {
  readonly records: number;
  /** The first of them: digests, hex. */
  readonly samples: readonly string[];
}

const SAMPLES_MAX = 10;

/** Records of the server on their way into a segment and into the rows of the index; no object for each. One namespace. */
export class CopyRows {
  readonly sets: SourceSets;
  readonly #ts: number;
  readonly #digest: ContentDigest;
  /** Images of records that go into no segment: hashed, and gone. */
  #scratch = Buffer.alloc(0);
  #leftOut = 0;
  readonly #samples: string[] = [];

  /** `ts` of every row, ms; `digest` gets what is logged. */
  constructor(namespace: string, sets: readonly string[] | null, ts: number, digest: ContentDigest) {
    this.#ts = ts;
    this.#digest = digest;
    this.sets = new SourceSets((name) => ({
      seed: seedOf(namespace, name),
      isLogged: isLoggedSet(sets, name),
    }));
  }

  /** Records whose set has a name that is not UTF-8: neither segment nor index can name it. */
  get leftOut(): LeftOut {
    return { records: this.#leftOut, samples: this.#samples };
  }

  newRows(count: number): BaseRows {
    return new BaseRows(count, this.#ts);
  }

  /** Adds `order[from, to)`, of one partition, to `writer` and `rows`. */
  add(
    held: HeldRecords,
    order: RecordOrder,
    from: number,
    to: number,
    writer: SegmentWriter,
    rows: BaseRows,
  ): void {
    const { blocks } = held;
    for (let at = from; at < to; at++) this.#one(blocks[order.blocks[at]], order.records[at], writer, rows);
  }

  #one(block: RecordBlock, i: number, writer: SegmentWriter, rows: BaseRows): void {
    const { bytes } = block;
    const set = this.sets.at(bytes, block.setStart(i), block.setEnd(i));
    const digest = block.digestStart(i);
    if (set === undefined) {
      this.#leftOut++;
      if (this.#samples.length < SAMPLES_MAX) this.#samples.push(bytes.toString('hex', digest, digest + 20));
      return;
    }
    // the sort key (engine/partition.ts): the partition's bits to the front
    const b0 = bytes[digest];
    const b1 = bytes[digest + 1];
    const w0 =
      (((((b1 & 15) << 4) | (b0 >> 4)) << 24) |
        ((((b0 & 15) << 4) | (b1 >> 4)) << 16) |
        (bytes[digest + 2] << 8) |
        bytes[digest + 3]) >>>
      0;
    const w1 = word(bytes, digest + 4);
    const w2 = word(bytes, digest + 8);
    const w3 = word(bytes, digest + 12);
    const w4 = word(bytes, digest + 16);
    const generation = block.generation(i) & 0xffff;
    const voidTimeS = block.voidTimeS(i);
    const { builder } = writer;
    const start = set.isLogged ? builder.heapBytes : 0;
    const room = imageBytesMax(block, i);
    const heap = set.isLogged ? builder.room(room) : this.#scratchOf(room);
    const end = writeRecordImage(block, i, heap, start);
    const hash = contentHash(set.seed, w0, w1, w2, w3, w4, heap, start, end);
    if (set.isLogged) {
      this.#digest.apply(w0 >>> 20, hash, 1);
      rows.add(w0, w1, w2, w3, w4, generation, ROW_FLAG.base, set.number, voidTimeS, hash);
      if (set.writer !== writer) {
        set.writer = writer;
        set.inSegment = writer.setIndex(0, set.name);
      }
      builder.addMade(w0, w1, w2, w3, w4, this.#ts, voidTimeS, set.inSegment, generation, end);
      writer.rowAdded(set.inSegment, 0, end - start);
    } else
      rows.add(
        w0,
        w1,
        w2,
        w3,
        w4,
        generation,
        ROW_FLAG.base | ROW_FLAG.unlogged,
        set.number,
        voidTimeS,
        hash,
      );
  }

  #scratchOf(bytes: number): Buffer {
    if (this.#scratch.length < bytes) this.#scratch = Buffer.allocUnsafeSlow(2 * bytes);
    return this.#scratch;
  }
}

const word = (b: Buffer, at: number): number =>
  ((b[at] << 24) | (b[at + 1] << 16) | (b[at + 2] << 8) | b[at + 3]) >>> 0;
