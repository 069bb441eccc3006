import { PAGE_BYTES_MAX, PAGE_ENTRY_BYTES, PAGED_VALUE_BYTES_MAX, pageOfWord } from '../engine/page.ts';
import { DIGEST_BYTES } from '../engine/partition.ts';
import { ENTRY_HEADER_BYTES, PAGE_FLAG } from '../engine/record-file.ts';
import { HEADER_BYTES } from '../engine/state-record.ts';
import type { RunCursor } from '../wal/run-cursor.ts';
import type { SegmentReader } from '../wal/segment-reader.ts';
import { Chunks } from './chunks.ts';

const TWO32 = 4294967296;

/** Names of a run's open segment as bytes. */
interface Names {
  readonly reader: SegmentReader;
  readonly namespaces: readonly Buffer[];
  readonly sets: readonly Buffer[];
}

/**
 * Records on their way into a store (engine/record-file.ts), small ones in pages when the store has pages. Rows come in the order of a
 * merge and are copied from its blocks straight into the chunks.
 */
export class StoreChunks {
  readonly #perPartition: number;
  readonly #pages = new Chunks();
  /** What does not go into pages. */
  readonly #rows = new Chunks();
  /** By the number of the cursor in its merge. */
  readonly #names: Names[] = [];
  #page = -1;
  #pageNamespace = -1;
  /** Where the open page's value starts in its chunk; what precedes it is the entry's header and key. */
  #pageStart = 0;
  #pageHeader = 0;

  /** `perPartition`: pages in each partition of the store, 0 = it has none. */
  constructor(perPartition: number) {
    this.#perPartition = perPartition;
  }

  /** Adds the cursor's row. Returns true when chunks are full. */
  row(cursor: RunCursor, voidTime: number): boolean {
    const { block, row } = cursor;
    const { namespaces, sets } = this.#namesOf(cursor);
    const set = sets[block.set[row]];
    const imageStart = block.imageStart(row);
    const imageEnd = block.heapEnd[row];
    const valueBytes = HEADER_BYTES + set.length + imageEnd - imageStart;
    const namespace = namespaces[block.namespace];
    const isPaged =
      this.#perPartition > 0 &&
      valueBytes <= PAGED_VALUE_BYTES_MAX &&
      this.#openPage(cursor.namespace, namespace, block.w0[row], PAGE_ENTRY_BYTES + valueBytes);
    const chunks = isPaged ? this.#pages : this.#rows;
    let at = isPaged
      ? chunks.used
      : this.#openRow(namespace, namespace.length + 1 + DIGEST_BYTES, valueBytes);
    const { view, bytes } = chunks;
    view.setUint32(at, block.w0[row]);
    view.setUint32(at + 4, block.w1[row]);
    view.setUint32(at + 8, block.w2[row]);
    view.setUint32(at + 12, block.w3[row]);
    view.setUint32(at + 16, block.w4[row]);
    at += DIGEST_BYTES;
    if (isPaged) {
      view.setUint32(at, valueBytes, true);
      at += 4;
    }
    const lut = block.lut(row);
    view.setUint16(at, block.generation[row], true);
    view.setUint32(at + 2, voidTime, true);
    view.setUint32(at + 6, block.tsLo[row], true);
    view.setUint16(at + 10, block.tsHi[row], true);
    view.setUint32(at + 12, block.lsnLo[row], true);
    view.setUint16(at + 16, block.lsnHi[row], true);
    view.setUint32(at + 18, lut % TWO32, true);
    view.setUint16(at + 22, Math.floor(lut / TWO32), true);
    bytes[at + 24] = set.length;
    at += HEADER_BYTES;
    for (let i = 0; i < set.length; i++) bytes[at++] = set[i];
    bytes.set(block.heap.subarray(imageStart, imageEnd), at);
    chunks.used = at + imageEnd - imageStart;
    return chunks.isDue;
  }

  /** Adds a record as it is, in any order. Returns true when chunks are full. */
  record(key: Buffer, value: Buffer): boolean {
    const rows = this.#rows;
    // first: it may put another buffer in place
    const at = this.#openRow(key, key.length, value.length);
    rows.bytes.set(value, at);
    rows.used += value.length;
    return rows.isDue;
  }

  /** Chunks that are full; with `rest` all there is. */
  take(rest: boolean): Buffer[] {
    if (rest) this.#closePage();
    return [...this.#pages.take(rest), ...this.#rows.take(rest)];
  }

  /** Begins an entry: lengths, and the start of its key. Returns where the rest goes. */
  #openRow(key: Buffer, keyBytes: number, valueBytes: number): number {
    const rows = this.#rows;
    const at = rows.reserve(ENTRY_HEADER_BYTES + keyBytes + valueBytes);
    rows.view.setUint32(at, keyBytes, true);
    rows.view.setUint32(at + 4, valueBytes, true);
    rows.bytes.set(key, at + ENTRY_HEADER_BYTES);
    rows.used = at + ENTRY_HEADER_BYTES + key.length;
    if (key.length < keyBytes) rows.bytes[rows.used++] = 0;
    return rows.used;
  }

  /** Makes the page of a record the open one. False when it is full. */
  #openPage(ordinal: number, namespace: Buffer, w0: number, bytes: number): boolean {
    const page = pageOfWord(w0, this.#perPartition);
    const pages = this.#pages;
    if (page === this.#page && ordinal === this.#pageNamespace)
      return pages.used - this.#pageStart + bytes <= PAGE_BYTES_MAX;
    this.#closePage();
    this.#page = page;
    this.#pageNamespace = ordinal;
    const keyBytes = namespace.length + 5;
    const at = pages.reserve(ENTRY_HEADER_BYTES + keyBytes + PAGE_BYTES_MAX);
    this.#pageHeader = at;
    pages.view.setUint32(at, PAGE_FLAG + keyBytes, true);
    pages.bytes.set(namespace, at + ENTRY_HEADER_BYTES);
    pages.bytes[at + ENTRY_HEADER_BYTES + namespace.length] = 0;
    pages.view.setUint32(at + ENTRY_HEADER_BYTES + keyBytes - 4, page);
    this.#pageStart = pages.used = at + ENTRY_HEADER_BYTES + keyBytes;
    return true;
  }

  #closePage(): void {
    if (this.#page < 0) return;
    this.#pages.view.setUint32(this.#pageHeader + 4, this.#pages.used - this.#pageStart, true);
    this.#page = -1;
  }

  #namesOf({ index, reader }: RunCursor): Names {
    const known = this.#names[index];
    if (known?.reader === reader) return known;
    const toBytes = (name: string): Buffer => Buffer.from(name, 'utf8');
    const { namespaces, sets } = reader.properties;
    this.#names[index] = { reader, namespaces: namespaces.map(toBytes), sets: sets.map(toBytes) };
    return this.#names[index];
  }
}
