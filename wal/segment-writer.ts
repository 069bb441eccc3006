import { crc32 } from 'node:zlib';
import { giveBack } from '../engine/give-back.ts';
import { PARTITIONS, partitionOfWord } from '../engine/partition.ts';
import { BLOCK_BYTES, Block, BlockBuilder, encodeStored, FLAG, ZSTD_LEVEL_FAST } from './block.ts';
import { encodeEnvelope, packBytes } from './envelope.ts';
import type { ArchiveEvent } from './event.ts';
import { InexactCount } from './exactness.ts';
import { Filter } from './filter.ts';
import {
  BLOCKS_PER_INDEX,
  FOOTER_BYTES,
  INDEX_ENTRY_BYTES,
  SEGMENT_FOOTER_MAGIC,
  SEGMENT_MAGIC,
  SEGMENT_VERSION,
  type SegmentHeader,
  type SegmentProperties,
  type SegmentRef,
  type SetCount,
  type TopEntry,
} from './segment.ts';
import type { VersionDigest } from './version-digest.ts';

/** A block of which that part is left has little to find: those after it are compressed at the fast level, and then one at the usual level again. */
const DENSE_PART = 0.75;
const DENSE_BLOCKS = 15;

interface BlockEntry {
  readonly namespace: number;
  readonly key: Buffer;
  readonly offset: number;
  readonly bytes: number;
  readonly rows: number;
}

/** Builds one segment in memory from rows that come in sort order. Use once: add rows, then {@link finish}. */
export class SegmentWriter {
  readonly #header: SegmentHeader;
  readonly #namespaces: readonly string[];
  readonly #builder = new BlockBuilder();
  readonly #chunks: Uint8Array[] = [];
  readonly #entries: BlockEntry[] = [];
  readonly #keys: Uint32Array[] = [];
  readonly #sets = new Map<string, number>();
  readonly #setNames: string[] = [];
  readonly #versions: number[] = [];
  readonly #deletes: number[] = [];
  readonly #imageBytes: number[] = [];
  #namespace = 0;
  /** Blocks that are taken for as dense as the last one was. */
  #denseLeft = 0;
  #offset: number;
  #rows = 0;
  #rawBytes = 0;
  #tsMin = Number.POSITIVE_INFINITY;
  #tsMax = 0;
  readonly #inexact = new InexactCount();
  #partitionMin = PARTITIONS;
  #partitionMax = -1;

  constructor(header: SegmentHeader, namespaces: readonly string[]) {
    this.#header = header;
    this.#namespaces = namespaces;
    const envelope = encodeEnvelope(SEGMENT_MAGIC, SEGMENT_VERSION, header);
    this.#chunks.push(envelope);
    this.#offset = envelope.length;
  }

  get rows(): number {
    return this.#rows + this.#builder.rows;
  }

  get rawBytes(): number {
    return this.#rawBytes + this.#builder.bytes;
  }

  /** Number of a set in this segment's table. Sets of different namespaces are different entries. */
  setIndex(namespace: number, set: string): number {
    const id = `${namespace}\0${set}`;
    let index = this.#sets.get(id);
    if (index === undefined) {
      index = this.#setNames.length;
      this.#sets.set(id, index);
      this.#setNames.push(set);
      this.#versions.push(0);
      this.#deletes.push(0);
      this.#imageBytes.push(0);
    }
    return index;
  }

  /** Where rows go; call {@link rowAdded} after each. Rows of another namespace need {@link startNamespace} first. */
  get builder(): BlockBuilder {
    return this.#builder;
  }

  startNamespace(namespace: number): void {
    if (namespace === this.#namespace) return;
    this.#closeBlock();
    this.#namespace = namespace;
  }

  /** Accounts for the row that was just put into the builder. `bytes` is what it added to the heap. */
  rowAdded(set: number, flags: number, bytes: number): void {
    this.#versions[set]++;
    if (flags & FLAG.delete) this.#deletes[set]++;
    this.#imageBytes[set] += bytes;
    if (this.#builder.bytes >= BLOCK_BYTES) this.#closeBlock();
  }

  /**
   * Encodes the rest and returns the whole file. What was just encoded has been decoded again and compared: a codec that
   * fails in memory must fail here, not at a restore. `digest` is that of the rows, as whoever added them had them.
   */
  finish(
    events: readonly ArchiveEvent[],
    digest?: VersionDigest,
  ): { bytes: Buffer; properties: SegmentProperties; crc: string } {
    this.#closeBlock();
    const dataBytes = this.#offset - this.#chunks[0].length;
    const eventsBytes = events.length ? encodeStored(packBytes(events)) : Buffer.alloc(0);
    const eventsOffset = this.#push(eventsBytes);
    const top: TopEntry[] = [];
    for (let from = 0; from < this.#entries.length; ) {
      // an index partition never spans namespaces: its filter is about one of them
      const namespace = this.#entries[from].namespace;
      let to = from;
      while (
        to < this.#entries.length &&
        to - from < BLOCKS_PER_INDEX &&
        this.#entries[to].namespace === namespace
      )
        to++;
      top.push(this.#indexPartition(from, to));
      from = to;
    }
    for (const event of events) {
      this.#tsMin = Math.min(this.#tsMin, event.ts);
      this.#tsMax = Math.max(this.#tsMax, event.ts);
      if (event.kind === 'truncate') this.#inexact.truncation(event);
    }
    const inexact = this.#inexact.part;
    const properties: SegmentProperties = {
      header: this.#header,
      namespaces: this.#namespaces,
      sets: this.#setNames,
      rows: this.#rows,
      blocks: this.#entries.length,
      tsMin: Number.isFinite(this.#tsMin) ? this.#tsMin : 0,
      tsMax: this.#tsMax,
      partitions:
        this.#partitionMax < 0
          ? { start: 0, end: 0 }
          : { start: this.#partitionMin, end: this.#partitionMax + 1 },
      counts: this.#counts(),
      dataBytes,
      rawBytes: this.#rawBytes,
      digest: digest?.toString() ?? null,
      eventsOffset,
      eventsBytes: eventsBytes.length,
      events: events.length,
      ...(inexact ? { inexact } : {}),
      top,
    };
    const packed = packBytes(properties);
    const propertiesOffset = this.#push(packed);
    const crc = crc32(packed);
    const footer = Buffer.alloc(FOOTER_BYTES);
    footer.writeUInt32LE(propertiesOffset % 2 ** 32, 0);
    footer.writeUInt32LE(Math.floor(propertiesOffset / 2 ** 32), 4);
    footer.writeUInt32LE(packed.length, 8);
    footer.writeUInt32LE(crc, 12);
    footer.writeUInt32LE((this.#offset + FOOTER_BYTES) % 2 ** 32, 16);
    footer.writeUInt32LE(Math.floor((this.#offset + FOOTER_BYTES) / 2 ** 32), 20);
    footer.writeUInt16LE(SEGMENT_VERSION, 24);
    footer.writeUInt32LE(crc32(footer.subarray(0, 28)), 28);
    footer.write(SEGMENT_FOOTER_MAGIC, 32, 8, 'latin1');
    this.#push(footer);
    const bytes = Buffer.concat(this.#chunks);
    for (const chunk of this.#chunks.splice(0)) giveBack([chunk]);
    return { bytes, properties, crc: crc.toString(16).padStart(8, '0') };
  }

  #counts(): SetCount[] {
    const counts: SetCount[] = [];
    for (const [id, index] of this.#sets)
      counts.push({
        namespace: this.#namespaces[Number(id.slice(0, id.indexOf('\0')))],
        set: this.#setNames[index],
        versions: this.#versions[index],
        deletes: this.#deletes[index],
        imageBytes: this.#imageBytes[index],
      });
    return counts;
  }

  #closeBlock(): void {
    const rows = this.#builder.rows;
    if (rows === 0) return;
    const key = this.#builder.firstKey();
    const raw = this.#builder.take(this.#namespace);
    const stored = this.#encode(raw);
    const block = new Block(raw);
    for (let i = 0; i < rows; i++) {
      const ts = block.ts(i);
      if (ts < this.#tsMin) this.#tsMin = ts;
      if (ts > this.#tsMax) this.#tsMax = ts;
      if (block.flags[i] & FLAG.extension) this.#inexact.row(block, i);
    }
    this.#partitionMin = Math.min(this.#partitionMin, partitionOfWord(block.w0[0]));
    this.#partitionMax = Math.max(this.#partitionMax, partitionOfWord(block.w0[rows - 1]));
    const keys = new Uint32Array(rows * 2);
    for (let i = 0; i < rows; i++) {
      keys[i * 2] = block.w2[i];
      keys[i * 2 + 1] = block.w3[i];
    }
    this.#keys.push(keys);
    const offset = this.#push(stored);
    this.#entries.push({ namespace: this.#namespace, key, offset, bytes: stored.length, rows });
    this.#rows += rows;
    this.#rawBytes += raw.length;
  }

  #encode(raw: Uint8Array): Buffer {
    if (this.#denseLeft > 0) {
      this.#denseLeft--;
      return encodeStored(raw, ZSTD_LEVEL_FAST);
    }
    const stored = encodeStored(raw);
    if (stored.length > raw.length * DENSE_PART) this.#denseLeft = DENSE_BLOCKS;
    return stored;
  }

  #indexPartition(from: number, to: number): TopEntry {
    const entries = this.#entries.slice(from, to);
    const raw = Buffer.alloc(entries.length * INDEX_ENTRY_BYTES);
    entries.forEach((e, i) => {
      const at = i * INDEX_ENTRY_BYTES;
      raw.writeUInt16LE(e.namespace, at);
      e.key.copy(raw, at + 4);
      raw.writeUInt32LE(e.offset % 2 ** 32, at + 24);
      raw.writeUInt32LE(Math.floor(e.offset / 2 ** 32), at + 28);
      raw.writeUInt32LE(e.bytes, at + 32);
      raw.writeUInt32LE(e.rows, at + 36);
    });
    const filter = Filter.sized(entries.reduce((n, e) => n + e.rows, 0));
    for (const keys of this.#keys.slice(from, to))
      for (let i = 0; i < keys.length; i += 2) filter.add(entries[0].namespace, keys[i], keys[i + 1]);
    const index = encodeStored(raw);
    const bits = encodeStored(filter.bytes);
    return {
      namespace: entries[0].namespace,
      key: entries[0].key,
      indexOffset: this.#push(index),
      indexBytes: index.length,
      filterOffset: this.#push(bits),
      filterBytes: bits.length,
    };
  }

  #push(bytes: Uint8Array): number {
    const at = this.#offset;
    this.#chunks.push(bytes);
    this.#offset += bytes.length;
    return at;
  }
}

/** The catalog's reference to a finished segment. */
export const segmentRefOf = (
  name: string,
  finished: { bytes: Buffer; properties: SegmentProperties; crc: string },
): SegmentRef => ({
  name,
  bytes: finished.bytes.length,
  crc: finished.crc,
  rows: finished.properties.rows,
  tsMin: finished.properties.tsMin,
  tsMax: finished.properties.tsMax,
  partitions: finished.properties.partitions,
  events: finished.properties.events,
  ...(finished.properties.inexact ? { inexact: finished.properties.inexact } : {}),
});
