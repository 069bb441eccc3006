import { giveBack } from '../engine/give-back.ts';
import { ALL_PARTITIONS, type PartitionRange, partitionOfWord } from '../engine/partition.ts';
import type { Block } from './block.ts';
import type { ReadAhead } from './read-ahead.ts';
import type { BlockHandle, SegmentReader } from './segment-reader.ts';

/** Stored bytes fetched by one ranged read. */
const FETCH_BYTES = 1024 * 1024;

/** Neighbouring blocks that are read at once. */
interface Fetch {
  readonly reader: SegmentReader;
  readonly handles: readonly BlockHandle[];
  readonly storedBytes: number;
  blocks: Promise<Buffer[]> | undefined;
  /** It has room of the {@link ReadAhead}. */
  isAhead: boolean;
}

/**
 * Walks the rows of a sorted run, limited to a range of partitions, block by block. The merge reads its public fields: the
 * current block and row, valid until the cursor leaves the block, and `rank`, a number that orders rows by (namespace, first 44 bits
 * of the sort key).
 */
export class RunCursor {
  block!: Block;
  row = 0;
  rank = Number.POSITIVE_INFINITY;
  /** Merge-wide ordinal of the current block's namespace. */
  namespace = 0;
  /** Merge-wide ordinal of each stream of the current segment, by its index there: orders positions. */
  sources: Uint32Array = new Uint32Array(0);
  reader!: SegmentReader;
  /** Index of this cursor in the merge; equal rows keep this order. */
  readonly index: number;
  readonly #readers: readonly SegmentReader[];
  readonly #range: PartitionRange;
  readonly #ahead: ReadAhead;
  readonly #namespaceOrdinals: (reader: SegmentReader) => Uint32Array;
  readonly #sourceOrdinals: (reader: SegmentReader) => Uint32Array;
  #queue: Fetch[] = [];
  #nextReader = 0;
  #stored: { reader: SegmentReader; bytes: Buffer }[] = [];
  /** What the blocks in `#stored` came in. */
  #fetched: readonly Buffer[] = [];
  #namespaces: Uint32Array = new Uint32Array(0);
  #decoded: Block | undefined;

  constructor(
    index: number,
    readers: readonly SegmentReader[],
    namespaceOrdinals: (reader: SegmentReader) => Uint32Array,
    sourceOrdinals: (reader: SegmentReader) => Uint32Array,
    ahead: ReadAhead,
    range: PartitionRange = ALL_PARTITIONS,
  ) {
    this.index = index;
    this.#readers = readers.filter(
      (r) => r.properties.partitions.start < range.end && r.properties.partitions.end > range.start,
    );
    this.#range = range;
    this.#ahead = ahead;
    this.#namespaceOrdinals = namespaceOrdinals;
    this.#sourceOrdinals = sourceOrdinals;
  }

  /** Moves to the next row within the block; false when the block is used up and {@link nextBlock} is due. */
  advance(): boolean {
    if (++this.row >= this.block.rows) return false;
    this.#setRank();
    return this.rank !== Number.POSITIVE_INFINITY;
  }

  /** Loads the next block that has rows in range; false at the end of the run. */
  async nextBlock(): Promise<boolean> {
    for (;;) {
      const stored = this.#stored.shift();
      if (stored === undefined) {
        if (!(await this.#fetch())) {
          this.rank = Number.POSITIVE_INFINITY;
          return false;
        }
        continue;
      }
      if (stored.reader !== this.reader) {
        this.reader = stored.reader;
        this.sources = this.#sourceOrdinals(stored.reader);
        this.#namespaces = this.#namespaceOrdinals(stored.reader);
      }
      this.#decoded?.release();
      this.block = this.#decoded = stored.reader.decode(stored.bytes);
      this.namespace = this.#namespaces[this.block.namespace];
      this.row = 0;
      while (this.row < this.block.rows && partitionOfWord(this.block.w0[this.row]) < this.#range.start)
        this.row++;
      if (this.row === this.block.rows) continue;
      this.#setRank();
      if (this.rank !== Number.POSITIVE_INFINITY) return true;
    }
  }

  #setRank(): void {
    const w0 = this.block.w0[this.row];
    if (w0 >>> 20 >= this.#range.end) {
      // the rest of this block is past the range; a later block may hold another namespace
      this.row = this.block.rows;
      this.rank = Number.POSITIVE_INFINITY;
      return;
    }
    this.rank = this.namespace * 2 ** 44 + w0 * 4096 + (this.block.w1[this.row] >>> 20);
  }

  async #fetch(): Promise<boolean> {
    // unless it is what the reader keeps of the segment's end
    giveBack(this.#fetched);
    this.#fetched = [];
    await this.#fillQueue();
    const current = this.#queue.shift();
    if (!current) return false;
    if (current.isAhead) this.#ahead.give(current.storedBytes);
    start(current);
    await this.#readAhead();
    this.#fetched = await (current.blocks as Promise<Buffer[]>);
    for (const bytes of this.#fetched) this.#stored.push({ reader: current.reader, bytes });
    return true;
  }

  /** The next fetch runs while this one is merged; those after it as far as there is room. */
  async #readAhead(): Promise<void> {
    await this.#fillQueue();
    for (const [i, next] of this.#queue.entries()) {
      if (next.blocks) continue;
      if (i > 0) {
        if (!this.#ahead.take(next.storedBytes)) return;
        next.isAhead = true;
      }
      start(next);
    }
  }

  async #fillQueue(): Promise<void> {
    while (this.#queue.length < 2 && this.#nextReader < this.#readers.length) {
      const reader = this.#readers[this.#nextReader++];
      this.#queue.push(...fetchesOf(reader, await reader.blocks(this.#range.start, this.#range.end)));
    }
  }
}

/** Groups of neighbours, each read with one request. */
const fetchesOf = (reader: SegmentReader, handles: readonly BlockHandle[]): Fetch[] => {
  const fetches: Fetch[] = [];
  let group: BlockHandle[] = [];
  let storedBytes = 0;
  const close = (): void => {
    if (group.length)
      fetches.push({ reader, handles: group, storedBytes, blocks: undefined, isAhead: false });
    group = [];
    storedBytes = 0;
  };
  for (const handle of handles) {
    const last = group.at(-1);
    if (storedBytes + handle.bytes > FETCH_BYTES || (last && last.offset + last.bytes !== handle.offset))
      close();
    group.push(handle);
    storedBytes += handle.bytes;
  }
  close();
  return fetches;
};

/** What fails is told when the merge gets there, and may never be. */
const start = (fetch: Fetch): void => {
  if (fetch.blocks) return;
  fetch.blocks = fetch.reader.readBlocks(fetch.handles);
  fetch.blocks.catch(() => undefined);
};
