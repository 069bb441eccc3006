import type { Particle } from '../../particle.ts';
import { DIGEST_BYTES } from '../../partition.ts';
import { BatchFlag } from '../batch.ts';
import { Info1 } from '../bits.ts';
import { FieldId } from '../field.ts';
import { MESSAGE_HEADER_BYTES } from '../message.ts';
import { PROTO_HEADER_BYTES, ProtoType, writeProtoHeader } from '../proto.ts';
import { NO_ANSWER } from './command-results.ts';

/** Frame, message, head of field 41, number of rows, flags. */
const HEAD_BYTES = PROTO_HEADER_BYTES + MESSAGE_HEADER_BYTES + 5 + 5;
const ROW_HAS_ALL = 0x0e;
/** Index, digest, what it has, infos, generation, ttl, numbers of fields and ops. */
const ROW_HEAD_BYTES = 4 + DIGEST_BYTES + 1 + 3 + 2 + 4 + 4;
const FIELD_HEAD_BYTES = 5;

/** What the rows of one batch have in common. */
export interface RowKind {
  readonly info1: number;
  readonly info2: number;
  readonly info3: number;
}

/** Namespace and set of a row as its first fields. */
export interface RowPlace {
  readonly namespace: string;
  readonly fields: Buffer;
  readonly fieldCount: number;
}

export const rowPlace = (namespace: string, set: Uint8Array): RowPlace => {
  const field = (id: FieldId, data: Uint8Array): Buffer => {
    const out = Buffer.allocUnsafe(FIELD_HEAD_BYTES + data.length);
    out.writeUInt32BE(data.length + 1, 0);
    out[4] = id;
    out.set(data, FIELD_HEAD_BYTES);
    return out;
  };
  const name = field(FieldId.namespace, Buffer.from(namespace, 'utf8'));
  return set.length === 0
    ? { namespace, fields: name, fieldCount: 1 }
    : { namespace, fields: Buffer.concat([name, field(FieldId.set, set)]), fieldCount: 2 };
};

/**
 * Rows of one batch as the bytes that go out, with what came of each: for who writes or reads so many records that an object for each
 * costs more than sending it. All rows have one {@link RowKind}.
 *
 *     const row = batch.begin(place, tag, w0, w1, w2, w3, w4, ttl);  // fields and ops through `writable`
 *     batch.end(row, …);
 *     await client.sendRows(batch, onAnswer);
 */
export class RowBatch {
  readonly kind: RowKind;
  rows = 0;
  /** For each row what its caller calls it. */
  readonly tags: Uint32Array;
  /** Result code of each row, {@link NO_ANSWER} until there is one. */
  readonly codes: Int16Array;
  /** Partition and namespace of each row: where it goes. */
  readonly partitions: Uint16Array;
  readonly namespaces: string[] = [];
  /** Why there is no answer to rows whose code says so. */
  failure: Error | undefined;
  readonly #rowsMax: number;
  readonly #bytesMax: number;
  readonly #starts: Uint32Array;
  /** Public for who writes rows: bytes from {@link used} on, after {@link room}. */
  bytes: Buffer;
  used = HEAD_BYTES;

  constructor(kind: RowKind, rowsMax: number, bytesMax: number) {
    this.kind = kind;
    this.#rowsMax = rowsMax;
    this.#bytesMax = bytesMax;
    this.tags = new Uint32Array(rowsMax);
    this.codes = new Int16Array(rowsMax);
    this.partitions = new Uint16Array(rowsMax);
    this.#starts = new Uint32Array(rowsMax + 1);
    this.bytes = Buffer.allocUnsafeSlow(Math.min(bytesMax, 64 * 1024));
  }

  get isFull(): boolean {
    return this.rows === this.#rowsMax || this.used >= this.#bytesMax;
  }

  /** Empty again, with its memory; a large row's is given up. */
  clear(): void {
    this.rows = 0;
    this.used = HEAD_BYTES;
    this.failure = undefined;
    this.namespaces.length = 0;
    if (this.bytes.length > 2 * this.#bytesMax) this.bytes = Buffer.allocUnsafeSlow(this.#bytesMax);
  }

  /** Makes room for so many bytes from {@link used} on. */
  room(bytes: number): void {
    if (this.bytes.length - this.used >= bytes) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(2 * this.bytes.length, this.used + bytes));
    this.bytes.copy(grown, 0, 0, this.used);
    this.bytes = grown;
  }

  /**
   * Begins a row of the record whose sort key is `w0`…`w4`, with its head and place written; `more` bytes of fields and ops have room. The
   * caller writes them at {@link used}, then calls {@link end}. `namespace` goes with {@link RowPlace}.
   */
  begin(
    place: RowPlace,
    tag: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    w4: number,
    generation: number,
    recordTtl: number,
    more: number,
  ): void {
    const { fields } = place;
    this.room(ROW_HEAD_BYTES + fields.length + more);
    const { bytes: b, rows: row } = this;
    let at = this.used;
    this.#starts[row] = at;
    this.tags[row] = tag;
    this.codes[row] = NO_ANSWER;
    this.partitions[row] = w0 >>> 20;
    this.namespaces[row] = place.namespace;
    at = putU32(b, at, row);
    at = putU32(b, at, digestWord(w0));
    at = putU32(b, at, w1);
    at = putU32(b, at, w2);
    at = putU32(b, at, w3);
    at = putU32(b, at, w4);
    b[at++] = ROW_HAS_ALL;
    b[at++] = this.kind.info1;
    b[at++] = this.kind.info2;
    b[at++] = this.kind.info3;
    b[at++] = generation >>> 8;
    b[at++] = generation;
    at = putU32(b, at, recordTtl);
    at = putU32(b, at, 0);
    for (let i = 0; i < fields.length; i++) b[at++] = fields[i];
    this.used = at;
  }

  /** Ends the row: `fields` are those of its place too. */
  end(fields: number, ops: number): void {
    const at = this.#starts[this.rows] + ROW_HEAD_BYTES - 4;
    this.bytes[at] = fields >>> 8;
    this.bytes[at + 1] = fields;
    this.bytes[at + 2] = ops >>> 8;
    this.bytes[at + 3] = ops;
    this.#starts[++this.rows] = this.used;
  }

  /** A row without ops: a read of everything, or a deletion. `filter`: its condition, an expression. */
  bare(
    place: RowPlace,
    tag: number,
    [w0, w1, w2, w3, w4]: readonly [number, number, number, number, number],
    recordTtl: number,
    filter?: Uint8Array,
  ): void {
    const filterBytes = filter ? FIELD_HEAD_BYTES + filter.length : 0;
    this.begin(place, tag, w0, w1, w2, w3, w4, 0, recordTtl, filterBytes);
    if (filter) {
      putU32(this.bytes, this.used, filter.length + 1);
      this.bytes[this.used + 4] = FieldId.filter;
      this.bytes.set(filter, this.used + FIELD_HEAD_BYTES);
      this.used += filterBytes;
    }
    this.end(place.fieldCount + (filter ? 1 : 0), 0);
  }

  /** As if the row that has begun had not. */
  drop(): void {
    this.used = this.#starts[this.rows];
  }

  /** The request with all rows: a view that holds until the next row. */
  frame(timeoutMs: number): Buffer {
    writeHead(this.bytes, this.used, this.rows, timeoutMs);
    return this.bytes.subarray(0, this.used);
  }

  /** A request with some of the rows, under their own numbers. */
  frameOf(rows: readonly number[], timeoutMs: number): Buffer {
    const starts = this.#starts;
    const bytes = rows.reduce((n, row) => n + starts[row + 1] - starts[row], HEAD_BYTES);
    const out = Buffer.allocUnsafeSlow(bytes);
    let at = HEAD_BYTES;
    for (const row of rows) at += this.bytes.copy(out, at, starts[row], starts[row + 1]);
    writeHead(out, bytes, rows.length, timeoutMs);
    return out;
  }

  /** The user key that a row carries: a copy. */
  keyOf(row: number): Particle | undefined {
    const { bytes } = this;
    let at = this.#starts[row] + ROW_HEAD_BYTES;
    for (let left = bytes.readUInt16BE(at - 4); left > 0; left--) {
      const end = at + 4 + bytes.readUInt32BE(at);
      if (bytes[at + 4] === FieldId.key)
        return { type: bytes[at + 5], bytes: Buffer.from(bytes.subarray(at + 6, end)) };
      at = end;
    }
    return undefined;
  }
}

/** The first word of a digest from that of its sort key: engine/partition.ts says how the two differ. */
export const digestWord = (w0: number): number =>
  (((w0 >>> 24) & 0x0f) << 28) |
  (((w0 >>> 20) & 0x0f) << 24) |
  (((w0 >>> 16) & 0x0f) << 20) |
  ((w0 >>> 28) << 16) |
  (w0 & 0xffff);

const putU32 = (b: Buffer, at: number, value: number): number => {
  b[at] = value >>> 24;
  b[at + 1] = value >>> 16;
  b[at + 2] = value >>> 8;
  b[at + 3] = value;
  return at + 4;
};

const writeHead = (b: Buffer, end: number, rows: number, timeoutMs: number): void => {
  writeProtoHeader(b, 0, ProtoType.message, end - PROTO_HEADER_BYTES);
  let at = PROTO_HEADER_BYTES;
  b.fill(0, at, HEAD_BYTES);
  b[at] = MESSAGE_HEADER_BYTES;
  b[at + 1] = Info1.batch;
  putU32(b, at + 14, timeoutMs);
  b[at + 19] = 1;
  at += MESSAGE_HEADER_BYTES;
  at = putU32(b, at, end - at - 4);
  b[at++] = FieldId.batch;
  at = putU32(b, at, rows);
  b[at] = BatchFlag.inline | BatchFlag.respondAll | BatchFlag.reportErrors;
};
