import { randomBytes } from 'node:crypto';
import type { ObjectStore } from '../engine/object-store.ts';
import type { ArchiveEvent } from './event.ts';
import type { MergeSource } from './merge.ts';
import type { RunCursor } from './run-cursor.ts';
import { SEGMENT_RAW_BYTES, type SegmentHeader, type SegmentRef, type StreamSpan } from './segment.ts';
import type { SegmentReader } from './segment-reader.ts';
import { SegmentWriter, segmentRefOf } from './segment-writer.ts';

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
}

/** Writes merged rows as the segments of one run, cut at partition borders. Events go into the first segment. */
export class RunWriter {
  readonly #output: RunOutput;
  readonly #events: readonly ArchiveEvent[];
  readonly #sourceOf: Uint32Array;
  readonly #refs: SegmentRef[] = [];
  #writer: SegmentWriter | undefined;
  #reader: SegmentReader | undefined;
  #setMap: Int32Array = new Int32Array(0);
  #namespace = -1;
  #partition = -1;
  #index = 0;
  #full: SegmentWriter[] = [];

  /** `sources` is the merge's table; every source must be in `output.streams`. */
  constructor(output: RunOutput, sources: readonly MergeSource[], events: readonly ArchiveEvent[]) {
    this.#output = output;
    this.#events = events;
    this.#sourceOf = Uint32Array.from(sources, (s) =>
      output.streams.findIndex((t) => t.epoch === s.epoch && t.stream === s.stream),
    );
  }

  /** Appends the cursor's current row. Returns true when a segment is complete and {@link flush} is due. */
  append(cursor: RunCursor, voidTime: number): boolean {
    const { block, row } = cursor;
    const partition = block.w0[row] >>> 20;
    let writer = this.#writer;
    if (writer && partition !== this.#partition && writer.rawBytes >= SEGMENT_RAW_BYTES) {
      this.#full.push(writer);
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
    }
    const inSet = block.set[row];
    let set = this.#setMap[inSet];
    if (set < 0)
      set = this.#setMap[inSet] = writer.setIndex(this.#namespace, cursor.reader.properties.sets[inSet]);
    writer.builder.copyRow(block, row, this.#sourceOf[cursor.sources[block.source[row]]], set, voidTime);
    writer.rowAdded(set, block.flags[row], block.heapEnd[row] - block.heapStart(row));
    return this.#full.length > 0;
  }

  /** Writes complete segments to the store. */
  async flush(): Promise<void> {
    for (const writer of this.#full.splice(0))
      await this.#store(writer, this.#refs.length === 0 ? this.#events : []);
  }

  /** Writes the rest and returns the references, in sort order. */
  async finish(): Promise<SegmentRef[]> {
    await this.flush();
    if (this.#writer || (this.#refs.length === 0 && this.#events.length > 0)) {
      await this.#store(this.#writer ?? this.#newWriter(), this.#refs.length === 0 ? this.#events : []);
      this.#writer = undefined;
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

  async #store(writer: SegmentWriter, events: readonly ArchiveEvent[]): Promise<void> {
    const finished = writer.finish(events);
    const name = this.#output.nameOf(this.#index++);
    await this.#output.store.create(name, finished.bytes);
    this.#refs.push(segmentRefOf(name, finished));
  }
}

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
