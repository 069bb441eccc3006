import { Change } from './change.ts';
import { systemClock } from './clock.ts';
import type { CommitLog, LogDefinition, LogEvent, LogOwnership } from './commit-log.ts';
import { CommitLoop, type Frontier } from './commit-loop.ts';
import { ContentDigest, type ShardDigest, seedOf } from './content-digest.ts';
import type { HeldLock } from './directory-lock.ts';
import { DoorServer } from './door.ts';
import { doorOf } from './engine-door.ts';
import { EngineRecord } from './engine-record.ts';
import type {
  AcquireOptions,
  BatchOp,
  BinsInput,
  EngineCoreOptions,
  EngineParts,
  OpenReport,
  Release,
  WriteOutcome,
} from './engine-types.ts';
import { PitrError } from './errors.ts';
import type { EngineIdentity } from './identity.ts';
import { IMAGE_BYTES_MAX } from './image.ts';
import { KeyTable } from './key-table.ts';
import type { RecordStore } from './machine.ts';
import type { Particle } from './particle.ts';
import { PartitionSet } from './partition.ts';
import { assertNamespace, assertSet, type RecordId, type RecordKey, resolveKey } from './record-key.ts';
import type { Spool, SpoolStatus } from './spool.ts';
import { addSeeded } from './state-digest.ts';
import { isExpired, state } from './state-record.ts';
import { addToDigest, partitionOfKey, type StoreMeta, type TakeRow } from './store.ts';
import { inOneShard, type Transfer, withTransfer } from './transfer.ts';
import { toParticle } from './value.ts';
import { applyOp, type Decider, decided, type WriteOp, type WriteOptions } from './write-op.ts';

/** Bytes that one version takes in the log besides its image. */
const VERSION_BYTES_MAX = 160;
/** A batch is one frame of the log, whose bound this stays below; one record of the largest size fits. */
const BATCH_BYTES_MAX = IMAGE_BYTES_MAX + 32 * 1024 * 1024;
/** Records that a bulk change handles between turns of the event loop. */
const CHUNK_RECORDS = 5000;

/**
 * The record engine: current state in LMDB, truth in the log that is passed in. One instance owns a directory; reads see what
 * is durable and go on while writing. All writes return when they are durable (S2).
 */
export class EngineCore {
  readonly dir: string;
  readonly identity: EngineIdentity;
  readonly report: OpenReport;
  readonly #options: EngineCoreOptions;
  readonly #store: RecordStore;
  readonly #log: CommitLog;
  readonly #lock: HeldLock;
  readonly #loop: CommitLoop;
  /** What the write that is being decided changes of the digest. */
  readonly #delta: ContentDigest;
  /** And what it has decided of each record so far. */
  readonly #decided = new KeyTable<Change>();
  #door: DoorServer | undefined;
  #partitions: PartitionSet;
  #owned: Uint8Array;
  #transfers: readonly Transfer[];
  /** What scans that are under way read from. */
  readonly #scans = new Set<ReturnType<RecordStore['scan']>>();
  #gate: Promise<void> | undefined;
  #sealTimer: NodeJS.Timeout | undefined;
  #sealing: Promise<void> | undefined;
  #trimming: Promise<void> = Promise.resolve();
  #spool: Spool | undefined;
  #closed = false;

  protected constructor(parts: EngineParts) {
    this.dir = parts.options.dir;
    this.identity = parts.identity;
    this.report = parts.report;
    this.#options = parts.options;
    this.#store = parts.store;
    this.#log = parts.log;
    this.#lock = parts.lock;
    this.#partitions = parts.partitions;
    this.#owned = parts.partitions.toMask();
    this.#transfers = parts.transfers;
    this.#delta = new ContentDigest(parts.digest.shards);
    this.#loop = new CommitLoop({
      log: parts.log,
      store: parts.store,
      clock: parts.options.clock ?? systemClock,
      digest: parts.digest,
      epoch: parts.epoch,
      lastLsn: parts.report.lastLsn,
      lastTs: parts.lastTs,
      sealBytes: parts.options.sealBytes ?? 32 * 1024 * 1024,
      metaOf: (appliedLsn, lastTs, digest): StoreMeta => ({
        appliedLsn,
        lastTs,
        epoch: this.#loop.epoch,
        partitions: this.#partitions.toString(),
        digests: digest.toShards(),
        transfers: this.#transfers,
      }),
    });
  }

  /** Opens the door for other processes and starts the seal timer. */
  protected async start(): Promise<void> {
    this.#spool = await this.#options.openSpool?.({
      log: this.#log,
      seal: () => this.seal(),
      trim: async () => {
        this.#check();
        await this.#trim();
      },
    });
    if (this.#options.door !== false) this.#door = await DoorServer.open(this.dir, doorOf(this));
    const sealMs = this.#options.sealMs ?? 1000;
    if (sealMs > 0) {
      this.#sealTimer = setInterval(() => {
        this.#sealing ??= this.seal()
          .then(() => undefined)
          .catch(() => undefined)
          .finally(() => {
            this.#sealing = undefined;
          });
      }, sealMs);
      this.#sealTimer.unref();
    }
  }

  /** LSN of the newest write handed to the log. */
  get lastLsn(): number {
    return this.#loop.lastLsn;
  }

  /** Partitions that this engine owns now. */
  get partitions(): PartitionSet {
    return this.#partitions;
  }

  get epoch(): number {
    return this.#loop.epoch;
  }

  /** The running digest of each shard at {@link lastLsn}. */
  get digests(): ShardDigest[] {
    return this.#loop.digest.toShards();
  }

  /** Bytes of local log that are not trimmed yet. */
  get logBytes(): number {
    return this.#log.bytes;
  }

  /** Why no write succeeds any more, as id and sentence; null while all is well. Reads go on. */
  get failure(): { readonly id: string; readonly message: string } | null {
    const { failed } = this;
    return failed ? { id: failed.id, message: failed.message } : null;
  }

  /** The same as the error that it is. */
  get failed(): PitrError | undefined {
    const { failure } = this.#loop;
    return failure instanceof PitrError ? failure : undefined;
  }

  /** How the log stands to its quota; undefined without archive, where nothing waits. */
  get spool(): SpoolStatus | undefined {
    return this.#spool?.status();
  }

  /** The durable state of a record, or undefined when it is absent or expired. @throws partition-not-owned */
  async get(key: RecordKey): Promise<EngineRecord | undefined> {
    this.#checkOpen();
    const id = resolveKey(key);
    if (!this.#owned[id.partition]) throw await this.#notOwned(id.partition);
    const value = this.#loop.durable(id);
    if (!value || isExpired(state.voidTime(value), this.#nowMs())) return undefined;
    return new EngineRecord(id.namespace, id.digest, value);
  }

  /** Writes bins. Resolves when durable. @throws bad-record, record-exists, record-not-found, generation-mismatch, partition-not-owned */
  put(key: RecordKey, bins: BinsInput, options: WriteOptions = {}): Promise<WriteOutcome> {
    return this.#write(() => [putOp(key, bins, options)], first);
  }

  /** Deletes a record; `found` says whether there was one. */
  delete(key: RecordKey, options: Pick<WriteOptions, 'generation'> = {}): Promise<WriteOutcome> {
    return this.#write(() => [{ op: 'delete', id: resolveKey(key), options }], first);
  }

  /** Sets a new time to live and raises generation and last-update time. */
  touch(key: RecordKey, options: Pick<WriteOptions, 'generation' | 'ttl'> = {}): Promise<WriteOutcome> {
    return this.#write(() => [{ op: 'touch', id: resolveKey(key), options }], first);
  }

  /** All of `ops` or none (S3): one ts, consecutive LSNs, one frame of the log. Later operations see earlier ones. */
  batch(ops: readonly BatchOp[]): Promise<WriteOutcome[]> {
    const make = (): WriteOp[] =>
      ops.map((o) =>
        o.op === 'put' ? putOp(o.key, o.bins, o) : { op: o.op, id: resolveKey(o.key), options: o },
      );
    return this.#write(make, (outcomes) => outcomes);
  }

  /** What to wait for before {@link decide}: an exclusive step, memory, or the log's quota. Undefined: nothing. */
  writable(): Promise<void> | undefined {
    return this.#wait();
  }

  /**
   * Decides about one record and stages what comes of it, at once: for a writer of many, who asks {@link writable} in the same step
   * before each and answers nobody before {@link committed}. @throws engine-closed, log-full, store-full, partition-not-owned
   */
  decide(id: RecordId, decider: Decider): void {
    this.#check();
    const { partition } = id;
    if (!this.#owned[partition])
      throw new PitrError('partition-not-owned', {
        partition,
        stream: this.identity.stream,
        owner: 'another stream',
      });
    const loop = this.#loop;
    const ts = loop.nextTs();
    // valid until the next read
    const stored = loop.newest(id);
    const value = decided(decider, id, stored, ts);
    if (value === 'keep' || (!value && !stored)) return;
    // what has expired may be of another set
    if (stored) addToDigest(loop.digest, id.storeKey, stored, -1);
    if (value) addSeeded(loop.digest, seedOf(id.namespace, id.set), id.storeKey, value, 1);
    const change = new Change(id, ts, value);
    change.lsn = loop.nextLsn();
    if (value) state.setLsn(value, change.lsn);
    loop.stage(change);
  }

  /**
   * Undefined when everything decided so far is durable, else a promise of that. To be asked in the step of the decision: after a failure
   * there is nothing to wait for, and {@link newest} gives what is durable.
   */
  committed(): Promise<void> | undefined {
    if (!this.#loop.hasUnsynced || this.#loop.failure) return undefined;
    return this.#loop.commit();
  }

  /** Whether a partition is this engine's. */
  owns(partition: number): boolean {
    return this.#owned[partition] === 1;
  }

  /**
   * The newest value, durable or not, as the store holds it: valid until the next call, and nobody may hear of it before {@link committed}.
   * Undefined: absent, expired, or of a partition that is not owned.
   */
  newest(id: RecordId): Buffer | undefined {
    this.#checkOpen();
    const loop = this.#loop;
    const value = !this.#owned[id.partition] ? undefined : loop.failure ? loop.durable(id) : loop.newest(id);
    return value && isExpired(state.voidTime(value), this.#nowMs()) ? undefined : value;
  }

  /** Resolves when everything acknowledged before the call is where {@link slice} reads. */
  async settled(): Promise<void> {
    this.#checkOpen();
    await this.#loop.drain();
    this.#checkOpen();
  }

  /**
   * Calls `take` for the stored records of a namespace whose sort keys begin with a word of `[from, to)`, in key order: also for those
   * that are expired, or not owned. See {@link RecordStore.slice}.
   */
  slice(namespace: string, from: number, to: number, take: TakeRow): void {
    this.#checkOpen();
    this.#store.slice(namespace, from, to, take);
  }

  /** Namespaces that have records in the store. */
  namespaces(): string[] {
    this.#checkOpen();
    return this.#store.namespaces();
  }

  /**
   * Records of a namespace in partition order, from one snapshot of everything durable at the call; writers go on.
   * Expired records are left out. @throws engine-closed, also when it is closed on the way
   */
  async *scan(
    options: { namespace?: string; set?: string; partitions?: PartitionSet } = {},
  ): AsyncGenerator<EngineRecord> {
    this.#checkOpen();
    await this.#loop.drain();
    this.#checkOpen();
    const nowMs = this.#nowMs();
    const mask = (options.partitions ?? PartitionSet.all).toMask();
    const rows = this.#store.scan(options.namespace);
    this.#scans.add(rows);
    let n = 0;
    try {
      for (const { key, value } of rows) {
        if (++n % CHUNK_RECORDS === 0) {
          await new Promise(setImmediate);
          this.#checkOpen();
        }
        const partition = partitionOfKey(key);
        if (!mask[partition] || !this.#owned[partition] || isExpired(state.voidTime(value), nowMs)) continue;
        if (options.set !== undefined && state.set(value) !== options.set) continue;
        yield EngineRecord.ofStore(key, value);
        // the caller may have closed the engine since
        this.#checkOpen();
      }
    } finally {
      this.#scans.delete(rows);
    }
  }

  /**
   * Removes the records of a set, or of the whole namespace, whose last update is before `beforeMs` (default: all so far), in
   * the partitions that this engine owns. One event in the log, however many records.
   */
  async truncate(options: {
    namespace: string;
    set?: string;
    beforeMs?: number;
  }): Promise<{ lsn: number; ts: number; records: number }> {
    assertNamespace(options.namespace);
    assertSet(options.set ?? '');
    const { beforeMs } = options;
    if (beforeMs !== undefined && (!Number.isSafeInteger(beforeMs) || beforeMs < 0))
      throw new PitrError('usage', {
        what: `bad cutoff ${String(beforeMs)} of a truncation`,
        hint: 'beforeMs is a time in ms since 1970, a whole number',
      });
    return this.#exclusively(async () => {
      const set = options.set ?? null;
      // every record so far is older than the event will be
      const cutoff = beforeMs ?? Number.POSITIVE_INFINITY;
      const gone = await this.#collect(
        this.#store.scan(options.namespace),
        (value, key) =>
          this.#owned[partitionOfKey(key)] === 1 &&
          state.lut(value) < cutoff &&
          (set === null || state.set(value) === set),
      );
      // only now, in one step with the commit: a seal during the search states a frontier, and this must be above it (F1)
      const ts = this.#loop.exclusiveTs();
      const cutoffLut = Math.min(cutoff, ts);
      const lsn = this.#loop.nextLsn();
      const partitions = this.#partitions.toString();
      await this.#commitRemoval(gone, {
        kind: 'truncate',
        lsn,
        ts,
        namespace: options.namespace,
        set,
        cutoffLut,
        partitions,
      });
      return { lsn, ts, records: gone.keys.length };
    });
  }

  /** Names the present position; restoring to `mark:NAME` gives exactly what was written before it. */
  async mark(name: string): Promise<{ name: string; lsn: number; ts: number }> {
    if (!/^[\w.:-]{1,128}$/.test(name))
      throw new PitrError('usage', {
        what: `bad mark name "${name}"`,
        hint: 'letters, digits and _ . : -, at most 128',
      });
    await this.#ready();
    const ts = this.#loop.exclusiveTs();
    const lsn = this.#loop.nextLsn();
    this.#loop.stageEvent({ kind: 'mark', lsn, ts, name });
    this.#loop.stageClock(ts);
    await this.#loop.commit();
    return { name, lsn, ts };
  }

  /** Notes a definition of a secondary index or UDF module in the log: the archive knows it, the engine does nothing with it. */
  async define(definition: Omit<LogDefinition, 'kind' | 'lsn' | 'ts'>): Promise<{ lsn: number; ts: number }> {
    await this.#ready();
    const ts = this.#loop.exclusiveTs();
    const lsn = this.#loop.nextLsn();
    this.#loop.stageEvent({ kind: 'definition', lsn, ts, ...definition });
    await this.#loop.commit();
    return { lsn, ts };
  }

  /**
   * Gives up partitions: after this position the engine refuses them and `peer` may take them over from the archive.
   * Their records leave the store. Asked again, it returns the position of the release that was.
   * @throws partition-not-owned
   */
  async release(partitions: PartitionSet, peer: string): Promise<Release> {
    assertSome(partitions);
    return this.#exclusively(async () => {
      const ranges = partitions.toString();
      const earlier = this.#transfer('release', ranges, peer);
      if (earlier) {
        const { lsn, ts, digests } = earlier;
        return { lsn, ts, ...(digests ? { digests } : {}) };
      }
      const missing = partitions.subtract(this.#partitions);
      if (missing.size > 0) throw await this.#notOwned(missing.ranges[0].start);
      const mask = partitions.toMask();
      const gone = await this.#collect(this.#store.scan(), (_, key) => mask[partitionOfKey(key)] === 1);
      const ts = this.#loop.exclusiveTs();
      const lsn = this.#loop.nextLsn();
      const { epoch } = this.#loop;
      const digests = gone.digest.toShards();
      const event: LogOwnership = {
        kind: 'ownership',
        lsn,
        ts,
        change: 'release',
        partitions: ranges,
        peer,
        epoch,
        digests,
      };
      this.#setPartitions(this.#partitions.subtract(partitions));
      this.#transfers = withTransfer(this.#transfers, event);
      await this.#commitRemoval(gone, event);
      return { lsn, ts, digests: [inOneShard(digests)] };
    });
  }

  /**
   * Takes partitions over. `load` yields their records as the previous owner left them, its last ts `afterTs`; they are durable
   * in the store before the event is logged, so a crash leaves either nothing or everything. So does a failure. Asked again,
   * it changes nothing and returns the position of the acquisition that was, and 0 records.
   * @throws ownership-conflict, verification-failed when the records are not those that `digests` is of, and what `load` throws
   */
  async acquire(options: AcquireOptions): Promise<{ lsn: number; ts: number; records: number }> {
    assertSome(options.partitions);
    return this.#exclusively(async () => {
      const earlier = this.#earlierAcquisition(options);
      if (earlier) return earlier;
      let loaded: ContentDigest;
      try {
        // what an attempt that was killed has left
        await this.#clear(options.partitions);
        loaded = await this.#load(options);
        await this.#store.flushed();
      } catch (error) {
        await this.#clear(options.partitions).catch(() => undefined);
        throw error;
      }
      // from here to the commit nothing waits, so no clock frame can fall between digest and event
      this.#loop.digest.add(loaded);
      this.#loop.raiseFloor(options.afterTs);
      const ts = this.#loop.exclusiveTs();
      const lsn = this.#loop.nextLsn();
      this.#loop.epoch = Math.max(this.#loop.epoch, options.epoch);
      const event: LogOwnership = {
        kind: 'ownership',
        lsn,
        ts,
        change: 'acquire',
        partitions: options.partitions.toString(),
        peer: options.peer,
        epoch: this.#loop.epoch,
      };
      this.#loop.stageEvent(event);
      this.#setPartitions(this.#partitions.union(options.partitions));
      this.#transfers = withTransfer(this.#transfers, event);
      await this.#loop.commit();
      await this.#loop.drain();
      return { lsn, ts, records: loaded.records };
    });
  }

  /** What was done already when the same is asked again; undefined when it is to be done. @throws ownership-conflict */
  #earlierAcquisition(options: AcquireOptions): { lsn: number; ts: number; records: number } | undefined {
    const { partitions, peer, epoch, afterTs } = options;
    const mine = partitions.intersect(this.#partitions);
    if (mine.equals(partitions) && epoch <= this.#loop.epoch) {
      // unknown only to a store of an older release: then the present position, which is after it
      const { lsn, ts } = this.#transfer('acquire', partitions.toString(), peer) ?? {
        lsn: this.#loop.lastLsn,
        ts: this.#loop.lastTs,
      };
      return { lsn, ts, records: 0 };
    }
    if (mine.size > 0)
      throw new PitrError('ownership-conflict', {
        partitions: mine.toString(),
        owner: this.identity.stream,
      });
    // a late repetition must not bring back what was taken over then and has been passed on since
    const passedOn = this.#transfers.find(
      (t) =>
        t.change === 'release' &&
        t.ts > afterTs &&
        PartitionSet.parse(t.partitions).intersect(partitions).size > 0,
    );
    if (passedOn)
      throw new PitrError('ownership-conflict', { partitions: passedOn.partitions, owner: passedOn.peer });
    return undefined;
  }

  /** Puts the records that come with an acquisition into the store, where nobody sees them yet, and checks that they are all. */
  async #load({ partitions, peer, load, digests }: AcquireOptions): Promise<ContentDigest> {
    const loaded = new ContentDigest(this.identity.shards);
    const mask = partitions.toMask();
    const refuse = (what: string): PitrError => new PitrError('verification-failed', { what });
    for await (const rows of load) {
      for (const { key, value } of rows) {
        if (value === undefined || !mask[partitionOfKey(key)])
          throw refuse(`a record that is not of partitions ${partitions} came with them`);
        addToDigest(loaded, key, value, 1);
      }
      this.#store.applySync(rows, undefined);
    }
    const expected = digests && inOneShard(digests);
    if (expected && (expected.records !== loaded.records || expected.sum !== loaded.total()))
      throw refuse(
        `partitions ${partitions} had ${expected.records} records when ${peer} gave them up, with digest ` +
          `${expected.sum}; the archive gives ${loaded.records} with ${loaded.total()}`,
      );
    return loaded;
  }

  /** Removes the rows of partitions that are not owned: no digest counts them, nobody reads them. */
  async #clear(partitions: PartitionSet): Promise<void> {
    for (const namespace of this.#store.namespaces())
      for (const range of partitions.ranges) {
        const { keys } = await this.#collect(this.#store.scan(namespace, range), () => true);
        this.#store.applySync(
          keys.map((key) => ({ key, value: undefined })),
          undefined,
        );
      }
  }

  #transfer(change: Transfer['change'], partitions: string, peer: string): Transfer | undefined {
    return this.#transfers.find((t) => t.change === change && t.partitions === partitions && t.peer === peer);
  }

  /** States the frontier and makes everything so far visible to the archiver. Trims what is archived. */
  async seal(): Promise<Frontier> {
    this.#check();
    const frontier = await this.#loop.seal();
    await this.#trim();
    return frontier;
  }

  /** Seals, and returns when everything up to that clock frame is in the store, where other processes can read it. */
  async sealApplied(): Promise<Frontier> {
    const frontier = await this.seal();
    await this.#loop.drain();
    return frontier;
  }

  /** Seals, applies and flushes everything, and lets go of the directory. A second call does nothing. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#sealTimer);
    this.#spool?.wake();
    try {
      await this.#gate;
      await this.#sealing;
      if (!this.#loop.failure) {
        await this.#loop.seal();
        await this.#loop.drain();
        await this.#store.flushed();
        await this.#trim();
      }
      await this.#trimming;
    } finally {
      // whatever fails here, the directory is let go: else only the end of the process would
      try {
        // what is durable goes into the store also when the log failed, now or before: nothing may be under way when it is closed
        if (this.#loop.failure) await this.#loop.drain().catch(() => undefined);
        await this.#door?.close();
        await this.#log.close();
      } finally {
        // LMDB does not survive a cursor that is open when its environment is closed
        for (const rows of this.#scans) rows.return(undefined);
        await this.#store.close().finally(() => this.#lock.release());
      }
    }
  }

  /** One promise for a write, not one for each function on its way. `make` and `pick` may throw: it rejects. */
  async #write<T>(make: () => readonly WriteOp[], pick: (outcomes: WriteOutcome[]) => T): Promise<T> {
    const ops = make();
    // nothing waits between the last look and the staging below: of many who were woken together each must look again
    for (let wait = this.#wait(); wait; wait = this.#wait()) await wait;
    this.#check();
    for (const { id } of ops) if (!this.#owned[id.partition]) throw await this.#notOwned(id.partition);
    if (ops.length === 0) return pick([]);
    const steps = this.#decide(ops);
    const outcomes = this.#stage(steps);
    if (steps.some((s) => s.change)) await this.#loop.commit();
    return pick(outcomes);
  }

  /** What `ops` come to, and in `#delta` what they change of the digest. One that is refused leaves no trace of the others. */
  #decide(ops: readonly WriteOp[]): Step[] {
    const ts = this.#loop.nextTs();
    // of a batch: later operations see earlier ones
    const decided = ops.length > 1 ? this.#decided : undefined;
    const steps: Step[] = [];
    this.#delta.clear();
    decided?.clear();
    let last: Change | undefined;
    let bytes = 0;
    for (const op of ops) {
      const { id } = op;
      const earlier = decided?.get(id.storeKey, id.hash);
      // valid until the next read
      const before = earlier ? earlier.value : this.#loop.newest(id);
      const { value, found, nothing } = applyOp(op, before, ts);
      const change = nothing ? undefined : new Change(id, ts, value);
      steps.push({ change, found });
      if (!change) continue;
      // what has expired may be of another set: it is in nobody's way
      if (before) addToDigest(this.#delta, id.storeKey, before, -1);
      if (value) addSeeded(this.#delta, seedOf(id.namespace, id.set), id.storeKey, value, 1);
      decided?.set(change);
      bytes += VERSION_BYTES_MAX + (value?.length ?? 0);
      if (last) last.batchMore = true;
      last = change;
    }
    decided?.clear();
    if (bytes > BATCH_BYTES_MAX)
      throw new PitrError('bad-record', {
        what: `a batch of ${bytes} bytes is over the limit of ${BATCH_BYTES_MAX}`,
        hint: 'split it: a batch is one frame of the log',
      });
    return steps;
  }

  /** Gives LSNs to what was decided in this same step. */
  #stage(steps: readonly Step[]): WriteOutcome[] {
    const loop = this.#loop;
    const ts = loop.lastTs;
    loop.digest.add(this.#delta);
    const outcomes: WriteOutcome[] = [];
    for (const { change, found } of steps) {
      if (change) {
        change.lsn = loop.nextLsn();
        if (change.value) state.setLsn(change.value, change.lsn);
        loop.stage(change);
      }
      outcomes.push({ lsn: loop.lastLsn, ts, generation: change?.generation ?? 0, found });
    }
    return outcomes;
  }

  /** What a write has to wait for: an exclusive step, memory, or the log's quota. */
  #wait(): Promise<void> | undefined {
    if (this.#closed || this.#loop.failure) return undefined;
    return this.#gate ?? this.#loop.room() ?? this.#spool?.room();
  }

  /** Keys of matching records and their part of the digest; changes nothing. */
  async #collect(
    records: Iterable<{ key: Buffer; value: Buffer }>,
    hit: (value: Buffer, key: Buffer) => boolean,
  ): Promise<{ keys: Buffer[]; digest: ContentDigest }> {
    const keys: Buffer[] = [];
    const digest = new ContentDigest(this.identity.shards);
    let n = 0;
    for (const { key, value } of records) {
      if (++n % CHUNK_RECORDS === 0) await new Promise(setImmediate);
      if (!hit(value, key)) continue;
      addToDigest(digest, key, value, 1);
      keys.push(key);
    }
    return { keys, digest };
  }

  /** Logs an event and removes what it makes disappear, in one transaction of the store. Waits until both are there. */
  async #commitRemoval(gone: { keys: Buffer[]; digest: ContentDigest }, event: LogEvent): Promise<void> {
    this.#loop.digest.add(gone.digest, -1);
    this.#loop.stageEvent(event);
    for (const key of gone.keys) this.#loop.stageRemoval(key);
    await this.#loop.commit();
    await this.#loop.drain();
  }

  /** Runs `work` with writers held back and everything before it in the store. Readers go on. */
  async #exclusively<T>(work: () => Promise<T>): Promise<T> {
    // the gate closes in the same step as the last look at it: of two that waited, only one may go on
    while (this.#gate) await this.#gate;
    this.#check();
    let open = (): void => undefined;
    this.#gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    try {
      await this.#sealing;
      await this.#loop.drain();
      return await work();
    } finally {
      this.#gate = undefined;
      open();
    }
  }

  async #ready(): Promise<void> {
    while (this.#gate) await this.#gate;
    this.#check();
  }

  #check(): void {
    this.#checkOpen();
    if (this.#loop.failure) throw this.#loop.failure;
  }

  #checkOpen(): void {
    if (this.#closed) throw new PitrError('engine-closed', { dir: this.dir });
  }

  #setPartitions(partitions: PartitionSet): void {
    this.#partitions = partitions;
    this.#owned = partitions.toMask();
  }

  async #notOwned(partition: number): Promise<PitrError> {
    const owner = (await this.#options.ownerOf?.(partition)) ?? 'nobody yet';
    return new PitrError('partition-not-owned', { partition, stream: this.identity.stream, owner });
  }

  /** One at a time: a seal of the timer and one on request may end together. */
  #trim(): Promise<void> {
    const trimmed = this.#trimming.then(() => this.#trimNow());
    this.#trimming = trimmed.catch(() => undefined);
    return trimmed;
  }

  async #trimNow(): Promise<void> {
    // closed before the spool was open: nobody has said what is archived
    if (this.#options.openSpool && !this.#spool) return;
    const applied = this.#loop.appliedLsn;
    await this.#store.flushed();
    await this.#log.trim(this.#spool ? await this.#spool.trimTo(applied) : applied);
  }

  #nowMs(): number {
    return (this.#options.clock ?? systemClock).nowMs();
  }
}

/** One operation of a write, decided. Change undefined: nothing was there and nothing is. */
interface Step {
  readonly change: Change | undefined;
  readonly found: boolean;
}

const first = ([outcome]: readonly WriteOutcome[]): WriteOutcome => outcome;

const assertSome = (partitions: PartitionSet): void => {
  if (partitions.size === 0) throw new PitrError('usage', { what: 'no partitions are named' });
};

const putOp = (key: RecordKey, bins: BinsInput, options: WriteOptions): WriteOp => {
  const particles = new Map<string, Particle | null>();
  for (const [name, value] of Object.entries(bins))
    particles.set(name, value === null ? null : toParticle(value));
  return { op: 'put', id: resolveKey(key), bins: particles, options };
};
