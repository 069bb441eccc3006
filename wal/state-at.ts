import { ContentDigest, contentHash, seedOf } from '../engine/content-digest.ts';
import type { TtlShift } from '../engine/identity.ts';
import { FLAG } from './block.ts';
import type { TruncateEvent } from './event.ts';
import { type ExactnessOptions, ExactnessWatch } from './exactness-watch.ts';
import type { Merge, MergeVisitor } from './merge.ts';
import type { RunCursor } from './run-cursor.ts';
import type { SegmentReader } from './segment-reader.ts';
import { hides, type Truncation, withMask } from './truncation.ts';

/** What a fork did to the void times of everything inherited across it. */
export interface TtlStep extends TtlShift {
  /** Versions whose void time had passed by this instant were not carried over. */
  readonly forkTs: number;
}

/** Which versions of a run count. Instants are ms and inclusive, except `tsAfter`. */
export interface RunLimits {
  /** Versions at or below it are in the base snapshot already. -1: no base. A list: for each partition. */
  readonly tsAfter: number | readonly number[];
  /** The recovery target, or the fork at which this history was left. */
  readonly tsMax: number;
  /** Nearest fork first. */
  readonly ttl: readonly TtlStep[];
  /** Of the log of the target's own timeline: the first version of a record after the target says whether the target is exact (S7). */
  readonly isOwn?: boolean;
}

/**
 * Receives each record that exists at the target, with its content hash, which the next one overwrites (zeros when no digests are computed).
 * May say (true) that it wants to be drained.
 */
export type StateSink = (cursor: RunCursor, voidTime: number, hash: Uint32Array) => boolean;

export interface StateAtOptions {
  readonly merge: Merge;
  /** For each run of the merge. */
  readonly limits: readonly RunLimits[];
  /** The recovery target, ms, inclusive. */
  readonly ts: number;
  readonly truncations: readonly TruncateEvent[];
  /** Shards of the digests; 0 = none are computed. */
  readonly shards: number;
  /** For each partition the instant of the source's newest clock frame at or before the target; -1 = none. */
  readonly clockTs?: Float64Array;
  /** Keep records that are expired at T: a snapshot's own segments hold what the source's digests count. */
  readonly keepExpired?: boolean;
  readonly sink: StateSink;
  readonly exactness?: ExactnessOptions;
  /** Receives what is absent at T and leaves open whether it was so at some later instant: a delete or truncation whose window ends at T or after it. */
  readonly stillOpen?: (cursor: RunCursor, voidTime: number) => boolean;
  readonly drain?: () => Promise<void>;
}

/**
 * The state at T (S1): of each record the version with the greatest (ts, position) with ts <= T; nothing if that is a delete,
 * hidden by a truncation, or expired at T. The filter is on versions, never on the run that holds them.
 */
export class StateAt implements MergeVisitor {
  readonly #options: StateAtOptions;
  readonly #nowSeconds: number;
  readonly #truncations: readonly Truncation[];
  readonly #watch: ExactnessWatch | undefined;
  /** Digest of what went to the sink. */
  readonly digest: ContentDigest;
  /** Digest of the state at the source's clock frames, as the source counts: expired records are in it. */
  readonly clockDigest: ContentDigest;
  versions = 0;
  expired = 0;
  deleted = 0;
  truncated = 0;
  records = 0;
  #decided = false;
  #clockDecided = false;

  constructor(options: StateAtOptions) {
    this.#options = options;
    this.#nowSeconds = Math.floor(options.ts / 1000);
    this.#truncations = options.truncations.map(withMask);
    if (options.exactness) this.#watch = new ExactnessWatch(options.ts, options.exactness);
    this.digest = new ContentDigest(Math.max(1, options.shards));
    this.clockDigest = new ContentDigest(Math.max(1, options.shards));
  }

  /** Runs the merge to its end. */
  async run(): Promise<void> {
    const watch = this.#watch;
    if (!watch) return this.#options.merge.run(this);
    await this.#options.merge.run({
      row: (cursor, first) => {
        // where nothing is watched, which is the rule, rows do not pay for it
        const isDue = first && watch.next();
        return this.row(cursor, first) || isDue;
      },
      drain: () => this.drain(),
    });
    watch.next();
  }

  row(cursor: RunCursor, first: boolean): boolean {
    this.versions++;
    if (first) {
      this.#decided = false;
      this.#clockDecided = this.#options.clockTs === undefined || this.#options.shards === 0;
    } else if (this.#decided && this.#clockDecided) return false;
    const { block, row } = cursor;
    const limits = this.#options.limits[cursor.index];
    const ts = block.ts(row);
    const partition = block.w0[row] >>> 20;
    const { tsAfter } = limits;
    if (ts > limits.tsMax || ts <= (typeof tsAfter === 'number' ? tsAfter : tsAfter[partition])) {
      if (this.#watch && limits.isOwn && ts > limits.tsMax) this.#watch.after(cursor);
      return false;
    }
    let hash: Uint32Array | undefined;
    if (!this.#clockDecided && ts <= (this.#options.clockTs as Float64Array)[partition]) {
      this.#clockDecided = true;
      const until = (this.#options.clockTs as Float64Array)[partition];
      if (
        !(block.flags[row] & FLAG.delete) &&
        !this.#isTruncated(cursor, until) &&
        carriedVoidTime(block.voidTime[row], limits.ttl) >= 0
      ) {
        hash = hashRow(cursor);
        this.clockDigest.apply(partition, hash, 1);
      }
    }
    if (this.#decided) return false;
    this.#decided = true;
    this.#watch?.chosen(cursor);
    if (block.flags[row] & FLAG.delete) {
      this.deleted++;
      return this.#absent(cursor, (block.window(row)?.endMs ?? 0) >= this.#options.ts);
    }
    if (this.#truncations.length > 0 && this.#isTruncated(cursor, this.#options.ts)) {
      this.truncated++;
      return this.#absent(cursor, this.#isTruncated(cursor, this.#options.ts, true));
    }
    const voidTime = carriedVoidTime(block.voidTime[row], limits.ttl);
    if (voidTime < 0 || (voidTime !== 0 && voidTime < this.#nowSeconds && !this.#options.keepExpired)) {
      this.expired++;
      return false;
    }
    this.records++;
    if (this.#options.shards === 0) return this.#options.sink(cursor, voidTime, NO_HASH);
    hash ??= hashRow(cursor);
    this.digest.apply(partition, hash, 1);
    return this.#options.sink(cursor, voidTime, hash);
  }

  async drain(): Promise<void> {
    await this.#options.drain?.();
  }

  #absent(cursor: RunCursor, isOpen: boolean): boolean {
    const { stillOpen, limits } = this.#options;
    if (!isOpen || !stillOpen) return false;
    const voidTime = carriedVoidTime(cursor.block.voidTime[cursor.row], limits[cursor.index].ttl);
    return stillOpen(cursor, Math.max(0, voidTime));
  }

  /** `isOpen`: by one whose window has not ended before `untilTs`. */
  #isTruncated(cursor: RunCursor, untilTs: number, isOpen = false): boolean {
    for (const e of this.#truncations)
      if (e.ts <= untilTs && (!isOpen || (e.windowEndMs ?? 0) >= untilTs) && hides(e, cursor)) return true;
    return false;
  }
}

/** Void time after the forks that lie between a version and its reader; -1: it had expired at one of them. */
const carriedVoidTime = (voidTime: number, steps: readonly TtlStep[]): number => {
  let v = voidTime;
  for (let i = steps.length - 1; i >= 0; i--) {
    if (v === 0) return 0;
    const step = steps[i];
    if (v < Math.floor(step.forkTs / 1000)) return -1;
    if (step.mode === 'never') v = 0;
    else if (step.mode === 'shift') v += step.seconds;
  }
  return v;
};

const NO_HASH = new Uint32Array(4);

const seedCache = new WeakMap<SegmentReader, Map<number, number>>();

/** Seed of the row's namespace and set, looked up by numbers. */
const seedOfRow = (reader: SegmentReader, namespace: number, set: number): number => {
  let seeds = seedCache.get(reader);
  if (!seeds) {
    seeds = new Map();
    seedCache.set(reader, seeds);
  }
  const id = namespace * 2 ** 32 + set;
  let seed = seeds.get(id);
  if (seed === undefined) {
    seed = seedOf(reader.properties.namespaces[namespace], reader.properties.sets[set]);
    seeds.set(id, seed);
  }
  return seed;
};

const hashRow = (cursor: RunCursor): Uint32Array => {
  const { block, row, reader } = cursor;
  return contentHash(
    seedOfRow(reader, block.namespace, block.set[row]),
    block.w0[row],
    block.w1[row],
    block.w2[row],
    block.w3[row],
    block.w4[row],
    block.heap,
    block.imageStart(row),
    block.heapEnd[row],
  );
};
