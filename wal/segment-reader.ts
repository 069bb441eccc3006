import { crc32 } from 'node:zlib';
import { PitrError } from '../engine/errors.ts';
import type { ObjectStore } from '../engine/object-store.ts';
import { PARTITIONS } from '../engine/partition.ts';
import { Block, decodeStored } from './block.ts';
import { decodeEnvelope, unpackBytes } from './envelope.ts';
import type { ArchiveEvent } from './event.ts';
import { Filter } from './filter.ts';
import { archiveEventsSchema, assertShape, segmentHeaderSchema, segmentPropertiesSchema } from './schema.ts';
import {
  FOOTER_BYTES,
  INDEX_ENTRY_BYTES,
  SEGMENT_FOOTER_MAGIC,
  SEGMENT_MAGIC,
  SEGMENT_VERSION,
  type SegmentHeader,
  type SegmentProperties,
  type SegmentRef,
} from './segment.ts';

/** One read of this size opens a segment: footer, properties, and usually index and events. */
const TAIL_BYTES = 64 * 1024;
/** Bound on properties: far above what tables of names and top index need. */
const PROPERTIES_BYTES_MAX = 64 * 1024 * 1024;

/** Where a block is: from an index partition. */
export interface BlockHandle {
  readonly namespace: number;
  /** Partition of its first row. */
  readonly partition: number;
  readonly key: Buffer;
  readonly offset: number;
  readonly bytes: number;
  readonly rows: number;
}

/** An open segment: properties in memory, everything else read on demand. Holds no file handle. */
export class SegmentReader {
  readonly ref: SegmentRef;
  readonly properties: SegmentProperties;
  readonly #store: ObjectStore;
  /** The last bytes of the file, read at open. */
  readonly #tail: Buffer;
  readonly #tailOffset: number;
  /** Block tables that were read, decoded: 40 bytes for each block, 20 KiB for a segment of the usual size. */
  readonly #tables = new Map<number, Promise<Uint8Array>>();

  private constructor(
    store: ObjectStore,
    ref: SegmentRef,
    properties: SegmentProperties,
    tail: Buffer,
    tailOffset: number,
  ) {
    this.#store = store;
    this.ref = ref;
    this.properties = properties;
    this.#tail = tail;
    this.#tailOffset = tailOffset;
  }

  /**
   * Opens the object that `ref` names and checks that it is that object.
   * @throws object-not-found, object-corrupt, format-version, archive-mismatch
   */
  static async open(store: ObjectStore, ref: SegmentRef, archive: string): Promise<SegmentReader> {
    const corrupt = (why: string): PitrError => new PitrError('object-corrupt', { name: ref.name, why });
    // from the real end of the object: what it is matters more than that its size is wrong
    let tail = await store.read(ref.name, { start: -TAIL_BYTES });
    if (tail.length < FOOTER_BYTES) throw corrupt('too short for a segment');
    const footer = tail.subarray(tail.length - FOOTER_BYTES);
    if (footer.toString('latin1', 32, 40) !== SEGMENT_FOOTER_MAGIC) throw corrupt('footer magic');
    const version = footer.readUInt16LE(24);
    if (version !== SEGMENT_VERSION)
      throw new PitrError('format-version', { what: ref.name, version, supported: SEGMENT_VERSION });
    if (crc32(footer.subarray(0, 28)) !== footer.readUInt32LE(28)) throw corrupt('footer checksum');
    const u64 = (at: number): number => footer.readUInt32LE(at) + footer.readUInt32LE(at + 4) * 2 ** 32;
    const fileBytes = u64(16);
    const propertiesOffset = u64(0);
    const propertiesBytes = footer.readUInt32LE(8);
    if (
      propertiesOffset + propertiesBytes + FOOTER_BYTES !== fileBytes ||
      propertiesBytes > PROPERTIES_BYTES_MAX
    )
      throw corrupt('properties are out of bounds');
    let start = fileBytes - tail.length;
    if (propertiesOffset < start) {
      tail = await store.read(ref.name, { start: propertiesOffset });
      start = propertiesOffset;
    }
    const packed = tail.subarray(propertiesOffset - start, propertiesOffset - start + propertiesBytes);
    const crc = crc32(packed);
    if (crc !== footer.readUInt32LE(12)) throw corrupt('properties checksum');
    const properties = unpackBytes<SegmentProperties>(packed, ref.name);
    assertShape(segmentPropertiesSchema, properties, ref.name);
    if (properties.header.archive !== archive)
      throw new PitrError('archive-mismatch', {
        what: ref.name,
        actual: properties.header.archive,
        expected: archive,
      });
    if (
      fileBytes !== ref.bytes ||
      start + tail.length !== fileBytes ||
      crc.toString(16).padStart(8, '0') !== ref.crc
    )
      throw corrupt('it is not the segment that the catalog lists');
    return new SegmentReader(store, ref, properties, tail, start);
  }

  /** The header at the front of the file: equal to the properties' copy unless the file was assembled by something else. */
  async header(): Promise<SegmentHeader> {
    const bytes = await this.#store.read(this.ref.name, {
      start: 0,
      end: Math.min(this.ref.bytes, TAIL_BYTES),
    });
    const { body } = decodeEnvelope<SegmentHeader>(bytes, SEGMENT_MAGIC, SEGMENT_VERSION, this.ref.name);
    assertShape(segmentHeaderSchema, body, this.ref.name);
    return body;
  }

  async events(): Promise<ArchiveEvent[]> {
    const { eventsOffset, eventsBytes } = this.properties;
    if (eventsBytes === 0) return [];
    const events = unpackBytes<ArchiveEvent[]>(await this.#stored(eventsOffset, eventsBytes), this.ref.name);
    assertShape(archiveEventsSchema, events, this.ref.name);
    return events;
  }

  /** Blocks that can hold rows of `[partitionStart, partitionEnd)`, in order; of one namespace when its index is given. */
  async blocks(partitionStart = 0, partitionEnd = PARTITIONS, namespace?: number): Promise<BlockHandle[]> {
    const { top } = this.properties;
    const wanted: number[] = [];
    for (let t = 0; t < top.length; t++) {
      if (namespace !== undefined && top[t].namespace !== namespace) continue;
      if (partitionOfKey(top[t].key) >= partitionEnd) continue;
      const next = top[t + 1];
      if (next && next.namespace === top[t].namespace && partitionOfKey(next.key) < partitionStart) continue;
      wanted.push(t);
    }
    const handles = (await Promise.all(wanted.map((t) => this.#indexPartition(t)))).flat();
    // a block reaches to the first key of its successor, which may lie in the same partition
    return handles.filter((b, i) => {
      const next = handles[i + 1];
      return (
        b.partition < partitionEnd &&
        !(next && next.namespace === b.namespace && next.partition < partitionStart)
      );
    });
  }

  /** Reads adjacent blocks with one ranged read. */
  async readBlocks(handles: readonly BlockHandle[]): Promise<Buffer[]> {
    const start = handles[0].offset;
    const last = handles[handles.length - 1];
    const bytes = await this.#read(start, last.offset + last.bytes);
    return handles.map((h) => bytes.subarray(h.offset - start, h.offset - start + h.bytes));
  }

  decode(stored: Uint8Array): Block {
    const block = new Block(decodeStored(stored, this.ref.name));
    const { namespaces, sets, header } = this.properties;
    const why = block.misfit(namespaces.length, sets.length, header.streams.length);
    if (why !== undefined) throw new PitrError('object-corrupt', { name: this.ref.name, why });
    return block;
  }

  /**
   * The blocks in which versions of one record can be, after asking the filter. Usually none or one.
   * `sortKey` is 20 bytes.
   */
  async candidates(namespace: string, sortKey: Buffer): Promise<BlockHandle[]> {
    const { top, namespaces } = this.properties;
    const ns = namespaces.indexOf(namespace);
    if (ns < 0) return [];
    const w2 = sortKey.readUInt32BE(8);
    const w3 = sortKey.readUInt32BE(12);
    const found: BlockHandle[] = [];
    for (let t = 0; t < top.length; t++) {
      if (top[t].namespace !== ns || Buffer.compare(top[t].key, sortKey) > 0) continue;
      const next = top[t + 1];
      if (next && next.namespace === ns && Buffer.compare(next.key, sortKey) < 0) continue;
      const filter = await this.#filter(t);
      if (!filter.mayHold(ns, w2, w3)) continue;
      const handles = await this.#indexPartition(t);
      for (let i = 0; i < handles.length; i++) {
        if (Buffer.compare(handles[i].key, sortKey) > 0) break;
        const after = handles[i + 1];
        if (after && Buffer.compare(after.key, sortKey) < 0) continue;
        found.push(handles[i]);
      }
    }
    return found;
  }

  /** The filter of an index partition. Its block table, which lies before it and is small, comes with the same read. */
  async #filter(t: number): Promise<Filter> {
    const { indexOffset, indexBytes, filterOffset, filterBytes } = this.properties.top[t];
    if (this.#tables.has(t) || indexOffset + indexBytes !== filterOffset)
      return new Filter(await this.#stored(filterOffset, filterBytes));
    const both = this.#read(indexOffset, filterOffset + filterBytes);
    this.#keepTable(
      t,
      both.then((bytes) => decodeStored(bytes.subarray(0, indexBytes), this.ref.name)),
    );
    return new Filter(decodeStored((await both).subarray(indexBytes), this.ref.name));
  }

  #keepTable(t: number, table: Promise<Uint8Array>): Promise<Uint8Array> {
    this.#tables.set(t, table);
    table.catch(() => this.#tables.delete(t));
    return table;
  }

  async #indexPartition(t: number): Promise<BlockHandle[]> {
    const { indexOffset, indexBytes } = this.properties.top[t];
    const table = this.#tables.get(t) ?? this.#keepTable(t, this.#stored(indexOffset, indexBytes));
    const raw = Buffer.from(await table);
    const handles: BlockHandle[] = [];
    for (let at = 0; at + INDEX_ENTRY_BYTES <= raw.length; at += INDEX_ENTRY_BYTES) {
      const key = raw.subarray(at + 4, at + 24);
      handles.push({
        namespace: raw.readUInt16LE(at),
        partition: partitionOfKey(key),
        key,
        offset: raw.readUInt32LE(at + 24) + raw.readUInt32LE(at + 28) * 2 ** 32,
        bytes: raw.readUInt32LE(at + 32),
        rows: raw.readUInt32LE(at + 36),
      });
    }
    return handles;
  }

  async #stored(offset: number, bytes: number): Promise<Uint8Array> {
    return decodeStored(await this.#read(offset, offset + bytes), this.ref.name);
  }

  async #read(start: number, end: number): Promise<Buffer> {
    if (start >= this.#tailOffset)
      return this.#tail.subarray(start - this.#tailOffset, end - this.#tailOffset);
    const bytes = await this.#store.read(this.ref.name, { start, end });
    if (bytes.length !== end - start)
      throw new PitrError('object-corrupt', { name: this.ref.name, why: 'cut short' });
    return bytes;
  }
}

const partitionOfKey = (key: Uint8Array): number => (key[0] << 4) | (key[1] >> 4);
