import { type Clock, systemClock } from '../../engine/clock.ts';
import type { LogVersion, Sighting } from '../../engine/commit-log.ts';
import type { ContentDigest } from '../../engine/content-digest.ts';
import { type HeldLock, kernelLocks, type Locks, writerLockPath } from '../../engine/directory-lock.ts';
import { PitrError } from '../../engine/errors.ts';
import { type Files, nodeFiles } from '../../engine/files.ts';
import { type EngineIdentity, readIdentity } from '../../engine/identity.ts';
import { type PartitionSet, sortKeyOf } from '../../engine/partition.ts';
import type { SpoolStatus } from '../../engine/spool.ts';
import { LocalLog } from '../local-log.ts';
import { LogSpool } from '../log-spool.ts';
import type { SpoolSettings } from '../spool-settings.ts';
import { type CaptureSource, readSource } from './capture-dir.ts';
import type { FoundRecord, GoneRecord, Window } from './found.ts';
import { ROW_FLAG, type RowFields, type Rows } from './index-row.ts';
import { judge } from './judge.ts';
import { type Cutoff, Ledger } from './ledger.ts';
import { RecordIndex } from './record-index.ts';
import { imageHash, Replay } from './replay.ts';

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
/** Ownership epoch: a capture directory keeps its partitions. */
const EPOCH = 1;
/** Set in which Enterprise keeps the monitors of transactions (reference: aerospike-wire.md 10.6). */
const MONITOR_SET = '<ERO~MRT';

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
  readonly #lock: HeldLock;
  readonly #log: LocalLog;
  readonly #ledger: Ledger;
  readonly #spool: LogSpool;
  #lsn: number;
  #versions: LogVersion[] = [];
  /** Above the frontier: versions older than their cutoff that come after them need a later ts. */
  #truncations: Cutoff[] = [];
  #waiting: Promise<void> | undefined;
  #sealedLsn: number;

  private constructor(parts: JournalParts) {
    this.dir = parts.dir;
    this.identity = parts.identity;
    this.source = parts.source;
    this.#lock = parts.lock;
    this.#log = parts.log;
    this.#ledger = parts.ledger;
    this.#spool = parts.spool;
    this.#lsn = parts.log.lastLsn;
    this.#sealedLsn = parts.log.sealedFiles.at(-1)?.lsnLast ?? 0;
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
      const ledger = new Ledger(index, identity);
      const replay = new Replay(ledger);
      const opened = await LocalLog.open({
        dir,
        engineId: identity.engineId,
        stream: identity.stream,
        timeline: identity.timeline,
        afterLsn: index.meta()?.appliedLsn ?? 0,
        epoch: EPOCH,
        replay: (entry) => replay.entry(entry),
        files,
      });
      log = opened.log;
      replay.finish();
      let journal: Journal | undefined;
      const spool = await LogSpool.open(
        {
          dir,
          engineId: identity.engineId,
          files,
          clock,
          ...(options.spool ? { settings: options.spool } : {}),
        },
        // what is sealed is all there is between two polls
        { log, seal: async () => undefined, trim: async () => journal?.trim() },
      );
      journal = new Journal({ dir, identity, source, lock, ledger, log, spool });
      return journal;
    } catch (error) {
      await log?.close().catch(() => undefined);
      await index?.close().catch(() => undefined);
      lock.release();
      throw error;
    }
  }

  /** As of the last {@link flush}. */
  get index(): RecordIndex {
    return this.#ledger.index;
  }

  /** Last stated frontier, ms, or that of the base copy; 0: none yet. */
  get frontierTs(): number {
    return this.#ledger.frontierTs;
  }

  get lastLsn(): number {
    return this.#lsn;
  }

  get partitions(): PartitionSet {
    return this.#ledger.partitions;
  }

  get spool(): SpoolStatus {
    return this.#spool.status();
  }

  /** Log that is not trimmed yet. */
  get logBytes(): number {
    return this.#log.bytes;
  }

  /** What the source wants to find again after a restart; kept with the next {@link flush}. */
  get note(): Readonly<Record<string, unknown>> {
    return this.#ledger.note;
  }

  keep(note: Readonly<Record<string, unknown>>): void {
    this.#ledger.note = { ...this.#ledger.note, ...note };
  }

  /** Number of a namespace in the index; a new one when it has none. */
  namespaceId(namespace: string): number {
    return this.#ledger.names.namespace(namespace);
  }

  /** Number of a set in the table of sets; a new one when it has none. */
  setId(namespace: string, set: string): number {
    return this.#ledger.names.set(this.namespaceId(namespace), set);
  }

  /** Name of a set: what {@link Rows.set} is the number of. */
  setName(set: number): string {
    return this.#ledger.names.setName(set);
  }

  /** False: records of this set are counted and never logged. */
  isLogged(set: string): boolean {
    const { sets } = this.source;
    return set !== MONITOR_SET && (sets === null || sets.includes(set));
  }

  /** What is known of a record, with what was told since the last flush: one row. */
  row(namespace: string, digest: Uint8Array): Rows | undefined {
    return this.#ledger.row(this.namespaceId(namespace), sortKeyOf(digest));
  }

  /** Whether there is room for more log now. When there is none, the archive is looked at until there is: ask again later. */
  get hasRoom(): boolean {
    if (this.#waiting) return false;
    const wait = this.#spool.room();
    if (!wait) return true;
    // who asks here does not wait, and asks anew after the spool's own time is over
    const over = (): void => {
      this.#waiting = undefined;
    };
    this.#waiting = wait.then(over, over);
    return false;
  }

  /** Waits while there is no room for more log. @throws log-quota */
  async room(): Promise<void> {
    for (let wait = this.#spool.room(); wait; wait = this.#spool.room()) await wait;
  }

  /** A record as it was found. False: nothing was logged, it is known like that already (C3) or of a set that is left out. */
  found(record: FoundRecord): boolean {
    const namespace = this.namespaceId(record.namespace);
    const key = sortKeyOf(record.digest);
    const row = this.#ledger.row(namespace, key);
    const hash = imageHash(record.namespace, record.set, key, record.image);
    const isSame = row !== undefined && hasHash(row, hash);
    const known = row && fieldsOf(row);
    const verdict = judge(known && { ...known, isBase: row.isBase(0) }, record, isSame, this.#floor(record));
    if (!verdict) {
      if (known && row.isBase(0) && typeof record.lut === 'number')
        this.#ledger.learn(namespace, key, {
          ...known,
          flags: known.flags & ~ROW_FLAG.base,
          lutMs: record.lut,
        });
      return false;
    }
    const { ts, ...seen } = verdict;
    const { generation, voidTimeS } = record;
    const isLogged = this.isLogged(record.set);
    this.#ledger.write(namespace, key, {
      generation,
      flags: (typeof record.lut === 'number' ? 0 : ROW_FLAG.base) | (isLogged ? 0 : ROW_FLAG.unlogged),
      set: this.#ledger.names.set(namespace, record.set),
      voidTimeS,
      lutMs: seen.lutMs,
      ts,
      hash,
    });
    if (!isLogged) return false;
    this.#append(
      {
        ts,
        namespace: record.namespace,
        set: record.set,
        digest: record.digest,
        generation,
        voidTime: voidTimeS,
        image: record.image,
      },
      isExact(ts, seen) ? undefined : seen,
    );
    return true;
  }

  /** A record that is no more. False: it was not known to be there, or is of a set that is left out. */
  gone(record: GoneRecord): boolean {
    const namespace = this.namespaceId(record.namespace);
    const key = sortKeyOf(record.digest);
    const row = this.#ledger.row(namespace, key);
    if (!row) return false;
    const { when, missed = 0 } = record;
    const [start, end] = typeof when === 'number' ? [when, when] : [when.startMs, when.endMs];
    const ts = Math.max(end, this.frontierTs + 1, row.ts(0));
    this.#ledger.remove(namespace, key, ts);
    if (!row.isLogged(0)) return false;
    const seen: Sighting = {
      lutMs: end,
      // it was there when it was last changed
      windowStartMs: typeof when === 'number' ? end : Math.min(Math.max(start, row.lutMs(0)), end),
      windowEndMs: typeof when === 'number' && ts === end ? end : ts,
      missed,
      late: ts > end,
    };
    this.#append(
      {
        ts,
        namespace: record.namespace,
        set: record.set,
        digest: record.digest,
        generation: 0,
        voidTime: 0,
        image: undefined,
      },
      isExact(ts, seen) ? undefined : seen,
    );
    return true;
  }

  /** Removes from the index what the truncation hides (C5); returns how many rows. */
  truncated({ namespace, set, cutoffLut, when }: FoundTruncation): number {
    const [start, end] = typeof when === 'number' ? [when, when] : [when.startMs, when.endMs];
    const ts = Math.max(end, this.frontierTs + 1);
    this.#takeVersions();
    this.#log.appendEvent({
      kind: 'truncate',
      lsn: ++this.#lsn,
      ts,
      namespace,
      set,
      cutoffLut,
      partitions: this.partitions.toString(),
      ...(start === ts ? {} : { windowStartMs: start, windowEndMs: ts }),
    });
    const cutoff = { namespace, set, cutoffLut, ts };
    this.#truncations.push(cutoff);
    return this.#ledger.truncate(cutoff);
  }

  /** A definition that is new, changed, or (body null) gone. Its ts is `ts`, or the next that is free. */
  defined(definition: FoundDefinition, ts: number): void {
    this.#takeVersions();
    this.#log.appendEvent({
      kind: 'definition',
      lsn: ++this.#lsn,
      ts: Math.max(ts, this.frontierTs + 1),
      ...definition,
    });
  }

  /** Makes everything that was told durable in the log; the index follows with the next {@link flush}. */
  async sync(): Promise<void> {
    this.#takeVersions();
    await this.#log.sync();
  }

  /** Makes everything that was told durable, in log and index. */
  async flush(): Promise<void> {
    this.#takeVersions();
    await this.#log.sync();
    this.#ledger.store(this.#lsn, EPOCH);
  }

  /**
   * States that everything with ts <= `ts` is in the log, and makes that visible to the archiver. `marks` are named positions at
   * `ts`. False: it is not above the last one, or below what the digests can say (ahead.ts); then it is only a {@link flush}.
   */
  async state(ts: number, marks: readonly string[] = []): Promise<boolean> {
    if (ts < this.#ledger.floorTs) {
      await this.flush();
      return false;
    }
    this.#takeVersions();
    for (const name of marks) this.#log.appendEvent({ kind: 'mark', lsn: ++this.#lsn, ts, name });
    this.#ledger.settle(ts);
    this.#truncations = this.#truncations.filter((t) => t.ts > ts);
    await this.seal();
    return true;
  }

  /** False: something is in the log that the archiver does not see yet. */
  get isSealed(): boolean {
    return this.#sealedLsn === this.#lsn;
  }

  /** Makes what is in the log visible to the archiver, and states the last frontier again. A {@link flush}, too. */
  async seal(): Promise<void> {
    this.#takeVersions();
    await this.#log.seal({
      ts: this.frontierTs,
      lsn: this.#lsn,
      epoch: EPOCH,
      digests: this.#ledger.digest.toShards(),
    });
    this.#sealedLsn = this.#lsn;
    this.#ledger.store(this.#lsn, EPOCH);
    await this.trim();
  }

  /** Lets go of log that the archive has. */
  async trim(): Promise<void> {
    const lsn = await this.#spool.trimTo(this.index.meta()?.appliedLsn ?? 0);
    await this.#log.trim(lsn);
  }

  /**
   * What a base copy has of these partitions: sorted rows (`writeRow`) in place of all that was known of them. A copy loads every partition of the
   * directory, also empty ones; until {@link loaded} the index is nothing to go by, and `note` should say so.
   */
  load(namespace: string, parts: readonly { readonly partition: number; readonly rows: Buffer }[]): void {
    this.index.load(this.namespaceId(namespace), parts);
  }

  /** The base copy is loaded: `digest` is what it has, `ts` its C0. */
  async loaded(digest: ContentDigest, ts: number): Promise<void> {
    this.#ledger.reset(digest, ts);
    this.#truncations = [];
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

  /** One below the first ts that a version of this record may get. */
  #floor({ namespace, set, lut }: FoundRecord): number {
    const lutMs = typeof lut === 'number' ? lut : lut.endMs;
    let floor = this.frontierTs;
    for (const t of this.#truncations)
      if (t.namespace === namespace && (t.set === null || t.set === set) && lutMs < t.cutoffLut)
        floor = Math.max(floor, t.ts - 1);
    return floor;
  }

  #append(version: Omit<LogVersion, 'lsn' | 'batchMore' | 'seen'>, seen: Sighting | undefined): void {
    this.#versions.push({ ...version, lsn: ++this.#lsn, batchMore: false, ...(seen ? { seen } : {}) });
    if (this.#versions.length >= APPEND_VERSIONS) this.#takeVersions();
  }

  #takeVersions(): void {
    if (this.#versions.length === 0) return;
    this.#log.append(this.#versions);
    this.#versions = [];
  }
}

interface JournalParts {
  readonly dir: string;
  readonly identity: EngineIdentity;
  readonly source: CaptureSource;
  readonly lock: HeldLock;
  readonly ledger: Ledger;
  readonly log: LocalLog;
  readonly spool: LogSpool;
}

const isExact = (ts: number, { lutMs, windowStartMs, windowEndMs, missed }: Sighting): boolean =>
  ts === lutMs && windowStartMs === windowEndMs && missed === 0;

const hasHash = (row: Rows, hash: Uint32Array): boolean =>
  row.hash(0, new Uint32Array(4)).every((word, lane) => word === hash[lane]);

const fieldsOf = (row: Rows): RowFields => ({
  generation: row.generation(0),
  flags: row.flags(0),
  set: row.set(0),
  voidTimeS: row.voidTimeS(0),
  lutMs: row.lutMs(0),
  ts: row.ts(0),
  hash: row.hash(0, new Uint32Array(4)),
});
