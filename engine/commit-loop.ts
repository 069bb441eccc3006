import { Change } from './change.ts';
import type { Clock } from './clock.ts';
import type { CommitLog, LogClock, LogEvent } from './commit-log.ts';
import type { ContentDigest } from './content-digest.ts';
import { PitrError } from './errors.ts';
import { KeyTable } from './key-table.ts';
import type { RecordStore } from './machine.ts';
import type { RecordId } from './record-key.ts';
import type { Store, StoreChange, StoreMeta } from './store.ts';

/** Versions of one frame; a larger group is written as several frames, never cutting a batch. */
const FRAME_VERSIONS = 4096;
/** And bytes: many large writes at once must not add up to a frame over the log's limit. */
const FRAME_CONTENT_BYTES = 4 * 1024 * 1024;
/** Changes rest in the overlay this long, so that the store commits few large transactions beside the log's many small ones. */
const APPLY_DELAY_MS = 2000;
/** As many bytes of changes are applied at once, without that delay. */
const APPLY_AT_ONCE_BYTES = 32 * 1024 * 1024;
/** Bytes of changes waiting for the store beyond which writers wait too: bounds memory, with as many being applied. */
const APPLY_QUEUE_BYTES_MAX = 64 * 1024 * 1024;

/** Changes from which a group of the queue takes no more: a store with many pages takes few in a transaction. */
const GROUP_CHANGES = 4096;

/** Bytes handed over and not yet taken into the log beyond which writers wait: bounds one write, and so one file. */
const PENDING_BYTES_MAX = 64 * 1024 * 1024;

type Item = Change | { readonly event: LogEvent } | { readonly clock: LogClock };

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

interface SealWaiter {
  readonly resolve: (frontier: Frontier) => void;
  readonly reject: (error: unknown) => void;
}

/** A stated frontier: everything with a ts up to `ts` has an LSN up to `lsn`, and nothing else ever will. */
export interface Frontier {
  readonly lsn: number;
  readonly ts: number;
}

/** Writers who wait for the same sync. */
interface Group extends Waiter {
  readonly promise: Promise<void>;
}

/** What one sync makes durable; the digest after it is in `#takenDigest`. */
interface Taken {
  readonly changes: readonly StoreChange[];
  readonly bytes: number;
  readonly lastLsn: number;
  readonly lastTs: number;
}

/** What one transaction of the store will apply: everything that syncs have made durable since the group before it. */
interface ApplyGroup {
  readonly changes: StoreChange[];
  bytes: number;
  lastLsn: number;
  lastTs: number;
  readonly digest: ContentDigest;
}

/**
 * Group commit. Writers hand over versions and get a promise; one loop writes and syncs everything that waits, resolves, and
 * passes it on to the store. Between hand-over and store a record's newest value is in the overlay: generation checks see
 * every earlier LSN, readers see what is durable.
 *
 * C1: LSNs are given out in the order in which items reach the log. C2: a waiter is resolved only after its sync.
 * C3: the store gets only what the log has synced, in LSN order, with the LSN in the same transaction.
 * C4: a clock frame is made in one synchronous step with taking everything that has a ts, so nothing is older than it (F3).
 */
export class CommitLoop {
  readonly #log: CommitLog;
  readonly #store: RecordStore;
  readonly #clock: Clock;
  readonly #metaOf: (lastLsn: number, lastTs: number, digest: ContentDigest) => StoreMeta;
  /** Digest after the last version handed over. */
  readonly digest: ContentDigest;
  epoch: number;

  readonly #sealBytes: number;
  #lastLsn: number;
  #lastTs: number;
  #tsFloor: number;
  #durableLsn: number;
  #appliedLsn: number;
  #pending: Item[] = [];
  #group: Group | undefined;
  #sealWaiters: SealWaiter[] = [];
  #drainWaiters: (Waiter & { readonly lsn: number })[] = [];
  #pumping: Promise<void> | undefined;
  #applying: Promise<void> | undefined;
  /** The last one takes what the next sync makes durable, until it is full or being applied. */
  #applyQueue: ApplyGroup[] = [];
  readonly #takenDigest: ContentDigest;
  #applyQueuedBytes = 0;
  #queueShorter: PromiseWithResolvers<void> | undefined;
  #applyTimer: NodeJS.Timeout | undefined;
  #pendingBytes = 0;
  #roomPromise: Promise<void> | undefined;
  #roomMade: (() => void) | undefined;
  #pendingChanges: StoreChange[] = [];
  #failure: unknown;
  /** The failure is one of the store: nothing is applied any more. */
  #storeFailed = false;
  /** The newest change of each record that is not in the store yet. */
  readonly #overlay = new KeyTable<Change>();

  constructor(options: {
    log: CommitLog;
    store: RecordStore;
    clock: Clock;
    digest: ContentDigest;
    epoch: number;
    lastLsn: number;
    lastTs: number;
    sealBytes: number;
    metaOf: (lastLsn: number, lastTs: number, digest: ContentDigest) => StoreMeta;
  }) {
    this.#log = options.log;
    this.#store = options.store;
    this.#clock = options.clock;
    this.digest = options.digest;
    this.#takenDigest = options.digest.clone();
    this.epoch = options.epoch;
    this.#metaOf = options.metaOf;
    this.#sealBytes = options.sealBytes;
    this.#lastLsn = options.lastLsn;
    this.#durableLsn = options.lastLsn;
    this.#appliedLsn = options.lastLsn;
    this.#lastTs = options.lastTs;
    // a clock frame may have stated the last ts as frontier: never again at or below it
    this.#tsFloor = options.lastTs + 1;
  }

  get lastLsn(): number {
    return this.#lastLsn;
  }

  get lastTs(): number {
    return this.#lastTs;
  }

  get appliedLsn(): number {
    return this.#appliedLsn;
  }

  /** The ts for a commit made now (F2): never below one given out before, never at or below a stated frontier (F1). */
  nextTs(): number {
    this.#lastTs = Math.max(this.#clock.nowMs(), this.#lastTs, this.#tsFloor);
    return this.#lastTs;
  }

  /** A ts that no earlier commit has, and none later: what marks and truncations need to cut exactly. */
  exclusiveTs(): number {
    this.#lastTs = Math.max(this.#clock.nowMs(), this.#lastTs + 1, this.#tsFloor);
    this.#tsFloor = this.#lastTs + 1;
    return this.#lastTs;
  }

  /** Raises the floor: the next ts is above `ts`. */
  raiseFloor(ts: number): void {
    this.#tsFloor = Math.max(this.#tsFloor, ts + 1);
  }

  nextLsn(): number {
    return ++this.#lastLsn;
  }

  /** The newest value, durable or not, to be looked at before the next read: see {@link Store.peek}. Undefined: absent. */
  newest(id: RecordId): Buffer | undefined {
    const change = this.#overlay.get(id.storeKey, id.hash);
    return change ? change.value : this.#store.peek(id.storeKey);
  }

  /** Something that was handed over is not durable yet. */
  get hasUnsynced(): boolean {
    return this.#lastLsn > this.#durableLsn;
  }

  /** The newest durable value. */
  durable(id: RecordId): Buffer | undefined {
    let change = this.#overlay.get(id.storeKey, id.hash);
    while (change && change.lsn > this.#durableLsn) change = change.previous;
    return change ? change.value : this.#store.get(id.storeKey);
  }

  /** Undefined when there is room for another write, else a promise after which to ask again. */
  room(): Promise<void> | undefined {
    if (this.#pendingBytes < PENDING_BYTES_MAX || this.#failure) return undefined;
    this.#roomPromise ??= new Promise((resolve) => {
      this.#roomMade = resolve;
    });
    return this.#roomPromise;
  }

  /** Takes a change that has its LSN; {@link commit} follows in the same synchronous step. */
  stage(change: Change): void {
    this.#pending.push(change);
    this.#pendingBytes += change.bytes;
    this.#pendingChanges.push(change);
    const previous = this.#overlay.set(change);
    // readers see what is durable: nobody asks for what was there before that
    if (previous && previous.lsn <= this.#durableLsn) previous.previous = undefined;
    change.previous = previous;
  }

  stageEvent(event: LogEvent): void {
    this.#pending.push({ event });
  }

  /**
   * States the digests at a position whose ts is exclusive: a restore to it can then be compared exactly. It is a clock frame
   * like that of a seal, because no earlier position is missing and no later one can get that ts.
   */
  stageClock(ts: number): void {
    this.#pending.push({
      clock: { ts, lsn: this.#lastLsn, epoch: this.epoch, digests: this.digest.toShards() },
    });
  }

  /** Removes a record from the store in the transaction that applies the event staged last. Writers are held back meanwhile. */
  stageRemoval(storeKey: Buffer): void {
    this.#pendingChanges.push({ key: storeKey, value: undefined });
  }

  /** Resolves when everything staged so far is durable. */
  commit(): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure);
    // one promise for all who are woken by the same sync
    this.#group ??= Promise.withResolvers<void>();
    this.#start();
    return this.#group.promise;
  }

  /** Writes a clock frame and seals the log file: resolves when the frontier that it states is durable. */
  seal(): Promise<Frontier> {
    if (this.#failure) return Promise.reject(this.#failure);
    return new Promise<Frontier>((resolve, reject) => {
      this.#sealWaiters.push({ resolve, reject });
      this.#start();
    });
  }

  /**
   * Resolves when everything handed over before the call is durable and in the store; later commits and seals do not delay it.
   * After a failure of the log: when everything that is durable is in the store.
   */
  drain(): Promise<void> {
    if (this.#storeFailed) return Promise.reject(this.#failure);
    const lsn = this.#failure ? this.#durableLsn : this.#lastLsn;
    if (this.#appliedLsn >= lsn) return Promise.resolve();
    return new Promise<void>((resolve, reject) => {
      this.#drainWaiters.push({ lsn, resolve, reject });
      // also what was staged and nobody has committed yet
      if (this.#pending.length > 0 && !this.#failure) this.#start();
      this.#applyNow();
    });
  }

  get failure(): unknown {
    return this.#failure;
  }

  #start(): void {
    this.#pumping ??= this.#pump();
  }

  async #pump(): Promise<void> {
    // one turn, so that writers who were woken together commit together
    await Promise.resolve();
    while (this.#pending.length > 0 || this.#group || this.#sealWaiters.length > 0) {
      while (this.#applyQueuedBytes > APPLY_QUEUE_BYTES_MAX && !this.#failure) {
        // not for the store to catch up: it works on what it took while the queue fills again
        this.#queueShorter ??= Promise.withResolvers<void>();
        const shorter = this.#queueShorter.promise;
        this.#applyNow();
        await shorter;
      }
      // timers and sockets have their turn between two writes that block, and who comes by them shares the next
      if (this.#log.blocks) await new Promise(setImmediate);
      const group = this.#group;
      const sealWaiters = this.#sealWaiters;
      this.#group = undefined;
      this.#sealWaiters = [];
      try {
        const taken = this.#take();
        const clock =
          sealWaiters.length > 0 || this.#log.unsealedBytes >= this.#sealBytes
            ? this.#clockFrame()
            : undefined;
        if (clock) await this.#log.seal(clock);
        else await this.#log.sync();
        this.#durableLsn = Math.max(this.#durableLsn, taken.lastLsn);
        if (taken.changes.length > 0 || taken.lastLsn > this.#appliedLsn) this.#applyLater(taken);
        group?.resolve();
        for (const w of sealWaiters) w.resolve(clock as LogClock);
      } catch (error) {
        this.#fail(error, group ? [group, ...sealWaiters] : sealWaiters);
        break;
      }
    }
    // in the same step as the last look at the queues: later arrivals start a new loop
    this.#pumping = undefined;
  }

  /** Moves everything pending into the log's buffer. Synchronous up to the sync: see C4. */
  #take(): Taken {
    const items = this.#pending;
    this.#pending = [];
    const bytes = this.#pendingBytes;
    this.#pendingBytes = 0;
    this.#makeRoom();
    let frame: Change[] = [];
    let frameBytes = 0;
    const flush = (): void => {
      this.#log.append(frame);
      frame = [];
      frameBytes = 0;
    };
    for (const item of items) {
      if (item instanceof Change) {
        frame.push(item);
        frameBytes += item.bytes;
        const full = frame.length >= FRAME_VERSIONS || frameBytes >= FRAME_CONTENT_BYTES;
        if (full && !item.batchMore) flush();
        continue;
      }
      flush();
      if ('clock' in item) this.#log.appendClock(item.clock);
      else this.#log.appendEvent(item.event);
    }
    flush();
    const taken = {
      changes: this.#pendingChanges,
      bytes,
      lastLsn: this.#lastLsn,
      lastTs: this.#lastTs,
    };
    this.#takenDigest.copy(this.digest);
    this.#pendingChanges = [];
    return taken;
  }

  #makeRoom(): void {
    this.#roomMade?.();
    this.#roomPromise = undefined;
    this.#roomMade = undefined;
  }

  #clockFrame(): LogClock {
    const ts = this.nextTs();
    this.#tsFloor = ts + 1;
    return { ts, lsn: this.#lastLsn, epoch: this.epoch, digests: this.digest.toShards() };
  }

  #applyLater({ changes, bytes, lastLsn, lastTs }: Taken): void {
    const open = this.#applyQueue.at(-1);
    const digest = this.#takenDigest;
    if (open && open.changes.length < GROUP_CHANGES) {
      for (const change of changes) open.changes.push(change);
      open.bytes += bytes;
      open.lastLsn = lastLsn;
      open.lastTs = lastTs;
      open.digest.copy(digest);
    } else this.#applyQueue.push({ changes: [...changes], bytes, lastLsn, lastTs, digest: digest.clone() });
    this.#applyQueuedBytes += bytes;
    if (this.#applyQueuedBytes >= APPLY_AT_ONCE_BYTES || this.#drainWaiters.length > 0) this.#applyNow();
    else this.#applyTimer ??= setTimeout(() => this.#applyNow(), APPLY_DELAY_MS).unref();
  }

  #applyNow(): void {
    clearTimeout(this.#applyTimer);
    this.#applyTimer = undefined;
    if (this.#applyQueue.length > 0 && !this.#storeFailed) this.#applying ??= this.#apply();
  }

  async #apply(): Promise<void> {
    try {
      while (this.#applyQueue.length > 0) {
        const { changes, lastLsn, lastTs, digest } = this.#takeGroups();
        await this.#store.apply(changes, this.#metaOf(lastLsn, lastTs, digest));
        this.#appliedLsn = lastLsn;
        for (const w of this.#drainWaiters) if (w.lsn <= lastLsn) w.resolve();
        this.#drainWaiters = this.#drainWaiters.filter((w) => w.lsn > lastLsn);
        for (const change of changes) {
          if (!(change instanceof Change)) continue;
          this.#overlay.delete(change);
          // a newer one may hold it; nobody asks for what was there before it
          change.previous = undefined;
        }
      }
    } catch (error) {
      this.#storeFailed = true;
      this.#fail(error, []);
    }
    this.#applying = undefined;
  }

  /** The oldest groups of the queue as one: as many as one transaction of the store takes, at least one. */
  #takeGroups(): Omit<ApplyGroup, 'bytes'> {
    const changesMax = this.#store.changesMax;
    const changes: StoreChange[] = [];
    let n = 0;
    while (n < this.#applyQueue.length && changes.length < changesMax) {
      const group = this.#applyQueue[n++];
      // no spread: a store that is behind may have more changes than a call takes arguments
      for (const change of group.changes) changes.push(change);
      this.#applyQueuedBytes -= group.bytes;
    }
    this.#saysShorter();
    const { lastLsn, lastTs, digest } = this.#applyQueue[n - 1];
    this.#applyQueue.splice(0, n);
    return { changes, lastLsn, lastTs, digest };
  }

  #saysShorter(): void {
    this.#queueShorter?.resolve();
    this.#queueShorter = undefined;
  }

  #fail(error: unknown, waiters: readonly Pick<Waiter, 'reject'>[]): void {
    this.#failure ??=
      error instanceof PitrError
        ? error
        : new PitrError('internal', { what: String(error) }, { cause: error });
    for (const w of [...waiters, ...this.#sealWaiters, ...this.#drainWaiters]) w.reject(this.#failure);
    this.#group?.reject(this.#failure);
    this.#makeRoom();
    this.#saysShorter();
    this.#group = undefined;
    this.#sealWaiters = [];
    this.#drainWaiters = [];
  }
}
