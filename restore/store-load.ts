import { randomBytes } from 'node:crypto';
import { pagesPerPartition } from '../engine/page.ts';
import { PartitionSet } from '../engine/partition.ts';
import { HEADER_BYTES } from '../engine/state-record.ts';
import { Store } from '../engine/store.ts';
import type { StatePlan } from '../snapshot/state-plan.ts';
import type { Archive } from '../wal/archive.ts';
import { type RestoreOptions, type RestorePlan, shardsOf, ttlShift } from './plan.ts';
import type { RangeResult, RestoreJob } from './range-job.ts';
import { type RangePool, rangesFor } from './range-pool.ts';
import { addRanges, noRange } from './range-totals.ts';
import type { RestoreTarget } from './restore-target.ts';
import { isRenaming } from './selection.ts';

/** Merges a plan's ranges into the store of a target, from the beginning or from where an interrupted restore was. */
export class StoreLoad {
  readonly target: RestoreTarget;
  readonly store: Store;
  readonly job: RestoreJob;
  /** What was there already. */
  readonly resumed: { readonly ranges: number; readonly records: number } | undefined;
  readonly #archive: Archive;
  readonly #base: string | null;

  private constructor(
    target: RestoreTarget,
    store: Store,
    job: RestoreJob,
    archive: Archive,
    base: string | null,
  ) {
    this.target = target;
    this.store = store;
    this.job = job;
    this.#archive = archive;
    this.#base = base;
    const { progress } = target;
    this.resumed = progress && { ranges: progress.ranges, records: progress.totals.written };
  }

  /** Opens the target's store, and empties the target first when what is there cannot be gone on with. */
  static async begin(taken: RestoreTarget, plan: RestorePlan, archive: Archive): Promise<StoreLoad> {
    const base = plan.state.base?.id ?? null;
    const resumed = await reopen(taken, base);
    const target = taken.progress && !resumed ? await taken.emptied() : taken;
    const store = resumed ?? Store.open(target.dir, { bulk: true });
    try {
      if (!resumed) store.beginLoad(randomBytes(8).toString('hex'), await pagesFor(plan, archive));
      // what the source stated is what the ranges that are there were compared by: a later plan may find another statement
      const state: StatePlan = { ...plan.state, source: target.progress?.source ?? plan.state.source };
      const job: RestoreJob = {
        plan: state,
        selection: plan.selection,
        ttl: ttlShift(plan, target.nowMs),
        output: 'store',
        shards: shardsOf(state),
        perPartition: store.perPartition,
      };
      return new StoreLoad(target, store, job, archive, base);
    } catch (error) {
      await store.close();
      throw error;
    }
  }

  /** Merges what is missing. */
  async run(pool: RangePool, options: RestoreOptions): Promise<{ job: RestoreJob; totals: RangeResult }> {
    const { job, target, store } = this;
    const { progress } = target;
    let done = PartitionSet.parse(progress?.partitions ?? 'none');
    let totals = progress?.totals ?? noRange(job.shards);
    let ranges = progress?.ranges ?? 0;
    const wanted = PartitionSet.parse(job.selection.partitions ?? 'all').subtract(done);
    const todo = rangesFor(this.#archive, job.plan, wanted, options.workers ?? 2);
    const all = ranges + todo.length;
    await pool.merge(job, todo, {
      onChunk: (chunk) => store.load(chunk),
      onRange: (index, result) => {
        totals = addRanges(totals, result);
        done = done.union(PartitionSet.of([todo[index]]));
        target.record({
          base: this.#base,
          source: job.plan.source,
          load: store.loadName as string,
          partitions: done.toString(),
          ranges: ++ranges,
          totals,
        });
        options.onProgress?.({ phase: 'merge', records: totals.written, doneRanges: ranges, ranges: all });
      },
    });
    return { job, totals };
  }
}

/**
 * The store that an interrupted restore left, if it can be gone on with: the plan starts from the same snapshot, so that what the
 * source stated then can still be compared, and the store is the one that the progress is of.
 */
const reopen = async ({ dir, progress }: RestoreTarget, base: string | null): Promise<Store | undefined> => {
  if (!progress || progress.base !== base) return undefined;
  try {
    const store = Store.open(dir, { bulk: true });
    if (store.loadName === progress.load) return store;
    await store.close();
  } catch {
    // it is made again
  }
  return undefined;
};

/** Pages in each partition of the restored store. Records that get other names come in another order: then there are none. */
const pagesFor = async ({ state, selection }: RestorePlan, archive: Archive): Promise<number> => {
  if (isRenaming(selection)) return 0;
  let versions = 0;
  let bytes = 0;
  // planning has opened most of them
  const readers = await Promise.all(state.runs.flatMap((r) => r.segments.map((ref) => archive.reader(ref))));
  for (const { properties } of readers) {
    for (const c of properties.counts) {
      versions += c.versions - c.deletes;
      bytes += c.imageBytes + (c.versions - c.deletes) * (HEADER_BYTES + Buffer.byteLength(c.set));
    }
  }
  const records =
    'missing' in state.source ? versions : state.source.digests.reduce((n, d) => n + d.records, 0);
  return pagesPerPartition(records, bytes / versions);
};
