import type { LogOwnership } from '../../engine/commit-log.ts';
import { ContentDigest } from '../../engine/content-digest.ts';
import type { EngineIdentity } from '../../engine/identity.ts';
import { PartitionSet, partitionOfWord } from '../../engine/partition.ts';
import { type Transfer, withTransfer } from '../../engine/transfer.ts';
import { Ahead } from './ahead.ts';
import { ROW_BYTES, ROW_FLAG, type RowFields, Rows, writeRow } from './index-row.ts';
import { Names } from './names.ts';
import { type Cutoff, INDEX_VERSION, type RecordIndex, type RowChange } from './record-index.ts';

/**
 * The index with what it does not have yet, and the digests of both: what log and replay have in common. Nothing of it is stored before
 * {@link store}.
 */
export class Ledger {
  readonly index: RecordIndex;
  readonly names: Names;
  partitions: PartitionSet;
  /** Ownership epoch. */
  epoch: number;
  transfers: readonly Transfer[];
  /** Of the state at the frontier. */
  readonly digest: ContentDigest;
  frontierTs: number;
  /** C0 of the last base copy. */
  #copyTs: number;
  note: Readonly<Record<string, unknown>>;
  /** Above the frontier: versions older than their cutoff that come after them need a later ts. */
  truncations: readonly Cutoff[];
  readonly #ahead: Ahead;
  /** Ts of deletes above the frontier, by namespace and key: no row says it any more, and a version after it must not come before it (F2). */
  readonly #goneTs = new Map<string, number>();
  /** The same for deletes that were stored before this was opened: at most that. */
  #goneTsMax: number;
  /** By namespace and key; without row: gone. */
  readonly #changed = new Map<string, RowChange>();

  constructor(index: RecordIndex, identity: EngineIdentity) {
    const meta = index.meta();
    this.index = index;
    this.names = new Names(meta ?? { namespaces: [], sets: [] });
    this.partitions = PartitionSet.parse(meta?.partitions ?? identity.partitions);
    this.epoch = meta?.epoch ?? 1;
    this.transfers = meta?.transfers ?? [];
    this.digest = meta ? ContentDigest.from(meta.digests) : new ContentDigest(identity.shards);
    this.frontierTs = meta?.frontierTs ?? 0;
    this.#copyTs = meta?.copyTs ?? 0;
    this.note = meta?.source ?? {};
    this.truncations = meta?.truncations ?? [];
    this.#ahead = Ahead.decode(this.digest.shards, meta?.ahead ?? new Uint8Array(0));
    this.#goneTsMax = this.#ahead.lastTs;
  }

  /** Rows that {@link store} will change. */
  get changes(): number {
    return this.#changed.size;
  }

  /** A frontier that is stated must be at least this, ms. */
  get floorTs(): number {
    return Math.max(this.frontierTs + 1, this.#ahead.floorTs);
  }

  /** C0 of a base copy, as long as no frontier has been stated since. */
  get openCopyTs(): number | undefined {
    return this.frontierTs === this.#copyTs ? this.#copyTs : undefined;
  }

  /** Nothing that is known has a ts after this, ms. */
  get lastTs(): number {
    return Math.max(this.frontierTs, this.#ahead.lastTs, ...this.truncations.map(({ ts }) => ts));
  }

  row(namespace: number, key: Buffer): Rows | undefined {
    const changed = this.#changed.get(idOf(namespace, key));
    if (changed) return changed.row && new Rows(changed.row);
    const bucket = this.index.bucketOf(namespace, key);
    const i = bucket.find(key);
    return i < 0 ? undefined : new Rows(bucket.bytes.subarray(i * ROW_BYTES, (i + 1) * ROW_BYTES));
  }

  /** A version: the row is that from now on, the digests follow at its ts. */
  write(namespace: number, key: Buffer, fields: RowFields): void {
    const old = this.row(namespace, key);
    if (old) this.#count(old, 0, fields.ts, -1);
    const row = this.#put(namespace, key, fields);
    this.#count(new Rows(row), 0, fields.ts, 1);
  }

  /** What is learned of a row and is in no version. */
  learn(namespace: number, key: Buffer, fields: RowFields): void {
    this.#put(namespace, key, fields);
  }

  remove(namespace: number, key: Buffer, ts: number): void {
    const old = this.row(namespace, key);
    if (old) this.#count(old, 0, ts, -1);
    else this.#ahead.note(ts);
    const id = idOf(namespace, key);
    this.#goneTs.set(id, ts);
    this.#changed.set(id, { namespace, key, row: undefined });
  }

  /** No version of a record without row may have a lower ts than this: that of its delete; 0: there was none above the frontier. */
  goneTs(namespace: number, key: Buffer): number {
    return this.#goneTs.get(idOf(namespace, key)) ?? this.#goneTsMax;
  }

  /** Removes what a truncation hides (C5); returns how many rows. */
  truncate({ namespace, set, cutoffLut, ts, partitions }: Cutoff): number {
    const cutoff = { namespace, set, cutoffLut, ts, partitions };
    const here = PartitionSet.parse(partitions);
    const mask = here.toMask();
    this.truncations = [...this.truncations, cutoff];
    const id = this.names.namespace(namespace);
    let removed = 0;
    const remove = (rows: Rows, i: number): void => {
      if (!this.#isHidden(rows, i, cutoff)) return;
      this.remove(id, Buffer.from(rows.key(i)), cutoff.ts);
      removed++;
    };
    // what the index does not have yet first: the walk below sees only the index
    const told = new Map([...this.#changed].filter(([, c]) => c.namespace === id));
    for (const { key, row } of told.values())
      if (row && mask[partitionOfWord(key.readUInt32BE(0))] === 1) remove(new Rows(row), 0);
    for (const { start, end } of here.ranges)
      for (let partition = start; partition < end; partition++) {
        const rows = this.index.partition(id, partition);
        for (let i = 0; i < rows.length; i++) if (!told.has(idOf(id, rows.key(i)))) remove(rows, i);
      }
    return removed;
  }

  /** The frontier is `ts`: the digests count everything up to there. */
  settle(ts: number): void {
    this.#ahead.settle(ts, this.digest);
    this.frontierTs = ts;
    this.truncations = this.truncations.filter((t) => t.ts > ts);
    for (const [id, goneTs] of this.#goneTs) if (goneTs <= ts) this.#goneTs.delete(id);
    if (this.#goneTsMax <= ts) this.#goneTsMax = 0;
  }

  /** A base copy is what there is at `ts`. */
  reset(digest: ContentDigest, ts: number): void {
    this.#changed.clear();
    this.#ahead.clear();
    this.truncations = [];
    this.#goneTs.clear();
    this.#goneTsMax = 0;
    this.digest.copy(digest);
    this.frontierTs = ts;
    this.#copyTs = ts;
  }

  /** What lies in the index for partitions that come with this event counts from now on. Nothing may be in hand. */
  acquired(event: LogOwnership): void {
    const partitions = PartitionSet.parse(event.partitions);
    for (const [rows, i] of this.#rowsOf(partitions)) this.#count(rows, i, event.ts, 1);
    this.partitions = this.partitions.union(partitions);
    this.epoch = Math.max(this.epoch, event.epoch);
    this.transfers = withTransfer(this.transfers, event);
  }

  /** Forgets the partitions; returns the digest of what was in them. */
  released(event: LogOwnership): ContentDigest {
    const partitions = PartitionSet.parse(event.partitions);
    const gone = new ContentDigest(this.digest.shards);
    const mask = partitions.toMask();
    for (const { namespace, key } of [...this.#changed.values()])
      if (mask[partitionOfWord(key.readUInt32BE(0))] === 1) {
        const row = this.row(namespace, key);
        if (row) this.#giveUp(gone, namespace, row, 0, event.ts);
      }
    for (const [rows, i, namespace] of this.#rowsOf(partitions))
      if (!this.#changed.has(idOf(namespace, rows.key(i)))) this.#giveUp(gone, namespace, rows, i, event.ts);
    this.partitions = this.partitions.subtract(partitions);
    this.transfers = withTransfer(this.transfers, { ...event, digests: gone.toShards() });
    return gone;
  }

  #giveUp(gone: ContentDigest, namespace: number, rows: Rows, i: number, ts: number): void {
    const key = Buffer.from(rows.key(i));
    if (rows.isLogged(i))
      gone.apply(partitionOfWord(key.readUInt32BE(0)), rows.hash(i, new Uint32Array(4)), 1);
    this.remove(namespace, key, ts);
  }

  *#rowsOf(partitions: PartitionSet): Generator<[rows: Rows, i: number, namespace: number]> {
    for (let namespace = 0; namespace < this.names.namespaces; namespace++)
      for (const { start, end } of partitions.ranges)
        for (let partition = start; partition < end; partition++) {
          const rows = this.index.partition(namespace, partition);
          for (let i = 0; i < rows.length; i++) yield [rows, i, namespace];
        }
  }

  /** Changes the index, in one transaction. `lsn`: the log is durable up to there. */
  store(lsn: number): void {
    this.index.apply([...this.#changed.values()], {
      version: INDEX_VERSION,
      appliedLsn: lsn,
      frontierTs: this.frontierTs,
      copyTs: this.#copyTs,
      epoch: this.epoch,
      transfers: this.transfers,
      partitions: this.partitions.toString(),
      digests: this.digest.toShards(),
      ahead: this.#ahead.encode(),
      truncations: this.truncations,
      ...this.names.stored(),
      source: this.note,
    });
    this.#changed.clear();
  }

  #isHidden(rows: Rows, i: number, { set, cutoffLut, ts }: Cutoff): boolean {
    return (
      rows.isLogged(i) &&
      rows.ts(i) < ts &&
      rows.loggedLutMs(i) < cutoffLut &&
      (set === null || this.names.setName(rows.set(i)) === set)
    );
  }

  #put(namespace: number, key: Buffer, fields: RowFields): Buffer {
    const row = Buffer.allocUnsafe(ROW_BYTES);
    writeRow(row, 0, key, fields);
    this.#changed.set(idOf(namespace, key), { namespace, key, row });
    return row;
  }

  #count(rows: Rows, i: number, ts: number, sign: 1 | -1): void {
    if ((rows.flags(i) & ROW_FLAG.unlogged) !== 0) return;
    const partition = partitionOfWord(rows.bytes.readUInt32BE(i * ROW_BYTES));
    this.#ahead.add(ts, this.digest.shardOf(partition), rows.hash(i, new Uint32Array(4)), sign);
  }
}

const idOf = (namespace: number, key: Buffer): string => `${namespace}/${key.toString('latin1')}`;
