import { type Clock, systemClock } from '../../engine/clock.ts';
import type { LogVersion, Sighting } from '../../engine/commit-log.ts';
import type { ContentDigest } from '../../engine/content-digest.ts';
import { type HeldLock, kernelLocks, type Locks, writerLockPath } from '../../engine/directory-lock.ts';
import type { AcquireOptions, Release } from '../../engine/engine-types.ts';
import { PitrError } from '../../engine/errors.ts';
import { type Files, nodeFiles } from '../../engine/files.ts';
import { type EngineIdentity, readIdentity } from '../../engine/identity.ts';
import { PartitionSet, sortKeyOf } from '../../engine/partition.ts';
import type { SpoolStatus } from '../../engine/spool.ts';
import { inOneShard } from '../../engine/transfer.ts';
import { LocalLog } from '../local-log.ts';
import { LogSpool } from '../log-spool.ts';
import type { SpoolSettings } from '../spool-settings.ts';
import { type CaptureSource, readSource } from './capture-dir.ts';
import type { FoundRecord, GoneRecord, Window } from './found.ts';
import { Giving } from './giving.ts';
import { incomingRows, positionOf, transferOf } from './incoming.ts';
import { ROW_FLAG, type RowFields, type Rows } from './index-row.ts';
import { judge, missedAfter } from './judge.ts';
import { Ledger } from './ledger.ts';
import { isLoggedSet } from './logged-sets.ts';
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

/** Partitions came from another owner. */
export interface LookFrom {
  /** Changes of them came after this, ms. */
  readonly ms: number;
  /** Those that were given up: with the last frontier their owner logged nothing above it. Of a lost directory: none. */
  readonly heldIn: string;
}

/** What went to the log since the journal was opened. */
export interface Tally {
  versions: number;
  /** Of them: with a ts after their LUT (F2). */
  late: number;
  /** Of them: with versions before them that nobody saw. */
  missed: number;
  deletes: number;
}

/** Versions that one append of the log takes. */
const APPEND_VERSIONS = 4096;

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
  readonly tally: Tally = { versions: 0, late: 0, missed: 0, deletes: 0 };
  #lsn: number;
  #versions: LogVersion[] = [];
  #waiting: Promise<void> | undefined;
  #sealedLsn: number;
  /** Of versions and truncations so far. */
  #newestTs = 0;
  readonly #giving = new Giving();
  #coming:
    | {
        readonly options: AcquireOptions;
        readonly done: PromiseWithResolvers<{ lsn: number; ts: number; records: number }>;
      }
    | undefined;

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
    this.#newestTs = parts.newestTs;
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
        epoch: ledger.epoch,
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
      const newestTs = Math.max(opened.recovery.lastTs, ledger.lastTs);
      journal = new Journal({ dir, identity, source, lock, ledger, log, spool, newestTs });
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

  /** Nothing that is known has a ts after this, ms. */
  get newestTs(): number {
    return Math.max(this.#newestTs, this.frontierTs);
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

  /** False: something was told that the index does not have yet. */
  get isFlushed(): boolean {
    return this.#ledger.changes === 0;
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
    return isLoggedSet(this.source.sets, set);
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

  /**
   * The frontier that will be stated next. Of partitions that are being given up nothing above it is logged: who takes them over finds it.
   */
  aim(ts: number): void {
    this.#giving.aim(ts, this.frontierTs);
  }

  /** Partitions that go with the frontier that is aimed at: it has to be known what is missing in them. */
  get giving(): PartitionSet {
    return this.#giving.partitions;
  }

  /** A record as it was found. False: nothing was logged, it is known like that already (C3) or of a set that is left out. */
  found(record: FoundRecord): boolean {
    const namespace = this.namespaceId(record.namespace);
    const key = sortKeyOf(record.digest);
    const row = this.#ledger.row(namespace, key);
    const hash = imageHash(record.namespace, record.set, key, record.image);
    const isSame = row !== undefined && hasHash(row, hash);
    const known = row && fieldsOf(row);
    const verdict = judge(
      known && { ...known, isBase: row.isBase(0) },
      record,
      isSame,
      this.#floor(record, row, namespace, key),
      this.#ledger.openCopyTs,
    );
    if (!verdict) {
      if (record.boundedBeforeMs !== undefined && typeof record.lut === 'number')
        this.learn(record.namespace, record.digest, record.lut);
      return false;
    }
    const { ts, ...seen } = verdict;
    if (this.#giving.isHeld(record.digest, ts)) return false;
    const { generation, voidTimeS } = record;
    const isLogged = this.isLogged(record.set);
    this.#ledger.write(namespace, key, {
      generation,
      flags: (seen.windowStartMs < seen.lutMs ? ROW_FLAG.base : 0) | (isLogged ? 0 : ROW_FLAG.unlogged),
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

  /** The LUT of a version of which only a bound is known. False: it is known. */
  learn(namespace: string, digest: Uint8Array, lutMs: number): boolean {
    const id = this.namespaceId(namespace);
    const key = sortKeyOf(digest);
    const row = this.#ledger.row(id, key);
    // a truncation has to go by the bound, as the archive does: it must still be there to be read
    if (!row?.isBase(0) || row.lutMs(0) !== row.ts(0)) return false;
    const known = fieldsOf(row);
    const flags = (known.flags & ~ROW_FLAG.base) | ROW_FLAG.learned;
    this.#ledger.learn(id, key, { ...known, flags, lutMs });
    return true;
  }

  /** A record that is no more. False: it was not known to be there, or is of a set that is left out. */
  gone(record: GoneRecord): boolean {
    const namespace = this.namespaceId(record.namespace);
    const key = sortKeyOf(record.digest);
    const row = this.#ledger.row(namespace, key);
    const { when, missed = 0, seenMs = Number.POSITIVE_INFINITY, wasSeen = false } = record;
    if (!row && !wasSeen) return false;
    const [since, end] = typeof when === 'number' ? [when, when] : [when.startMs, when.endMs];
    // without a row there may be a delete above the frontier all the same (F2)
    const floor = Math.max(this.frontierTs + 1, row?.ts(0) ?? this.#ledger.goneTs(namespace, key));
    let ts = Math.max(end, floor);
    let start = since;
    // of what is on its way to another owner: who comes next has not looked since when
    if (typeof when !== 'number' && this.#giving.isAsked(record.digest, ts)) {
      // what was there at the frontier, and is not in the log, must not be said to have been absent
      if (seenMs <= this.#giving.aimTs) start = Math.min(since, seenMs - 1);
      if (start < this.#giving.aimTs) ts = Math.max(this.#giving.aimTs, floor);
    }
    if (this.#giving.isHeld(record.digest, ts)) return false;
    this.#ledger.remove(namespace, key, ts);
    if (row ? !row.isLogged(0) : !this.isLogged(record.set)) return false;
    const seen: Sighting = {
      lutMs: Math.min(end, ts),
      // it was there when it was last changed, and may have gone in the same ms
      windowStartMs:
        typeof when === 'number' ? end : Math.min(Math.max(start, (row?.lutMs(0) ?? 0) - 1), end),
      windowEndMs: typeof when === 'number' && ts === end ? end : Math.max(ts, end),
      missed,
      missedAfterMs: missedAfter(row && { ts: row.ts(0) }, missed, Math.min(end, ts), record.missedAfterMs),
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
    // behind every version so far: of a record that has one above it, the one below would be hidden and nobody could say which that was
    const ts = Math.max(end, this.frontierTs + 1, this.#newestTs + 1);
    this.#newestTs = ts;
    this.#giving.truncated(ts);
    const cutoff = { namespace, set, cutoffLut, ts, partitions: this.partitions.toString() };
    this.#takeVersions();
    this.#log.appendEvent({
      kind: 'truncate',
      lsn: ++this.#lsn,
      ...cutoff,
      ...(start === ts ? {} : { windowStartMs: start, windowEndMs: ts }),
    });
    return this.#ledger.truncate(cutoff);
  }

  /** A definition that is new, changed, or (body null) gone. Its ts is `ts`, or the next that is free. */
  defined(definition: FoundDefinition, ts: number): void {
    this.#takeVersions();
    // a clock may have been set back since the last one (F2)
    const definedTs = Math.max(ts, this.frontierTs + 1, Number(this.note.definedTs ?? 0));
    this.keep({ definedTs });
    this.#log.appendEvent({ kind: 'definition', lsn: ++this.#lsn, ts: definedTs, ...definition });
  }

  /** Makes everything that was told durable in the log; the index follows with the next {@link flush}. */
  async sync(): Promise<void> {
    this.#takeVersions();
    await this.#log.sync();
  }

  /** Makes everything that was told durable, in log and index. */
  async flush(): Promise<void> {
    // what is told meanwhile must be synced as well: the index takes all there is
    for (let lsn = -1; lsn !== this.#lsn; ) {
      this.#takeVersions();
      lsn = this.#lsn;
      await this.#log.sync();
    }
    this.#ledger.store(this.#lsn);
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
    const released = this.#giveUp(ts);
    this.#ledger.settle(ts);
    await this.#seal();
    released?.();
    await this.#takeOver();
    await this.trim();
    return true;
  }

  /** False: something is in the log that the archiver does not see yet. */
  get isSealed(): boolean {
    return this.#sealedLsn === this.#lsn;
  }

  /** Makes what is in the log visible to the archiver, and states the last frontier again. A {@link flush}, too. */
  async seal(): Promise<void> {
    await this.#seal();
    await this.trim();
  }

  async #seal(): Promise<void> {
    this.#takeVersions();
    await this.#log.seal({
      ts: this.frontierTs,
      lsn: this.#lsn,
      epoch: this.#ledger.epoch,
      digests: this.#ledger.digest.toShards(),
    });
    this.#sealedLsn = this.#lsn;
    this.#ledger.store(this.#lsn);
  }

  /**
   * Gives up partitions at the next frontier that is stated: their rows leave the index. Asked again it returns what was.
   * @throws partition-not-owned, interrupted, usage where a cluster ships
   */
  release(partitions: PartitionSet, peer: string): Promise<Release> {
    const earlier = transferOf(this.#ledger.transfers, 'release', partitions, peer);
    if (earlier) return Promise.resolve(positionOf(earlier));
    this.#assertLooks();
    const missing = partitions.subtract(this.partitions);
    if (missing.size > 0)
      throw new PitrError('partition-not-owned', {
        partition: missing.ranges[0].start,
        owner: 'nobody here',
      });
    return this.#giving.ask(partitions, peer, this.#newestTs);
  }

  /**
   * Takes partitions over once the frontier is at or above the release: `load` is what the index has of them from then on. What happened
   * after the release is to be looked for: {@link lookFrom}. Asked again it changes nothing.
   * @throws ownership-conflict, verification-failed, interrupted, usage where a cluster ships
   */
  acquire(options: AcquireOptions): Promise<{ lsn: number; ts: number; records: number }> {
    const earlier = transferOf(this.#ledger.transfers, 'acquire', options.partitions, options.peer);
    if (earlier) return Promise.resolve({ lsn: earlier.lsn, ts: earlier.ts, records: 0 });
    this.#assertLooks();
    const mine = options.partitions.intersect(this.partitions);
    if (mine.size > 0)
      throw new PitrError('ownership-conflict', {
        partitions: mine.toString(),
        owner: this.identity.stream,
      });
    this.#coming?.done.reject(new PitrError('interrupted', { what: 'another hand-over' }));
    const done = Promise.withResolvers<{ lsn: number; ts: number; records: number }>();
    done.promise.catch(() => undefined);
    this.#coming = { options, done };
    return done.promise;
  }

  /** What is shipped once is not shipped to the next owner: only who looks for itself can take over. @throws usage */
  #assertLooks(): void {
    if (this.source.kind === 'xdr')
      throw new PitrError('usage', {
        what: `partitions of ${this.dir}, to which a cluster ships, cannot be handed over`,
        hint: 'begin a history of their own: let the cluster ship to the new owner with rewind=all',
      });
  }

  /** Partitions that were taken over and are to be looked at; forgotten by asking. */
  lookFrom(): LookFrom | undefined {
    const lookFrom = this.note.lookFrom as LookFrom | null | undefined;
    if (!lookFrom) return undefined;
    this.keep({ lookFrom: null });
    return lookFrom;
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
    await this.flush();
  }

  async close(): Promise<void> {
    const over = new PitrError('interrupted', { what: 'a hand-over' });
    this.#giving.cancel(over);
    this.#coming?.done.reject(over);
    this.#spool.wake();
    try {
      await this.#log.close();
      await this.index.close();
    } finally {
      this.#lock.release();
    }
  }

  /** Logs the release that waits for this frontier; returns how to say so once it is durable. */
  #giveUp(ts: number): (() => void) | undefined {
    const going = this.#giving.take(ts);
    if (!going) return undefined;
    const event = {
      kind: 'ownership',
      change: 'release',
      lsn: ++this.#lsn,
      ts,
      epoch: this.#ledger.epoch,
    } as const;
    const transfer = { ...event, partitions: going.partitions.toString(), peer: going.peer };
    const digests = this.#ledger.released(transfer).toShards();
    this.#log.appendEvent({ ...transfer, digests });
    return () => going.done.resolve({ lsn: event.lsn, ts, digests: [inOneShard(digests)] });
  }

  async #takeOver(): Promise<void> {
    const coming = this.#coming;
    if (!coming || coming.options.afterTs > this.frontierTs) return;
    this.#coming = undefined;
    try {
      coming.done.resolve(await this.#load(coming.options));
    } catch (error) {
      coming.done.reject(error);
    }
  }

  async #load(options: AcquireOptions): Promise<{ lsn: number; ts: number; records: number }> {
    const { partitions, peer, afterTs } = options;
    const incoming = await incomingRows(options, this.#ledger);
    for (const [namespace, parts] of incoming.parts) this.index.load(namespace, parts);
    // before the event: names are in no log, and who comes after a kill has to look all the same
    const heldIn = options.digests ? partitions : PartitionSet.none;
    this.keep({ lookFrom: { ms: afterTs, heldIn: heldIn.toString() } satisfies LookFrom });
    await this.flush();
    const event = {
      kind: 'ownership',
      change: 'acquire',
      lsn: ++this.#lsn,
      ts: this.frontierTs + 1,
      epoch: Math.max(this.#ledger.epoch, options.epoch),
      partitions: partitions.toString(),
      peer,
    } as const;
    this.#log.appendEvent(event);
    this.#ledger.acquired(event);
    await this.flush();
    return { lsn: event.lsn, ts: event.ts, records: incoming.records };
  }

  /** One below the first ts that a version of this record may get. */
  #floor({ namespace, set, lut }: FoundRecord, row: Rows | undefined, id: number, key: Buffer): number {
    const lutMs = typeof lut === 'number' ? lut : lut.endMs;
    let floor = Math.max(this.frontierTs, row ? 0 : this.#ledger.goneTs(id, key) - 1);
    for (const t of this.#ledger.truncations)
      if (t.namespace === namespace && (t.set === null || t.set === set) && lutMs < t.cutoffLut)
        floor = Math.max(floor, t.ts - 1);
    return floor;
  }

  #append(version: Omit<LogVersion, 'lsn' | 'batchMore' | 'seen'>, seen: Sighting | undefined): void {
    if (version.ts > this.#newestTs) this.#newestTs = version.ts;
    this.#giving.logged(version.digest, version.ts);
    this.tally.versions++;
    if (!version.image) this.tally.deletes++;
    if (seen?.late) this.tally.late++;
    if (seen && seen.missed > 0) this.tally.missed++;
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
  readonly newestTs: number;
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
