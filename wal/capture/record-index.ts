import { resolve } from 'node:path';
import { type Database, open, type RootDatabase } from 'lmdb';
import type { ShardDigest } from '../../engine/content-digest.ts';
import { PitrError } from '../../engine/errors.ts';
import { PARTITIONS, partitionOfWord } from '../../engine/partition.ts';
import type { Transfer } from '../../engine/transfer.ts';
import { NO_ROWS, ROW_BYTES, Rows } from './index-row.ts';

export const INDEX_DIR = 'index';
export const INDEX_VERSION = 2;

/** Rows of a bucket, on average, above which those of its partition are cut in two. */
const BUCKET_ROWS = 64;
const BITS_MAX = 14;
const PAGE_BYTES = 16 * 1024;
const META = 'meta';

/** A truncation that rows are looked at for. */
export interface Cutoff {
  readonly namespace: string;
  /** Null: all sets. */
  readonly set: string | null;
  readonly cutoffLut: number;
  readonly ts: number;
  /** Whose records it is about. */
  readonly partitions: string;
}

/** What the index says of itself, in the same transaction as the rows. */
export interface IndexMeta {
  readonly version: number;
  /** Every entry of the log up to this LSN is in it, none after. */
  readonly appliedLsn: number;
  /** Last stated frontier, ms. */
  readonly frontierTs: number;
  /** C0 of the last base copy, ms; 0: there was none. */
  readonly copyTs: number;
  readonly epoch: number;
  readonly partitions: string;
  /** Partitions that were taken over or given up: the last word about each. */
  readonly transfers: readonly Transfer[];
  /** Of the state at the frontier. */
  readonly digests: readonly ShardDigest[];
  /** What the digests do not count yet (ahead.ts). */
  readonly ahead: Uint8Array;
  /** With a ts above the frontier. */
  readonly truncations: readonly Cutoff[];
  readonly namespaces: readonly string[];
  /** Namespace number and name. */
  readonly sets: readonly (readonly [number, string])[];
  /** What the source wants to find again. */
  readonly source: Readonly<Record<string, unknown>>;
}

interface Shape {
  /** Bits by which each partition is cut. */
  readonly bits: Uint8Array;
  readonly counts: Uint32Array;
}

/** A row that is to be there, or (undefined) no more. */
export interface RowChange {
  readonly namespace: number;
  /** Sort key, 20 bytes. */
  readonly key: Buffer;
  readonly row: Buffer | undefined;
}

type Binary = RootDatabase<Buffer, Buffer>;

/** What should be in the cluster, a row a record (README.md, section "Index"). One writer; everything it says is of the last {@link apply}. */
export class RecordIndex {
  readonly dir: string;
  readonly #root: Binary;
  readonly #buckets: Binary;
  readonly #meta: Database<unknown, string>;
  readonly #shapes = new Map<number, Shape>();
  /** The bucket that was read last. */
  #cached = { namespace: -1, partition: -1, bucket: -1, rows: NO_ROWS };

  private constructor(dir: string, root: Binary, buckets: Binary, meta: Database<unknown, string>) {
    this.dir = dir;
    this.#root = root;
    this.#buckets = buckets;
    this.#meta = meta;
  }

  /** @throws store-corrupt, format-version */
  static open(captureDir: string): RecordIndex {
    const dir = resolve(captureDir, INDEX_DIR);
    try {
      const root = open<Buffer, Buffer>({
        path: dir,
        keyEncoding: 'binary',
        encoding: 'binary',
        maxDbs: 3,
        pageSize: PAGE_BYTES,
        eventTurnBatching: false,
      });
      const buckets = root.openDB('buckets', { keyEncoding: 'binary', encoding: 'binary' }) as Binary;
      const meta = root.openDB<unknown, string>('meta', {
        encoding: 'msgpack',
        keyEncoding: 'ordered-binary',
      });
      const index = new RecordIndex(dir, root, buckets, meta);
      const found = index.meta();
      if (found && found.version !== INDEX_VERSION)
        throw new PitrError('format-version', {
          what: dir,
          version: found.version,
          supported: INDEX_VERSION,
        });
      found?.namespaces.forEach((_, namespace) => {
        index.#readShape(namespace);
      });
      return index;
    } catch (cause) {
      if (cause instanceof PitrError) throw cause;
      throw new PitrError('store-corrupt', { dir, why: String((cause as Error).message) }, { cause });
    }
  }

  meta(): IndexMeta | undefined {
    return this.#meta.get(META) as IndexMeta | undefined;
  }

  /** Rows of a partition, all or (0) none. */
  count(namespace: number, partition: number): number {
    return this.#shapes.get(namespace)?.counts[partition] ?? 0;
  }

  /** Rows of a namespace. */
  countAll(namespace: number): number {
    return this.#shapes.get(namespace)?.counts.reduce((a, b) => a + b, 0) ?? 0;
  }

  /** The bucket in which the row of `key` is, or would be. */
  bucketOf(namespace: number, key: Buffer): Rows {
    const partition = partitionOfWord(key.readUInt32BE(0));
    const shape = this.#shapes.get(namespace);
    if (!shape || shape.counts[partition] === 0) return NO_ROWS;
    return this.#bucket(namespace, partition, bucketOfKey(key, shape.bits[partition]));
  }

  /** All rows of a partition, a copy. */
  partition(namespace: number, partition: number): Rows {
    const shape = this.#shapes.get(namespace);
    if (!shape || shape.counts[partition] === 0) return NO_ROWS;
    const buckets = 1 << shape.bits[partition];
    const parts: Buffer[] = [];
    for (let bucket = 0; bucket < buckets; bucket++) {
      const found = this.#buckets.get(bucketKey(namespace, partition, bucket));
      if (found) parts.push(found);
    }
    return new Rows(Buffer.concat(parts));
  }

  /** Changes rows, at most one change for each, and what the index says of itself, in one transaction, which is durable at the end. */
  apply(changes: readonly RowChange[], meta: IndexMeta): void {
    const byBucket = new Map<string, { namespace: number; partition: number; changes: RowChange[] }>();
    for (const change of changes) {
      const { namespace, key } = change;
      const partition = partitionOfWord(key.readUInt32BE(0));
      const { bits } = this.#shapeOf(namespace);
      const id = `${namespace}/${partition}/${bucketOfKey(key, bits[partition])}`;
      const group = byBucket.get(id);
      if (group) group.changes.push(change);
      else byBucket.set(id, { namespace, partition, changes: [change] });
    }
    const touched = new Set<number>();
    this.#root.transactionSync(() => {
      for (const { namespace, partition, changes: group } of byBucket.values()) {
        const shape = this.#shapeOf(namespace);
        const bucket = bucketOfKey(group[0].key, shape.bits[partition]);
        const before = this.#read(namespace, partition, bucket);
        const after = merged(before, group);
        shape.counts[partition] += after.length / ROW_BYTES - before.length;
        this.#write(namespace, partition, bucket, after);
        touched.add(namespace);
        this.#cutIfLarge(namespace, partition);
      }
      for (const namespace of touched) this.#writeShape(namespace);
      void this.#meta.put(META, meta);
    });
    this.#cached = { namespace: -1, partition: -1, bucket: -1, rows: NO_ROWS };
  }

  /** Replaces all rows of these partitions, each sorted by key: what a base copy knows. One transaction. */
  load(namespace: number, parts: readonly { readonly partition: number; readonly rows: Buffer }[]): void {
    const shape = this.#shapeOf(namespace);
    this.#root.transactionSync(() => {
      for (const { partition, rows } of parts) {
        for (let bucket = 0; bucket < 1 << shape.bits[partition]; bucket++)
          void this.#buckets.remove(bucketKey(namespace, partition, bucket));
        shape.counts[partition] = rows.length / ROW_BYTES;
        shape.bits[partition] = bitsFor(shape.counts[partition]);
        this.#spread(namespace, partition, rows);
      }
      this.#writeShape(namespace);
    });
    this.#cached = { namespace: -1, partition: -1, bucket: -1, rows: NO_ROWS };
  }

  async close(): Promise<void> {
    await this.#root.close();
  }

  #bucket(namespace: number, partition: number, bucket: number): Rows {
    const c = this.#cached;
    if (c.namespace !== namespace || c.partition !== partition || c.bucket !== bucket)
      this.#cached = { namespace, partition, bucket, rows: this.#read(namespace, partition, bucket) };
    return this.#cached.rows;
  }

  #read(namespace: number, partition: number, bucket: number): Rows {
    const found = this.#buckets.get(bucketKey(namespace, partition, bucket));
    return found ? new Rows(found) : NO_ROWS;
  }

  #write(namespace: number, partition: number, bucket: number, rows: Buffer): void {
    const key = bucketKey(namespace, partition, bucket);
    if (rows.length === 0) void this.#buckets.remove(key);
    else void this.#buckets.put(key, rows);
  }

  #cutIfLarge(namespace: number, partition: number): void {
    const shape = this.#shapeOf(namespace);
    const bits = shape.bits[partition];
    if (shape.counts[partition] <= BUCKET_ROWS << bits || bits === BITS_MAX) return;
    const { bytes } = this.partition(namespace, partition);
    for (let bucket = 0; bucket < 1 << bits; bucket++)
      void this.#buckets.remove(bucketKey(namespace, partition, bucket));
    shape.bits[partition] = bitsFor(shape.counts[partition]);
    this.#spread(namespace, partition, bytes);
  }

  #spread(namespace: number, partition: number, rows: Buffer): void {
    const bits = this.#shapeOf(namespace).bits[partition];
    for (let from = 0; from < rows.length; ) {
      const bucket = bucketOfKey(rows, bits, from);
      let to = from + ROW_BYTES;
      while (to < rows.length && bucketOfKey(rows, bits, to) === bucket) to += ROW_BYTES;
      // a view of a large buffer would keep all of it until it is written
      void this.#buckets.put(bucketKey(namespace, partition, bucket), rows.subarray(from, to));
      from = to;
    }
  }

  #shapeOf(namespace: number): Shape {
    let shape = this.#shapes.get(namespace);
    if (!shape) {
      shape = { bits: new Uint8Array(PARTITIONS), counts: new Uint32Array(PARTITIONS) };
      this.#shapes.set(namespace, shape);
    }
    return shape;
  }

  #readShape(namespace: number): void {
    const stored = this.#meta.get(`shape/${namespace}`) as Uint8Array | undefined;
    if (!stored) return;
    const shape = this.#shapeOf(namespace);
    shape.bits.set(stored.subarray(0, PARTITIONS));
    const view = new DataView(stored.buffer, stored.byteOffset + PARTITIONS);
    for (let p = 0; p < PARTITIONS; p++) shape.counts[p] = view.getUint32(p * 4, true);
  }

  #writeShape(namespace: number): void {
    const { bits, counts } = this.#shapeOf(namespace);
    const bytes = Buffer.alloc(PARTITIONS * 5);
    bytes.set(bits);
    for (let p = 0; p < PARTITIONS; p++) bytes.writeUInt32LE(counts[p], PARTITIONS + p * 4);
    void this.#meta.put(`shape/${namespace}`, bytes);
  }
}

/** Least number of bits with which buckets have half of what they may have. */
const bitsFor = (rows: number): number => {
  let bits = 0;
  while (bits < BITS_MAX && rows > (BUCKET_ROWS / 2) << bits) bits++;
  return bits;
};

/** The bits of a sort key that follow those of the partition. */
const bucketOfKey = (key: Buffer, bits: number, at = 0): number =>
  bits === 0 ? 0 : (((key[at + 1] & 0x0f) << 16) | (key[at + 2] << 8) | key[at + 3]) >>> (20 - bits);

const bucketKey = (namespace: number, partition: number, bucket: number): Buffer => {
  const key = Buffer.allocUnsafe(6);
  key.writeUInt16BE(namespace, 0);
  key.writeUInt16BE(partition, 2);
  key.writeUInt16BE(bucket, 4);
  return key;
};

const merged = (before: Rows, changes: readonly RowChange[]): Buffer => {
  const sorted = [...changes].sort((a, b) => a.key.compare(b.key));
  const out = Buffer.allocUnsafe(before.bytes.length + sorted.length * ROW_BYTES);
  let at = 0;
  let row = 0;
  const keep = (to: number): void => {
    at += before.bytes.copy(out, at, row * ROW_BYTES, to * ROW_BYTES);
    row = to;
  };
  for (const change of sorted) {
    const i = before.lowerBound(change.key);
    keep(i);
    if (i < before.length && before.compare(i, change.key) === 0) row++;
    if (change.row) at += change.row.copy(out, at);
  }
  keep(before.length);
  return out.subarray(0, at);
};
