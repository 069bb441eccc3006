import { PitrError } from '../../engine/errors.ts';
import { type Clock, systemClock } from '../../engine/clock.ts';
import type { LogEntry, LogVersion, Sighting } from '../../engine/commit-log.ts';
import { ContentDigest, contentHash, seedOf } from '../../engine/content-digest.ts';
import { type HeldLock, kernelLocks, type Locks, writerLockPath } from '../../engine/directory-lock.ts';
import { type Files, nodeFiles } from '../../engine/files.ts';
import { type EngineIdentity, readIdentity } from '../../engine/identity.ts';
import { PartitionSet, partitionOf, sortKeyOf } from '../../engine/partition.ts';
import type { SpoolStatus } from '../../engine/spool.ts';
import { LocalLog } from '../local-log.ts';
import { LogSpool } from '../log-spool.ts';
import type { SpoolSettings } from '../spool-settings.ts';
import { Ahead } from './ahead.ts';
import { type CaptureSource, readSource } from './capture-dir.ts';
import type { FoundRecord, GoneRecord, Window } from './found.ts';
import { ROW_BYTES, ROW_FLAG, Rows, writeRow } from './index-row.ts';
import { judge } from './judge.ts';
import { INDEX_VERSION, type IndexMeta, RecordIndex, type RowChange } from './record-index.ts';

export interface JournalOptions {
  readonly clock?: Clock;
  readonly files?: Files;
  readonly locks?: Locks;
  readonly spool?: Partial<SpoolSettings>;
}

/** A definition of a secondary index or a UDF module; `body` null: it is gone. */
export interface FoundDefinition {
  readonly what: 'sindex' | 'udf';
  readonly namespace: string | null;
  readonly name: string;
  readonly body: Uint8Array | null;
}

export interface FoundTruncation {
  readonly namespace: string;
  /** Null: all sets. */
  readonly set: string | null;
  /** Records with LUT < this, ms, are gone. */
  readonly cutoffLut: number;
  /** When it took effect, ms. */
  readonly when: number | Window;
}

/** Versions that one append of the log takes. */
const APPEND_VERSIONS = 4096;
const NO_BYTES = new Uint8Array(0);
const NO_HASH = new Uint32Array(4);

/**
 * Log and index of a capture directory: the one way in. What is told ({@link found}, {@link gone}, …) is decided at once and durable when
 * {@link flush} returns; {@link state} says how far the log is complete. One caller at a time.
 *
 * After a failed write the log accepts nothing more (L5): the directory is opened anew.
 */
export class Journal {
  readonly dir: string;
  readonly identity: EngineIdentity;
  readonly source: CaptureSource;
  /** As of the last {@link flush}. */
  readonly index: RecordIndex;
  readonly #lock: HeldLock;
  readonly #log: LocalLog;
  readonly #spool: LogSpool;
  readonly #names: Names;
  readonly #partitions: PartitionSet;
  /** Of the state at the frontier. */
  readonly #digest: ContentDigest;
  readonly #ahead: Ahead;
  readonly #epoch: number;
  #frontierTs: number;
  #lsn: number;
  /** Rows that the index does not have yet, by namespace number and key; null: gone. */
  readonly #changed = new Map<string, RowChange>();
  #versions: LogVersion[] = [];
  /** Truncations above the frontier: versions older than their cutoff that come after them need a later ts. */
  #truncations: { namespace: string; set: string | null; cutoffLut: number; ts: number }[] = [];
  #note: Readonly<Record<string, unknown>>;
  readonly #hash = new Uint32Array(4);

  private constructor(parts: JournalParts) {
    this.dir = parts.dir;
    this.identity = parts.identity;
    this.source = parts.source;
    this.index = parts.index;
    this.#lock = parts.lock;
    this.#log = parts.log;
    this.#spool = parts.spool;
    const { state } = parts;
    this.#names = state.names;
    this.#digest = state.digest;
    this.#ahead = state.ahead;
    this.#frontierTs = state.frontierTs;
    this.#lsn = parts.log.lastLsn;
    this.#epoch = state.epoch;
    this.#note = state.note;
    this.#partitions = PartitionSet.parse(parts.identity.partitions);
  }

  /** Takes the directory, repairs its log, brings the index up to it. @throws engine-busy, log-…, store-corrupt, not-an-engine, usage */
  static async open(dir: string, options: JournalOptions = {}): Promise<Journal> {
    const { files = nodeFiles, clock = systemClock } = options;
    const identity = await readIdentity(dir, files);
    const source = await readSource(dir, files);
    if (!source)
      throw new PitrError('usage', {
        what: `${dir} is an engine directory`,
        hint: 'pitr agent DIR archives it; a source is captured into a directory of its own',
      });
    const lock = await (options.locks ?? kernelLocks).acquire(writerLockPath(dir), { waitMs: 2000 });
    if (!lock) throw new PitrError('engine-busy', { dir });
    let index: RecordIndex | undefined;
    let log: LocalLog | undefined;
    try {
      index = RecordIndex.open(dir);
      const replay = new Replay(index, identity);
      const opened = await LocalLog.open({
        dir,
        engineId: identity.engineId,
        stream: identity.stream,
        timeline: identity.timeline,
        afterLsn: index.meta()?.appliedLsn ?? 0,
        epoch: 1,
        replay: (entry) => replay.entry(entry),
        files,
      });
      log = opened.log;
      const state = replay.finish(log.lastLsn);
      let journal: Journal | undefined;
      const spool = await LogSpool.open(
        {
          dir,
          engineId: identity.engineId,
          files,
          clock,
          ...(options.spool ? { settings: options.spool } : {}),
        },
        { log, seal: async () => undefined, trim: async () => journal?.trim() },
      );
      journal = new Journal({ dir, identity, source, lock, index, log, spool, state });
      return journal;
    } catch (error) {
      await log?.close().catch(() => undefined);
      await index?.close().catch(() => undefined);
      lock.release();
      throw error;
    }
  }

  /** Last stated frontier, ms; 0: none yet. */
  get frontierTs(): number {
    return this.#frontierTs;
  }

  get lastLsn(): number {
    return this.#lsn;
  }

  get partitions(): PartitionSet {
    return this.#partitions;
  }

  get spool(): SpoolStatus {
    return this.#spool.status();
  }

  /** What the source wants to find again after a restart; kept with the next {@link flush}. */
  get note(): Readonly<Record<string, unknown>> {
    return this.#note;
  }

  keep(note: Readonly<Record<string, unknown>>): void {
    this.#note = { ...this.#note, ...note };
  }

  /** Number of a namespace in the index; a new one when it has none. */
  namespaceId(namespace: string): number {
    return this.#names.namespace(namespace);
  }

  /** Name of a set in the table of {@link Rows.set}. */
  setName(set: number): string {
    return this.#names.setName(set);
  }

  /** Number of a set in the table of sets; a new one when it has none. */
  setId(namespace: string, set: string): number {
    return this.#names.set(this.namespaceId(namespace), set);
  }

  /** Waits while there is no room for more log. @throws log-quota */
  async room(): Promise<void> {
    for (let wait = this.#spool.room(); wait; wait = this.#spool.room()) await wait;
  }

  /** What is known of a record now, with what was told since the last flush. */
  row(namespace: string, digest: Uint8Array): Rows | undefined {
    return this.#row(this.namespaceId(namespace), sortKeyOf(digest));
  }

  /** A record as it was found. False: it is known like that already (C3). */
  found(record: FoundRecord): boolean {
    const namespace = this.namespaceId(record.namespace);
    const key = sortKeyOf(record.digest);
    const row = this.#row(namespace, key);
    const hash = this.#hashOf(record, key);
    const known = row && {
      generation: row.generation(0),
      lutMs: row.lutMs(0),
      isBase: row.isBase(0),
      voidTimeS: row.voidTimeS(0),
      ts: row.ts(0),
    };
    const set = this.#names.set(namespace, record.set);
    const isLogged = this.#isLogged(record.set);
    const old = row?.hash(0, new Uint32Array(4));
    const isSame = old !== undefined && hash.every((word, lane) => word === old[lane]);
    const verdict = judge(known, record, isSame, this.#floor(record));
    const lutIsBound = typeof record.lut !== 'number';
    if (!verdict) {
      if (row?.isBase(0) && !lutIsBound) this.#put(namespace, key, { ...fieldsOf(row), flags: row.flags(0) & ~ROW_FLAG.base, lutMs: record.lut as number });
      return false;
    }
    const { ts, ...seen } = verdict;
    const flags = (lutIsBound ? ROW_FLAG.base : 0) | (isLogged ? 0 : ROW_FLAG.unlogged);
    const { generation, voidTimeS } = record;
    this.#put(namespace, key, { generation, flags, set, voidTimeS, lutMs: seen.lutMs, ts, hash });
    if (!isLogged) return false;
    if (old && row?.isLogged(0)) this.#count(record.digest, ts, old, -1);
    this.#count(record.digest, ts, hash, 1);
    this.#append({
      ts,
      namespace: record.namespace,
      set: record.set,
      digest: record.digest,
      generation,
      voidTime: voidTimeS,
      image: record.image,
      seen: isExact(verdict) ? undefined : seen,
    });
    return true;
  }

  /** A record that is no more. False: it was not known to be there. */
  gone(record: GoneRecord): boolean {
    const namespace = this.namespaceId(record.namespace);
    const key = sortKeyOf(record.digest);
    const row = this.#row(namespace, key);
    if (!row) return false;
    this.#put(namespace, key, undefined);
    if (!row.isLogged(0)) return false;
    const { when, missed = 0 } = record;
    const [start, end] = typeof when === 'number' ? [when, when] : [when.startMs, when.endMs];
    const ts = Math.max(end, this.#frontierTs + 1, row.ts(0));
    this.#count(record.digest, ts, row.hash(0, new Uint32Array(4)), -1);
    const isExactly = start === end && ts === end;
    const seen: Sighting = {
      lutMs: end,
      windowStartMs: Math.min(Math.max(start, row.isBase(0) ? 0 : row.lutMs(0)), end),
      windowEndMs: ts,
      missed,
      late: ts > end,
    };
    this.#append({
      ts,
      namespace: record.namespace,
      set: record.set,
      digest: record.digest,
      generation: 0,
      voidTime: 0,
      image: undefined,
      seen: isExactly && missed === 0 ? undefined : seen,
    });
    return true;
  }

  /** Removes from the index what the truncation hides (C5); returns how many rows. */
  truncated(truncation: FoundTruncation): number {
    const { namespace, set, cutoffLut, when } = truncation;
    const [start, end] = typeof when === 'number' ? [when, when] : [when.startMs, when.endMs];
    const ts = Math.max(end, this.#frontierTs + 1);
    this.#takeVersions();
    this.#log.appendEvent({
      kind: 'truncate',
      lsn: ++this.#lsn,
      ts,
      namespace,
      set,
      cutoffLut,
      partitions: this.#partitions.toString(),
      ...(start === ts ? {} : { windowStartMs: start, windowEndMs: ts }),
    });
    this.#truncations.push({ namespace, set, cutoffLut, ts });
    return this.#removeTruncated(namespace, set, cutoffLut, ts);
  }

  /** A definition that is new, changed, or (body null) gone. Its ts is `ts`, or the next that is free. */
  defined(definition: FoundDefinition, ts: number): void {
    this.#takeVersions();
    this.#log.appendEvent({
      kind: 'definition',
      lsn: ++this.#lsn,
      ts: Math.max(ts, this.#frontierTs + 1),
      ...definition,
    });
  }

  /** Makes everything that was told durable, in log and index. */
  async flush(): Promise<void> {
    this.#takeVersions();
    await this.#log.sync();
    this.#applyIndex();
  }

  /**
   * States that everything with ts <= `ts` is in the log, and makes that visible to the archiver. `marks` are named positions at
   * `ts`. Lower than the last one, or below what {@link Ahead} can say: nothing is stated, false.
   */
  async state(ts: number, marks: readonly string[] = []): Promise<boolean> {
    if (ts <= this.#frontierTs || ts < this.#ahead.floorTs) {
      await this.flush();
      return false;
    }
    this.#takeVersions();
    for (const name of marks) this.#log.appendEvent({ kind: 'mark', lsn: ++this.#lsn, ts, name });
    this.#ahead.settle(ts, this.#digest);
    this.#frontierTs = ts;
    this.#truncations = this.#truncations.filter((t) => t.ts > ts);
    await this.#log.seal({ ts, lsn: this.#lsn, epoch: this.#epoch, digests: this.#digest.toShards() });
    this.#applyIndex();
    await this.trim();
    return true;
  }

  /** Lets go of log that the archive has. */
  async trim(): Promise<void> {
    const lsn = await this.#spool.trimTo(this.index.meta()?.appliedLsn ?? 0);
    await this.#log.trim(lsn);
  }

  /**
   * What a base copy has of these partitions, sorted rows ({@link writeRow}): replaces what was known of them. `digests` is what {@link settled}
   * must be afterwards, for all partitions of the directory.
   */
  load(namespace: string, parts: readonly { readonly partition: number; readonly rows: Buffer }[]): void {
    this.index.load(this.namespaceId(namespace), parts);
  }

  /** The base copy of everything is loaded: the digests count it, and everything before `ts` is what it says. */
  async loaded(digest: ContentDigest): Promise<void> {
    this.#digest.copy(digest);
    this.#applyIndex();
    await this.flush();
  }

  async close(): Promise<void> {
    this.#spool.wake();
    try {
      await this.#log.close();
      await this.index.close();
    } finally {
      this.#lock.release();
    }
  }

  #isLogged(set: string): boolean {
    const { sets } = this.source;
    // monitors of transactions are the server's own (reference: aerospike-wire.md 10.6)
    return set !== MONITOR_SET && (sets === null || sets.includes(set));
  }

  /** One below the first ts that a version of this record may get. */
  #floor({ namespace, set, lut }: FoundRecord): number {
    const lutMs = typeof lut === 'number' ? lut : lut.endMs;
    let floor = this.#frontierTs;
    for (const t of this.#truncations)
      if (t.namespace === namespace && (t.set === null || t.set === set) && lutMs < t.cutoffLut)
        floor = Math.max(floor, t.ts - 1);
    return floor;
  }

  #row(namespace: number, key: Buffer): Rows | undefined {
    const changed = this.#changed.get(idOf(namespace, key));
    if (changed) return changed.row && new Rows(changed.row);
    const bucket = this.index.bucketOf(namespace, key);
    const i = bucket.find(key);
    return i < 0 ? undefined : new Rows(bucket.bytes.subarray(i * ROW_BYTES, (i + 1) * ROW_BYTES));
  }

  #put(namespace: number, key: Buffer, fields: Parameters<typeof writeRow>[3] | undefined): void {
    let row: Buffer | undefined;
    if (fields) {
      row = Buffer.allocUnsafe(ROW_BYTES);
      writeRow(row, 0, key, fields);
    }
    this.#changed.set(idOf(namespace, key), { namespace, key, row });
  }

  #hashOf({ namespace, set, image }: FoundRecord, key: Buffer): Uint32Array {
    const words = contentHash(
      seedOf(namespace, set),
      key.readUInt32BE(0),
      key.readUInt32BE(4),
      key.readUInt32BE(8),
      key.readUInt32BE(12),
      key.readUInt32BE(16),
      image,
      0,
      image.length,
    );
    this.#hash.set(words);
    return this.#hash;
  }

  #count(digest: Uint8Array, ts: number, hash: Uint32Array, sign: 1 | -1): void {
    this.#ahead.add(ts, this.#digest.shardOf(partitionOf(digest)), hash, sign);
  }

  #append(version: Omit<LogVersion, 'lsn' | 'batchMore' | 'seen'> & { seen: Sighting | undefined }): void {
    const { seen, ...rest } = version;
    this.#versions.push({ ...rest, lsn: ++this.#lsn, batchMore: false, ...(seen ? { seen } : {}) });
    if (this.#versions.length >= APPEND_VERSIONS) this.#takeVersions();
  }

  #takeVersions(): void {
    if (this.#versions.length === 0) return;
    this.#log.append(this.#versions);
    this.#versions = [];
  }

  #applyIndex(): void {
    this.index.apply([...this.#changed.values()], {
      version: INDEX_VERSION,
      appliedLsn: this.#lsn,
      frontierTs: this.#frontierTs,
      epoch: this.#epoch,
      partitions: this.#partitions.toString(),
      digests: this.#digest.toShards(),
      ahead: this.#ahead.encode(),
      ...this.#names.stored(),
      source: this.#note,
    });
    this.#changed.clear();
  }

  #removeTruncated(namespace: string, set: string | null, cutoffLut: number, ts: number): number {
    const id = this.namespaceId(namespace);
    let removed = 0;
    // what was told since the last flush first: the walk sees the index
    const told = [...this.#changed.values()].filter((c) => c.namespace === id);
    const seen = new Set(told.map((c) => idOf(id, c.key)));
    const isHidden = (rows: Rows, i: number): boolean =>
      rows.isLogged(i) &&
      rows.ts(i) < ts &&
      rows.lutMs(i) < cutoffLut &&
      (set === null || this.setName(rows.set(i)) === set);
    const remove = (rows: Rows, i: number): void => {
      this.#count(rows.digest(i), ts, rows.hash(i, new Uint32Array(4)), -1);
      this.#put(id, Buffer.from(rows.key(i)), undefined);
      removed++;
    };
    for (const { row } of told) if (row && isHidden(new Rows(row), 0)) remove(new Rows(row), 0);
    for (const { start, end } of this.#partitions.ranges)
      for (let partition = start; partition < end; partition++) {
        const rows = this.index.partition(id, partition);
        for (let i = 0; i < rows.length; i++)
          if (isHidden(rows, i) && !seen.has(idOf(id, rows.key(i)))) remove(rows, i);
      }
    return removed;
  }
}

interface JournalParts {
  readonly dir: string;
  readonly identity: EngineIdentity;
  readonly source: CaptureSource;
  readonly lock: HeldLock;
  readonly index: RecordIndex;
  readonly log: LocalLog;
  readonly spool: LogSpool;
  readonly state: ReplayedState;
}

/** Set in which Enterprise keeps the monitors of transactions. */
const MONITOR_SET = '<ERO~MRT';

const idOf = (namespace: number, key: Buffer): string => `${namespace}/${key.toString('latin1')}`;

const isExact = ({ ts, lutMs, windowStartMs, windowEndMs, missed }: Sighting & { readonly ts: number }): boolean =>
  ts === lutMs && windowStartMs === windowEndMs && missed === 0;

const fieldsOf = (row: Rows) => ({
  generation: row.generation(0),
  flags: row.flags(0),
  set: row.set(0),
  voidTimeS: row.voidTimeS(0),
  lutMs: row.lutMs(0),
  ts: row.ts(0),
  hash: row.hash(0, new Uint32Array(4)),
});
