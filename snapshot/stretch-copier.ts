import { randomBytes } from 'node:crypto';
import { setImmediate as breathe } from 'node:timers/promises';
import type { AerospikeClient } from '../engine/aerospike/client/client.ts';
import type { Scan } from '../engine/aerospike/client/scan.ts';
import { PageSizes } from '../engine/aerospike/client/scan-plan.ts';
import { ContentDigest } from '../engine/content-digest.ts';
import type { ObjectStore } from '../engine/object-store.ts';
import { PARTITIONS, type PartitionRange, PartitionSet } from '../engine/partition.ts';
import { ROW_BYTES } from '../wal/capture/index-row.ts';
import { segmentName } from '../wal/segment-name.ts';
import { SegmentWriter, segmentRefOf } from '../wal/segment-writer.ts';
import type { CopyJob, CopySink, CopyTotals, Stretch } from './copy-job.ts';
import { CopyRows } from './copy-rows.ts';
import { HeldRecords } from './held-records.ts';

/** A range of this many times its usual size is read again in halves. */
const RANGE_TIMES_MAX = 4;
/** Ranges that are read while one is encoded. */
const AHEAD_RANGES = 2;
/** Of a page, in usual ranges: one fits in. */
const PAGE_TIMES = 2;
/** Raw bytes of usual ranges after which a segment ends with its partition. */
const SEGMENT_TIMES = 8;

/** Where segments go; what is handed over is the store's. */
export type SegmentStore = Pick<ObjectStore, 'create'>;

interface Reading {
  readonly stretch: Stretch;
  readonly range: PartitionRange;
  readonly isLast: boolean;
  /** Undefined: there is more than a range may have. */
  readonly held: Promise<HeldRecords | undefined>;
}

/** What is known of a namespace. */
interface Known {
  readonly rows: CopyRows;
  readonly sizes: PageSizes;
  bytesPerPartition: number;
}

/**
 * Copies stretch after stretch: reads ranges of partitions, makes sorted segments and rows of the index of them. A few ranges are read ahead, so
 * that the server works while this thread does. Memory: (AHEAD_RANGES + 1) × RANGE_TIMES_MAX × `rangeBytes` of frames, and three segments: one
 * that grows, one that is put together, one on its way into the archive.
 */
export class StretchCopier {
  readonly #store: SegmentStore;
  readonly #client: AerospikeClient;
  readonly #job: CopyJob;
  readonly #sink: CopySink;
  readonly #digest: ContentDigest;
  readonly #rangeBytesMax: number;
  readonly #segmentBytes: number;
  readonly #known = new Map<string, Known>();
  readonly #ending = new AbortController();
  #writer: SegmentWriter | undefined;
  #creating: Promise<void> = Promise.resolve();
  #records = 0;
  #bytes = 0;
  #repeated = 0;

  constructor(store: SegmentStore, client: AerospikeClient, job: CopyJob, sink: CopySink) {
    this.#store = store;
    this.#client = client;
    this.#job = job;
    this.#sink = sink;
    this.#digest = new ContentDigest(job.shards);
    this.#rangeBytesMax = RANGE_TIMES_MAX * job.rangeBytes;
    this.#segmentBytes = SEGMENT_TIMES * job.rangeBytes;
  }

  /** Until `next` has no more. @throws what a scan throws, and the archive */
  async run(next: () => Promise<Stretch | undefined>): Promise<CopyTotals> {
    const ahead: Reading[] = [];
    try {
      const ranges = this.#ranges(next);
      let isOver = false;
      const fill = async (): Promise<void> => {
        while (!isOver && ahead.length < AHEAD_RANGES) {
          const { value, done } = await ranges.next();
          if (done) isOver = true;
          else ahead.push(value);
        }
      };
      for (;;) {
        await fill();
        const reading = ahead.shift();
        if (!reading) break;
        const held = await reading.held;
        await fill();
        // what was just asked for goes out before this thread is busy
        await breathe();
        await this.#copy(reading, held);
        if (reading.isLast) await this.#closeSegment(0);
      }
      await this.#creating;
    } finally {
      this.#ending.abort();
      await Promise.allSettled([...ahead.map((r) => r.held), this.#creating]);
    }
    return this.#totals();
  }

  async *#ranges(next: () => Promise<Stretch | undefined>): AsyncGenerator<Reading, void, undefined> {
    // asked for early: who gives them may be busy
    const { rangeBytes } = this.#job;
    let coming = next();
    for (let stretch = await coming; stretch; stretch = await coming) {
      coming = next();
      coming.catch(() => undefined);
      const known = this.#knownOf(stretch);
      for (let start = stretch.start; start < stretch.end; ) {
        const fitting = Math.floor(rangeBytes / Math.max(known.bytesPerPartition, rangeBytes / PARTITIONS));
        const end = Math.min(stretch.end, start + Math.max(1, fitting));
        const range = { start, end };
        // one that is known to be large is read when it is its turn
        const isLarge = end - start === 1 && known.bytesPerPartition > this.#rangeBytesMax / 2;
        const held = isLarge ? Promise.resolve(undefined) : this.#read(stretch.namespace, range);
        held.catch(() => undefined);
        yield { stretch, range, isLast: end === stretch.end, held };
        start = end;
      }
    }
  }

  #knownOf({ namespace, bytesPerPartition }: Stretch): Known {
    let known = this.#known.get(namespace);
    if (!known) {
      known = {
        rows: new CopyRows(namespace, this.#job.sets, this.#job.ts, this.#digest),
        sizes: new PageSizes(PAGE_TIMES * this.#job.rangeBytes),
        bytesPerPartition,
      };
      this.#known.set(namespace, known);
    }
    return known;
  }

  #scan(namespace: string, range: PartitionRange): Scan {
    return this.#client.scan({
      namespace,
      partitions: PartitionSet.of([range]),
      sizes: this.#of(namespace).sizes,
      signal: this.#ending.signal,
    });
  }

  #of(namespace: string): Known {
    return this.#known.get(namespace) as Known;
  }

  async #read(namespace: string, range: PartitionRange): Promise<HeldRecords | undefined> {
    const held = new HeldRecords(range);
    const known = this.#of(namespace);
    let isLarge = false;
    for await (const block of this.#scan(namespace, range)) {
      held.add(block);
      isLarge = held.bytes > this.#rangeBytesMax;
      if (isLarge) break;
    }
    const seen = held.bytes / (range.end - range.start);
    known.bytesPerPartition = isLarge
      ? Math.max(seen, known.bytesPerPartition)
      : (seen + known.bytesPerPartition) / 2;
    if (!isLarge) return held;
    held.release();
    return undefined;
  }

  async #copy(
    { stretch: { namespace }, range }: Pick<Reading, 'stretch' | 'range'>,
    held: HeldRecords | undefined,
  ): Promise<void> {
    if (held) {
      await this.#encode(namespace, held);
      return;
    }
    const { start, end } = range;
    if (end - start === 1) {
      await this.#copyLarge(namespace, start);
      return;
    }
    const middle = (start + end) >>> 1;
    for (const half of [
      { start, end: middle },
      { start: middle, end },
    ])
      await this.#copy(
        { stretch: { namespace, ...half, bytesPerPartition: 0 }, range: half },
        await this.#read(namespace, half),
      );
  }

  async #encode(namespace: string, held: HeldRecords): Promise<void> {
    const { rows: copy } = this.#of(namespace);
    const order = held.inOrder();
    const rows = copy.newRows(order.blocks.length);
    const parts: { partition: number; rows: number }[] = [];
    for (let partition = held.range.start, from = 0; partition < held.range.end; partition++) {
      if (this.#writer && this.#writer.rawBytes >= this.#segmentBytes) await this.#closeSegment(0);
      const to = from + order.counts[partition - held.range.start];
      const before = rows.length;
      if (to > from) copy.add(held, order, from, to, this.#writerOf(namespace), rows);
      parts.push({ partition, rows: rows.length - before });
      from = to;
    }
    this.#account(held, order.blocks.length, order.repeated);
    held.release();
    await this.#sink.rows({ namespace, sets: [...copy.sets.names], parts, buffer: bufferOf([rows.used]) });
  }

  /** A partition of any size: what was read and verified goes into a segment of its own, of which each is below the one before. */
  async #copyLarge(namespace: string, partition: number): Promise<void> {
    await this.#closeSegment(0);
    const { rows: copy } = this.#of(namespace);
    const held = new HeldRecords({ start: partition, end: partition + 1 });
    const pieces: Buffer[] = [];
    const take = async (from?: Buffer): Promise<void> => {
      const order = held.inOrder(from);
      if (order.blocks.length === 0) return;
      const rows = copy.newRows(order.blocks.length);
      copy.add(held, order, 0, order.blocks.length, this.#writerOf(namespace), rows);
      this.#account(undefined, order.blocks.length, order.repeated);
      pieces.push(rows.used);
      await this.#closeSegment(1 - pieces.length);
    };
    const scan = this.#scan(namespace, held.range);
    let last: Buffer | undefined;
    for await (const block of scan) {
      held.add(block);
      this.#bytes += block.bytes.length;
      if (held.bytes <= this.#segmentBytes) continue;
      const [point] = scan.points();
      if (!point?.after || last?.equals(point.after)) continue;
      last = point.after;
      await take(last);
      held.dropFrom(last);
    }
    await take();
    held.release();
    const buffer = bufferOf(pieces.reverse());
    const parts = [{ partition, rows: buffer.byteLength / ROW_BYTES }];
    await this.#sink.rows({ namespace, sets: [...copy.sets.names], parts, buffer });
  }

  #account(held: HeldRecords | undefined, records: number, repeated: number): void {
    this.#records += records + repeated;
    this.#repeated += repeated;
    this.#bytes += held?.bytes ?? 0;
  }

  #writerOf(namespace: string): SegmentWriter {
    const { archive, timeline, stream } = this.#job;
    this.#writer ??= new SegmentWriter(
      {
        archive,
        timeline,
        level: -1,
        streams: [{ epoch: 1, stream, lsnStart: 0, lsnEnd: 1 }],
        generation: 0,
        salt: randomBytes(32),
        keyId: null,
      },
      [namespace],
    );
    return this.#writer;
  }

  /** Its object is created while the next one grows. */
  async #closeSegment(piece: number): Promise<void> {
    const writer = this.#writer;
    this.#writer = undefined;
    if (!writer || writer.rows === 0) return;
    const finished = writer.finish([]);
    const { start, end } = finished.properties.partitions;
    const [namespace] = finished.properties.namespaces;
    await this.#creating;
    const { timeline, folder } = this.#job;
    const name = segmentName(timeline, folder, 0, start, end, 0);
    const ref = segmentRefOf(name, finished);
    this.#creating = this.#store
      .create(name, finished.bytes)
      .then(() => this.#sink.segment({ namespace, ref, piece }));
    this.#creating.catch(() => undefined);
  }

  #totals(): CopyTotals {
    const leftOut = [...this.#known.values()].map(({ rows }) => rows.leftOut);
    return {
      records: this.#records,
      bytes: this.#bytes,
      repeated: this.#repeated,
      leftOut: {
        records: leftOut.reduce((n, l) => n + l.records, 0),
        samples: leftOut.flatMap((l) => l.samples),
      },
      digest: this.#digest.toShards(),
    };
  }
}

/** All of them in one buffer of its own: that can be moved to another thread. */
const bufferOf = (rows: readonly Buffer[]): ArrayBuffer => {
  const [only] = rows;
  if (rows.length === 1 && only.buffer.byteLength === only.length) return only.buffer as ArrayBuffer;
  const out = new Uint8Array(rows.reduce((n, r) => n + r.length, 0));
  let at = 0;
  for (const r of rows) {
    out.set(r, at);
    at += r.length;
  }
  return out.buffer;
};
