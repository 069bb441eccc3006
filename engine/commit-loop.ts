import type { Clock } from './clock.ts';
import type { CommitLog, LogClock, LogEvent, LogVersion } from './commit-log.ts';
import type { ContentDigest } from './content-digest.ts';
import { PitrError } from './errors.ts';
import type { Store, StoreChange } from './store.ts';

/** Versions of one frame; a larger group is written as several frames, never cutting a batch. */
const FRAME_VERSIONS = 4096;
/** And bytes of images: many large writes at once must not add up to a frame over the log's limit. */
const FRAME_IMAGE_BYTES = 4 * 1024 * 1024;
/** Changes rest in the overlay this long, so that the store commits few large transactions beside the log's many small ones. */
const APPLY_DELAY_MS = 50;
/** As many changes are applied at once, without that delay. */
const APPLY_AT_ONCE = 5000;
/** Changes waiting for the store beyond which writers wait too: bounds memory. */
const APPLY_QUEUE_MAX = 100_000;

/** Image bytes handed over and not yet taken into the log beyond which writers wait: bounds one write, and so one file. */
const PENDING_BYTES_MAX = 64 * 1024 * 1024;

type Item = { readonly version: LogVersion } | { readonly event: LogEvent } | { readonly clock: LogClock };

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

/** The newest value of a record that is not in the store yet; `previous` is what was the newest before it. */
interface Overlay {
  readonly lsn: number;
  readonly value: Buffer | undefined;
  readonly previous: Overlay | undefined;
}

interface AppliedGroup {
  readonly keys: string[];
  readonly changes: StoreChange[];
  readonly lsns: number[];
  readonly lastLsn: number;
  readonly lastTs: number;
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
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #metaOf: (lastLsn: number, lastTs: number, digest: ContentDigest) => Parameters<Store['apply']>[1];
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
  #waiters: Waiter[] = [];
  #sealWaiters: SealWaiter[] = [];
  #drainWaiters: (Waiter & { readonly lsn: number })[] = [];
  #pumping: Promise<void> | undefined;
  #applying: Promise<void> | undefined;
  #applyQueue: AppliedGroup[] = [];
  #applyQueued = 0;
  #applyTimer: NodeJS.Timeout | undefined;
  #pendingBytes = 0;
  #roomPromise: Promise<void> | undefined;
  #roomMade: (() => void) | undefined;
  #pendingKeys: string[] = [];
  #pendingChanges: StoreChange[] = [];
  #pendingLsns: number[] = [];
  #failure: unknown;
  /** The failure is one of the store: nothing is applied any more. */
  #storeFailed = false;
  readonly #overlay = new Map<string, Overlay>();

  constructor(options: {
    log: CommitLog;
    store: Store;
    clock: Clock;
    digest: ContentDigest;
    epoch: number;
    lastLsn: number;
    lastTs: number;
    sealBytes: number;
    metaOf: (lastLsn: number, lastTs: number, digest: ContentDigest) => Parameters<Store['apply']>[1];
  }) {
    this.#log = options.log;
    this.#store = options.store;
    this.#clock = options.clock;
    this.digest = options.digest;
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

  /** The newest value, durable or not. Undefined: absent. */
  newest(mapKey: string, storeKey: Buffer): Buffer | undefined {
    const entry = this.#overlay.get(mapKey);
    return entry ? entry.value : this.#store.get(storeKey);
  }

  /** The newest durable value. */
  durable(mapKey: string, storeKey: Buffer): Buffer | undefined {
    let entry = this.#overlay.get(mapKey);
    while (entry && entry.lsn > this.#durableLsn) entry = entry.previous;
    return entry ? entry.value : this.#store.get(storeKey);
  }

  /** Undefined when there is room for another write, else a promise after which to ask again. */
  room(): Promise<void> | undefined {
    if (this.#pendingBytes < PENDING_BYTES_MAX || this.#failure) return undefined;
    this.#roomPromise ??= new Promise((resolve) => {
      this.#roomMade = resolve;
    });
    return this.#roomPromise;
  }

  /** Takes a version that has its LSN; {@link commit} follows in the same synchronous step. */
  stage(version: LogVersion, mapKey: string, storeKey: Buffer, value: Buffer | undefined): void {
    this.#pending.push({ version });
    this.#pendingBytes += version.image?.length ?? 0;
    this.#pendingKeys.push(mapKey);
    this.#pendingChanges.push({ key: storeKey, value });
    this.#pendingLsns.push(version.lsn);
    let previous = this.#overlay.get(mapKey);
    if (previous && previous.lsn <= this.#durableLsn && previous.previous)
      previous = { lsn: previous.lsn, value: previous.value, previous: undefined };
    this.#overlay.set(mapKey, { lsn: version.lsn, value, previous });
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

  /** Removes a record from the store in the transaction that applies the event at `lsn`. Writers are held back meanwhile. */
  stageRemoval(storeKey: Buffer, lsn: number): void {
    this.#pendingKeys.push('');
    this.#pendingChanges.push({ key: storeKey, value: undefined });
    this.#pendingLsns.push(lsn);
  }

  /** Resolves when everything staged so far is durable. */
  commit(): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure);
    return new Promise<void>((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
      this.#start();
    });
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
    while (this.#pending.length > 0 || this.#waiters.length > 0 || this.#sealWaiters.length > 0) {
      while (this.#applyQueued > APPLY_QUEUE_MAX && !this.#failure) {
        this.#applyNow();
        await this.#applying;
      }
      const waiters = this.#waiters;
      const sealWaiters = this.#sealWaiters;
      this.#waiters = [];
      this.#sealWaiters = [];
      try {
        const group = this.#take();
        const clock =
          sealWaiters.length > 0 || this.#log.unsealedBytes >= this.#sealBytes
            ? this.#clockFrame()
            : undefined;
        if (clock) await this.#log.seal(clock);
        else await this.#log.sync();
        this.#durableLsn = Math.max(this.#durableLsn, group.lastLsn);
        if (group.keys.length > 0 || group.lastLsn > this.#appliedLsn) this.#applyLater(group);
        for (const w of waiters) w.resolve();
        for (const w of sealWaiters) w.resolve(clock as LogClock);
      } catch (error) {
        this.#fail(error, [...waiters, ...sealWaiters]);
        break;
      }
    }
    // in the same step as the last look at the queues: later arrivals start a new loop
    this.#pumping = undefined;
  }

  /** Moves everything pending into the log's buffer. Synchronous up to the sync: see C4. */
  #take(): AppliedGroup {
    const items = this.#pending;
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#makeRoom();
    let frame: LogVersion[] = [];
    let imageBytes = 0;
    const flush = (): void => {
      this.#log.append(frame);
      frame = [];
      imageBytes = 0;
    };
    for (const item of items) {
      if ('clock' in item) {
        flush();
        this.#log.appendClock(item.clock);
        continue;
      }
      if ('event' in item) {
        flush();
        this.#log.appendEvent(item.event);
        continue;
      }
      frame.push(item.version);
      imageBytes += item.version.image?.length ?? 0;
      const full = frame.length >= FRAME_VERSIONS || imageBytes >= FRAME_IMAGE_BYTES;
      if (full && !item.version.batchMore) flush();
    }
    flush();
    const group = {
      keys: this.#pendingKeys,
      changes: this.#pendingChanges,
      lsns: this.#pendingLsns,
      lastLsn: this.#lastLsn,
      lastTs: this.#lastTs,
      digest: this.digest.clone(),
    };
    this.#pendingKeys = [];
    this.#pendingChanges = [];
    this.#pendingLsns = [];
    return group;
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

  #applyLater(group: AppliedGroup): void {
    this.#applyQueue.push(group);
    this.#applyQueued += group.keys.length;
    if (this.#applyQueued >= APPLY_AT_ONCE || this.#drainWaiters.length > 0) this.#applyNow();
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
        const groups = this.#applyQueue;
        this.#applyQueue = [];
        this.#applyQueued = 0;
        const last = groups[groups.length - 1];
        const changes = groups.length === 1 ? groups[0].changes : groups.flatMap((g) => g.changes);
        await this.#store.apply(changes, this.#metaOf(last.lastLsn, last.lastTs, last.digest));
        this.#appliedLsn = last.lastLsn;
        for (const w of this.#drainWaiters) if (w.lsn <= last.lastLsn) w.resolve();
        this.#drainWaiters = this.#drainWaiters.filter((w) => w.lsn > last.lastLsn);
        for (const group of groups)
          group.keys.forEach((key, i) => {
            if (this.#overlay.get(key)?.lsn === group.lsns[i]) this.#overlay.delete(key);
          });
      }
    } catch (error) {
      this.#storeFailed = true;
      this.#fail(error, []);
    }
    this.#applying = undefined;
  }

  #fail(error: unknown, waiters: readonly Pick<Waiter, 'reject'>[]): void {
    this.#failure ??=
      error instanceof PitrError
        ? error
        : new PitrError('internal', { what: String(error) }, { cause: error });
    for (const w of [...waiters, ...this.#waiters, ...this.#sealWaiters, ...this.#drainWaiters])
      w.reject(this.#failure);
    this.#makeRoom();
    this.#waiters = [];
    this.#sealWaiters = [];
    this.#drainWaiters = [];
  }
}
