import { ALL_PARTITIONS, type PartitionRange } from '../engine/partition.ts';
import { ReadAhead } from './read-ahead.ts';
import { RunCursor } from './run-cursor.ts';
import type { StreamSpan } from './segment.ts';
import type { SegmentReader } from './segment-reader.ts';

/**
 * Called for each version in the order (namespace, partition, digest, ts descending, position descending). `first` is true
 * for the first version of a record. The cursor's block and row are the version. Returns true when {@link drain} is due.
 */
export interface MergeVisitor {
  row(cursor: RunCursor, first: boolean): boolean;
  /** Called outside the hot loop, may wait (back-pressure). */
  drain(): Promise<void>;
}

/** One stream's ownership epoch among all inputs of a merge; sorted by (epoch, stream), so the index orders positions. */
export type MergeSource = Pick<StreamSpan, 'epoch' | 'stream'>;

/** Stored bytes that are read ahead over all runs together, beyond one fetch for each. */
const AHEAD_BYTES_MAX = 8 * 1024 * 1024;

/** k-way merge of sorted runs. Bounded memory: one decoded block and up to two fetches for each run, and what is read ahead. */
export class Merge {
  /** Union of the inputs' namespaces, in byte order. */
  readonly namespaces: readonly string[];
  readonly sources: readonly MergeSource[];
  readonly cursors: readonly RunCursor[];

  /** `runs`: for each run its open segments, in partition order. */
  constructor(runs: readonly (readonly SegmentReader[])[], range: PartitionRange = ALL_PARTITIONS) {
    const readers = runs.flat();
    this.namespaces = [...new Set(readers.flatMap((r) => r.properties.namespaces))].sort(byteOrder);
    const sources = new Map<string, MergeSource>();
    for (const { properties } of readers)
      for (const s of properties.header.streams)
        sources.set(sourceId(s), { epoch: s.epoch, stream: s.stream });
    this.sources = [...sources.values()].sort((a, b) => a.epoch - b.epoch || byteOrder(a.stream, b.stream));
    const sourceOrdinals = new Map(this.sources.map((s, i) => [sourceId(s), i]));
    const namespaceOrdinals = new Map(this.namespaces.map((n, i) => [n, i]));
    const ahead = new ReadAhead(AHEAD_BYTES_MAX);
    this.cursors = runs.map(
      (segments, index) =>
        new RunCursor(
          index,
          segments,
          (r) => Uint32Array.from(r.properties.namespaces, (n) => namespaceOrdinals.get(n) as number),
          (r) =>
            Uint32Array.from(r.properties.header.streams, (s) => sourceOrdinals.get(sourceId(s)) as number),
          ahead,
          range,
        ),
    );
  }

  /** Runs the merge to its end. Errors of any input end it. */
  async run(visitor: MergeVisitor): Promise<void> {
    // all at once: their first reads are many, and each may take long
    const begun = await Promise.all(this.cursors.map((cursor) => cursor.nextBlock()));
    const heap = this.cursors.filter((_, i) => begun[i]);
    for (let i = (heap.length >> 1) - 1; i >= 0; i--) siftDown(heap, i);
    let rank = -1;
    let w1 = 0;
    let w2 = 0;
    let w3 = 0;
    let w4 = 0;
    while (heap.length > 0) {
      const cursor = heap[0];
      const { block, row } = cursor;
      // rank holds w0 and the top of w1; the rest decides only when ranks are equal
      const first =
        cursor.rank !== rank ||
        block.w1[row] !== w1 ||
        block.w2[row] !== w2 ||
        block.w3[row] !== w3 ||
        block.w4[row] !== w4;
      if (first) {
        rank = cursor.rank;
        w1 = block.w1[row];
        w2 = block.w2[row];
        w3 = block.w3[row];
        w4 = block.w4[row];
      }
      const wait = visitor.row(cursor, first);
      if (!cursor.advance() && !(await cursor.nextBlock())) {
        const last = heap.pop() as RunCursor;
        if (heap.length > 0) heap[0] = last;
      }
      if (heap.length > 1) siftDown(heap, 0);
      if (wait) await visitor.drain();
    }
    await visitor.drain();
  }
}

const sourceId = (s: MergeSource): string => `${s.epoch}/${s.stream}`;
const byteOrder = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));

const siftDown = (heap: RunCursor[], from: number): void => {
  const length = heap.length;
  const moving = heap[from];
  let i = from;
  for (;;) {
    let child = 2 * i + 1;
    if (child >= length) break;
    if (child + 1 < length && before(heap[child + 1], heap[child])) child++;
    if (!before(heap[child], moving)) break;
    heap[i] = heap[child];
    i = child;
  }
  heap[i] = moving;
};

const before = (a: RunCursor, b: RunCursor): boolean =>
  a.rank !== b.rank ? a.rank < b.rank : beforeInRank(a, b);

/** Full order of two rows whose rank is the same: rest of the key, then newest first. */
const beforeInRank = (a: RunCursor, b: RunCursor): boolean => {
  const x = a.block;
  const y = b.block;
  const i = a.row;
  const j = b.row;
  if (x.w1[i] !== y.w1[j]) return x.w1[i] < y.w1[j];
  if (x.w2[i] !== y.w2[j]) return x.w2[i] < y.w2[j];
  if (x.w3[i] !== y.w3[j]) return x.w3[i] < y.w3[j];
  if (x.w4[i] !== y.w4[j]) return x.w4[i] < y.w4[j];
  if (x.tsHi[i] !== y.tsHi[j]) return x.tsHi[i] > y.tsHi[j];
  if (x.tsLo[i] !== y.tsLo[j]) return x.tsLo[i] > y.tsLo[j];
  const s = a.sources[x.source[i]];
  const t = b.sources[y.source[j]];
  if (s !== t) return s > t;
  if (x.lsnHi[i] !== y.lsnHi[j]) return x.lsnHi[i] > y.lsnHi[j];
  if (x.lsnLo[i] !== y.lsnLo[j]) return x.lsnLo[i] > y.lsnLo[j];
  return a.index < b.index;
};
