import { randomBytes } from 'node:crypto';
import type { ObjectStore } from '../engine/object-store.ts';
import type { ArchiveEvent } from './event.ts';
import type { MergeSource } from './merge.ts';
import type { RunCursor } from './run-cursor.ts';
import { SEGMENT_RAW_BYTES, type SegmentHeader, type SegmentRef, type StreamSpan } from './segment.ts';
import type { SegmentReader } from './segment-reader.ts';
import { SegmentWriter, segmentRefOf } from './segment-writer.ts';
import { SeedTable, VersionDigest } from './version-digest.ts';

/** Where a segment of a run begins: rows are ordered by namespace, then partition. */
export interface MergePosition {
  readonly namespace: string;
  readonly partition: number;
}

/** A written segment, and the {@link VersionDigest} of the rows that went into it, as text. */
export interface MergedPart {
  readonly ref: SegmentRef;
  readonly digest: string;
}

/** What the segments of one output run have in common. */
export interface RunOutput {
  readonly store: ObjectStore;
  readonly archive: string;
  readonly timeline: string;
  readonly level: number;
  readonly generation: number;
  readonly streams: readonly StreamSpan[];
  readonly namespaces: readonly string[];
  /** Object name for the n-th segment; never used twice (it holds a fresh attempt id). */
  readonly nameOf: (index: number) => string;
  /** Raw bytes after which a segment ends at the next partition border. Default {@link SEGMENT_RAW_BYTES}. */
  readonly segmentRawBytes?: number;
  /** False: the run's first segment is written already, and has the events. Default true. */
  readonly isFirst?: boolean;
  /** Wants digests, and is told of each segment; `next` null: it is the last. */
  readonly parts?: {
    before(name: string): Promise<void>;
    after(part: MergedPart, next: MergePosition | null): Promise<void>;
  };
}

/** A segment that takes no more rows. */
interface Closed {
  readonly writer: SegmentWriter;
  readonly digest: VersionDigest;
  readonly next: MergePosition | null;
}

/** Writes merged rows as the segments of one run, cut at partition borders. Events go into the first segment. */
export class RunWriter {
  readonly #output: RunOutput;
  readonly #events: readonly ArchiveEvent[];
  readonly #sourceOf: Uint32Array;
  readonly #rawBytesMax: number;
  readonly #refs: SegmentRef[] = [];
  #writer: SegmentWriter | undefined;
  #reader: SegmentReader | undefined;
  #setMap: Int32Array = new Int32Array(0);
  #seeds!: SeedTable;
  #namespace = -1;
  #partition = -1;
  #index = 0;
  #full: Closed[] = [];
  #digest = new VersionDigest();
  #withEvents: boolean;

  /** `sources` is the merge's table; every source must be in `output.streams`. */
  constructor(output: RunOutput, sources: readonly MergeSource[], events: readonly ArchiveEvent[]) {
    this.#output = output;
    this.#events = events;
    this.#withEvents = output.isFirst ?? true;
    this.#rawBytesMax = output.segmentRawBytes ?? SEGMENT_RAW_BYTES;
    this.#sourceOf = Uint32Array.from(sources, (s) =>
      output.streams.findIndex((t) => t.epoch === s.epoch && t.stream === s.stream),
    );
  }

  /** Appends the cursor's current row. Returns true when a segment is complete and {@link flush} is due. */
  append(cursor: RunCursor, voidTime: number): boolean {
    const { block, row } = cursor;
    const partition = block.w0[row] >>> 20;
    let writer = this.#writer;
    if (writer && partition !== this.#partition && writer.rawBytes >= this.#rawBytesMax) {
      const next = { namespace: this.#output.namespaces[cursor.namespace], partition };
      this.#full.push({ writer, digest: this.#digest, next });
      this.#digest = new VersionDigest();
      writer = undefined;
    }
    if (!writer) {
      writer = this.#writer = this.#newWriter();
      this.#reader = undefined;
      this.#namespace = -1;
    }
    this.#partition = partition;
    if (cursor.namespace !== this.#namespace) {
      this.#namespace = cursor.namespace;
      writer.startNamespace(cursor.namespace);
      this.#reader = undefined;
    }
    if (cursor.reader !== this.#reader) {
      this.#reader = cursor.reader;
      this.#setMap = setMapOf(cursor.reader, this.#namespace, this.#setMaps(writer));
      if (this.#output.parts) this.#seeds = seedsOf(cursor.reader);
    }
    const inSet = block.set[row];
    let set = this.#setMap[inSet];
    if (set < 0)
      set = this.#setMap[inSet] = writer.setIndex(this.#namespace, cursor.reader.properties.sets[inSet]);
    writer.builder.copyRow(block, row, this.#sourceOf[cursor.sources[block.source[row]]], set, voidTime);
    writer.rowAdded(set, block.flags[row], block.heapEnd[row] - block.heapStart(row));
    if (this.#output.parts)
      this.#digest.addRow(block, row, this.#seeds.of(block.namespace, inSet, block.source[row]));
    return this.#full.length > 0;
  }

  /** Writes complete segments to the store. */
  async flush(): Promise<void> {
    for (const closed of this.#full.splice(0)) await this.#store(closed);
  }

  /** Writes the rest and returns the references, in sort order. */
  async finish(): Promise<SegmentRef[]> {
    await this.flush();
    if (this.#writer || (this.#withEvents && this.#events.length > 0)) {
      const writer = this.#writer ?? this.#newWriter();
      this.#writer = undefined;
      await this.#store({ writer, digest: this.#digest, next: null });
    }
    return this.#refs;
  }

  #mapsOf = new WeakMap<SegmentWriter, Map<string, Int32Array>>();

  #setMaps(writer: SegmentWriter): Map<string, Int32Array> {
    let maps = this.#mapsOf.get(writer);
    if (!maps) {
      maps = new Map();
      this.#mapsOf.set(writer, maps);
    }
    return maps;
  }

  #newWriter(): SegmentWriter {
    const { archive, timeline, level, generation, streams, namespaces } = this.#output;
    const header: SegmentHeader = {
      archive,
      timeline,
      level,
      streams,
      generation,
      salt: randomBytes(32),
      keyId: null,
    };
    return new SegmentWriter(header, namespaces);
  }

  async #store({ writer, digest, next }: Closed): Promise<void> {
    const { parts, store, nameOf } = this.#output;
    const events = this.#withEvents ? this.#events : [];
    this.#withEvents = false;
    const finished = writer.finish(events, parts && digest);
    const name = nameOf(this.#index++);
    await parts?.before(name);
    await store.create(name, finished.bytes);
    const ref = segmentRefOf(name, finished);
    this.#refs.push(ref);
    await parts?.after({ ref, digest: `${digest}` }, next);
  }
}

const seedTables = new WeakMap<SegmentReader, SeedTable>();

const seedsOf = (reader: SegmentReader): SeedTable => {
  let seeds = seedTables.get(reader);
  if (!seeds) {
    seeds = new SeedTable(reader.properties);
    seedTables.set(reader, seeds);
  }
  return seeds;
};

/** Set numbers of an input segment → numbers in the output, filled on first use; rows of runs alternate, so maps are kept. */
const setMapOf = (reader: SegmentReader, namespace: number, maps: Map<string, Int32Array>): Int32Array => {
  const id = `${namespace}\0${reader.ref.name}`;
  let map = maps.get(id);
  if (!map) {
    map = new Int32Array(reader.properties.sets.length).fill(-1);
    maps.set(id, map);
  }
  return map;
};
