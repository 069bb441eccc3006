import type { RecordBlock } from '../engine/aerospike/client/record-block.ts';
import { giveBack } from '../engine/give-back.ts';
import { DIGEST_BYTES, type PartitionRange } from '../engine/partition.ts';

const FIRST_RECORDS = 1024;

/** Where the records of a range are: block and number in it, by partition and digest. */
export interface RecordOrder {
  readonly blocks: Uint32Array;
  readonly records: Uint32Array;
  /** So many of them each partition has, from that of the range's start on. */
  readonly counts: Uint32Array;
  /** Left out: an older state of a record that came again. */
  readonly repeated: number;
}

/** Records of a scan of some partitions, as they came: within a partition digests descend, and after a page that failed begin again from a higher one. */
export class HeldRecords {
  readonly range: PartitionRange;
  #blocks: RecordBlock[] = [];
  #bytes = 0;
  #length = 0;
  /** Of each record, by arrival: its partition, and four bytes of its digest that follow those of the partition. Read while the frame is in the cache. */
  #partitions = new Uint16Array(FIRST_RECORDS);
  #prefixes = new Uint32Array(FIRST_RECORDS);
  /** Of a range of one partition: what is at or above this was taken already. */
  #taken: Buffer | undefined;

  constructor(range: PartitionRange) {
    this.range = range;
  }

  /** Memory of the frames. */
  get bytes(): number {
    return this.#bytes;
  }

  get blocks(): readonly RecordBlock[] {
    return this.#blocks;
  }

  add(block: RecordBlock): void {
    this.#blocks.push(block);
    this.#bytes += block.bytes.length;
    const { bytes, length } = block;
    if (this.#length + length > this.#partitions.length) this.#grow(this.#length + length);
    for (let i = 0; i < length; i++) {
      const at = block.digestStart(i);
      this.#partitions[this.#length] = (bytes[at] | (bytes[at + 1] << 8)) & 0x0fff;
      this.#prefixes[this.#length++] =
        ((bytes[at + 1] & 0xf0) << 24) | (bytes[at + 2] << 20) | (bytes[at + 3] << 12) | (bytes[at + 4] << 4);
    }
  }

  #grow(length: number): void {
    const size = Math.max(length, 2 * this.#partitions.length);
    const partitions = new Uint16Array(size);
    const prefixes = new Uint32Array(size);
    partitions.set(this.#partitions);
    prefixes.set(this.#prefixes);
    this.#partitions = partitions;
    this.#prefixes = prefixes;
  }

  /** All of them, ascending, each once: the one that came last. `from`: of the range's one partition only what is at or above this digest. */
  inOrder(from?: Buffer): RecordOrder {
    const { start, end } = this.range;
    const ends = new Uint32Array(end - start);
    const wanted = (block: RecordBlock, i: number): boolean =>
      (this.#taken === undefined || below(block, i, this.#taken)) &&
      (from === undefined || !below(block, i, from));
    const isAll = this.#taken === undefined && from === undefined;
    const partitions = this.#partitions;
    let arrival = 0;
    for (const block of this.#blocks)
      for (let i = 0; i < block.length; i++, arrival++)
        if (isAll || wanted(block, i)) ends[partitions[arrival] - start]++;
    for (let p = 1; p < ends.length; p++) ends[p] += ends[p - 1];
    const total = ends.at(-1) as number;
    const blocks = new Uint32Array(total);
    const records = new Uint32Array(total);
    const prefixes = new Uint32Array(total);
    // what descends is filled in from the end
    const next = ends.slice();
    arrival = 0;
    for (const [b, block] of this.#blocks.entries())
      for (let i = 0; i < block.length; i++, arrival++) {
        if (!isAll && !wanted(block, i)) continue;
        const at = --next[partitions[arrival] - start];
        blocks[at] = b;
        records[at] = i;
        prefixes[at] = this.#prefixes[arrival];
      }
    return this.#ascending(blocks, records, prefixes, ends);
  }

  /** Lets go of what was taken with `inOrder(from)`. */
  dropFrom(from: Buffer): void {
    this.#taken = from;
    const kept: RecordBlock[] = [];
    for (const block of this.#blocks)
      if (below(block, block.length - 1, from)) kept.push(block);
      else giveBack([block.bytes]);
    this.#blocks = [];
    this.#bytes = 0;
    this.#length = 0;
    for (const block of kept) this.add(block);
  }

  /** Gives the memory back: the garbage collector would be late. */
  release(): void {
    for (const block of this.#blocks) giveBack([block.bytes]);
    this.#blocks = [];
    this.#bytes = 0;
    this.#length = 0;
  }

  #ascending(
    blocks: Uint32Array,
    records: Uint32Array,
    prefixes: Uint32Array,
    ends: Uint32Array,
  ): RecordOrder {
    const counts = new Uint32Array(ends.length);
    let kept = 0;
    for (let p = 0, from = 0; p < ends.length; from = ends[p++]) {
      const first = kept;
      const isRising = this.#isRising(blocks, records, prefixes, from, ends[p]);
      if (!isRising) this.#sort(blocks, records, from, ends[p]);
      for (let at = from; at < ends[p]; at++) {
        // equal ones stand by their arrival, the latest first
        if (
          !isRising &&
          at > from &&
          this.#compare(blocks[at - 1], records[at - 1], blocks[at], records[at]) === 0
        )
          continue;
        blocks[kept] = blocks[at];
        records[kept++] = records[at];
      }
      counts[p] = kept - first;
    }
    const repeated = blocks.length - kept;
    return { blocks: blocks.subarray(0, kept), records: records.subarray(0, kept), counts, repeated };
  }

  #isRising(
    blocks: Uint32Array,
    records: Uint32Array,
    prefixes: Uint32Array,
    from: number,
    to: number,
  ): boolean {
    for (let at = from + 1; at < to; at++) {
      if (prefixes[at - 1] < prefixes[at]) continue;
      if (prefixes[at - 1] > prefixes[at]) return false;
      if (this.#compare(blocks[at - 1], records[at - 1], blocks[at], records[at]) >= 0) return false;
    }
    return true;
  }

  #sort(blocks: Uint32Array, records: Uint32Array, from: number, to: number): void {
    // a stable sort of what stands from the latest to the earliest
    const sorted = Array.from({ length: to - from }, (_, i) => [blocks[from + i], records[from + i]]).sort(
      ([b1, r1], [b2, r2]) => this.#compare(b1, r1, b2, r2),
    );
    for (const [i, [block, record]] of sorted.entries()) {
      blocks[from + i] = block;
      records[from + i] = record;
    }
  }

  #compare(b1: number, r1: number, b2: number, r2: number): number {
    const one = this.#blocks[b1];
    const other = this.#blocks[b2];
    return compareAt(one.bytes, one.digestStart(r1), other.bytes, other.digestStart(r2));
  }
}

const below = (block: RecordBlock, i: number, digest: Buffer): boolean =>
  compareAt(block.bytes, block.digestStart(i), digest, 0) < 0;

const compareAt = (a: Buffer, aStart: number, b: Buffer, bStart: number): number => {
  for (let i = 0; i < DIGEST_BYTES; i++) {
    const order = a[aStart + i] - b[bStart + i];
    if (order !== 0) return order;
  }
  return 0;
};
