import { ContentDigest } from '../engine/content-digest.ts';
import { isPitrError, PitrError } from '../engine/errors.ts';
import { newIdentity } from '../engine/identity.ts';
import { keptUrl } from '../engine/open-object-store.ts';
import { PARTITIONS, PartitionSet } from '../engine/partition.ts';
import type { Store } from '../engine/store.ts';
import type { StatePlan } from '../snapshot/state-plan.ts';
import type { Archive } from '../wal/archive.ts';
import { withLease } from '../wal/lease.ts';
import { InOrder } from './in-order.ts';
import { sayInexact } from './inexact.ts';
import {
  clockOf,
  openArchive,
  planRestore,
  type RestoreOptions,
  type RestorePlan,
  shardsOf,
  ttlShift,
} from './plan.ts';
import type { InexactTotals, RangeResult, RestoreJob } from './range-job.ts';
import { RangePool, rangesFor } from './range-pool.ts';
import { addRanges, noRange } from './range-totals.ts';
import { RestoreTarget, type Wanted } from './restore-target.ts';
import { isRenaming, type Selection } from './selection.ts';
import { StoreLoad } from './store-load.ts';
import type { ResolvedTarget } from './target.ts';

export {
  planRestore,
  type RestoreOptions,
  type RestorePlan,
  type RestoreProgress,
  type TtlMode,
} from './plan.ts';

/** How the result was checked. */
export interface Verification {
  /** The records read back from the target are those that were written. */
  readonly target: 'equal' | 'not checked';
  /** The archive's state at the source's last statement before the target is the source's. */
  readonly source: 'equal' | 'not checked';
  /** Why the source was not compared. */
  readonly why?: string;
  /** The instant of the statement, ms: the oldest of the streams'. */
  readonly sourceTs?: number;
}

export interface RestoreReport {
  readonly target: ResolvedTarget;
  readonly timeline: string;
  /** The history that the restored engine will write, when it is written to. */
  readonly forkedTimeline?: string;
  /** Taken over from an interrupted restore of the same target; the other numbers are of the whole. */
  readonly resumed?: { readonly ranges: number; readonly records: number };
  readonly records: number;
  readonly versions: number;
  readonly expired: number;
  readonly deleted: number;
  readonly truncated: number;
  /** Records of a renamed set without stored key: they keep the digest of their old name. */
  readonly withoutKey: number;
  /** Of the selected records, absent ones included: those that may not be what the source had at the target (S7). */
  readonly inexact: InexactTotals;
  readonly objects: number;
  readonly bytes: number;
  readonly digest: string;
  readonly verification: Verification;
  readonly durationMs: number;
  readonly verifyMs: number;
}

/**
 * Restores into a new engine directory. The directory becomes an engine only in the last step; an interrupted restore of the same
 * target is gone on with, anything else there is refused (S8).
 * @throws target-*, verification-failed, inexact, object-corrupt …
 */
export const restoreEngine = (
  dir: string,
  stream: string | undefined,
  options: RestoreOptions,
): Promise<RestoreReport> => leased(options, (held, pool) => restoreIntoEngine(dir, stream, held, pool));

const restoreIntoEngine = async (
  dir: string,
  stream: string | undefined,
  options: Held,
  pool: RangePool,
): Promise<RestoreReport> => {
  const started = performance.now();
  const { archive } = options;
  let target: RestoreTarget | undefined;
  let store: Store | undefined;
  try {
    const { plan } = await planRestore(options);
    target = await RestoreTarget.take(dir, wantedOf(archive, plan), clockOf(options, archive).nowMs());
    const load = await StoreLoad.begin(target, plan, archive);
    ({ store, target } = load);
    const { job, totals } = await load.run(pool, options);
    const { shards } = job;
    await sayInexact(archive, pool, job, options, totals.inexact);
    assertAllThere(store, plan.selection, totals);
    const merged = ContentDigest.from(totals.digest);
    // in a renamed set records get new digests, which may lie in any partition
    const isRekeyed = Object.keys(plan.selection.renameSets ?? {}).length > 0;
    const partitions = isRekeyed ? 'all' : (plan.selection.partitions ?? 'all');
    store.applySync([], {
      appliedLsn: 0,
      lastTs: plan.target.ts,
      epoch: 1,
      partitions,
      digests: merged.toShards(),
    });
    const flushed = store.flushed();
    // what it throws counts after what the comparison throws
    flushed.catch(() => undefined);
    const verifyStarted = performance.now();
    const verification = checkSource(job.plan, plan.selection, totals);
    const checked = options.verify === false ? undefined : await pool.digest(target.dir, store, shards);
    if (checked) {
      const wrong = checked.difference(merged);
      if (wrong.length > 0)
        throw new PitrError('verification-failed', {
          what: `the target read back differs in shards ${wrong.join(', ')}`,
        });
      options.onProgress?.({ phase: 'verify', records: totals.written, doneRanges: 1, ranges: 1 });
    }
    const verifyMs = performance.now() - verifyStarted;
    await flushed;
    const identity = newIdentity(
      {
        ...(stream === undefined ? {} : { stream }),
        shards,
        partitions,
        archive: { url: keptUrl(archive.url), id: archive.id },
        ...(plan.partial
          ? { detached: true }
          : {
              fork: {
                timeline: plan.timeline,
                ts: plan.target.ts,
                positions: plan.state.positions,
                ttl: job.ttl,
              },
            }),
      },
      target.nowMs,
    );
    await target.finish(identity);
    return {
      ...report(plan, totals),
      ...(load.resumed ? { resumed: load.resumed } : {}),
      forkedTimeline: identity.timeline,
      digest: merged.total(),
      verification: { ...verification, target: checked ? 'equal' : 'not checked' },
      durationMs: performance.now() - started,
      verifyMs,
    };
  } catch (error) {
    if (isPitrError(error, 'verification-failed')) await target?.distrust();
    throw error;
  } finally {
    await pool.close();
    await store?.close();
    target?.release();
  }
};

/** Restores as JSON lines, in partition order. `write` may wait; nothing is read back. @throws inexact before the first line */
export const restoreJsonLines = (
  write: (text: Buffer) => Promise<void>,
  options: RestoreOptions,
): Promise<RestoreReport> => leased(options, (held, pool) => restoreAsLines(write, held, pool));

/** Of a restore whose archive is open and under a lease. */
export interface Held extends RestoreOptions {
  readonly archive: Archive;
}

/**
 * What the archive's catalog names stays until the restore has ended, from before the catalog is read. The threads start before the
 * lease is there, since they read nothing that it keeps until they are given work. @throws lease-lost
 */
export const leased = async <T>(
  options: RestoreOptions,
  work: (options: Held, pool: RangePool) => Promise<T>,
): Promise<T> => {
  const archive = await openArchive(options);
  const pool = new RangePool(archive, options.workers ?? 2);
  try {
    return await withLease(archive, 'restore', () => work({ ...options, archive }, pool));
  } finally {
    await pool.close();
  }
};

const restoreAsLines = async (
  write: (text: Buffer) => Promise<void>,
  options: Held,
  pool: RangePool,
): Promise<RestoreReport> => {
  const started = performance.now();
  const { archive, workers = 2 } = options;
  const { plan } = await planRestore(options);
  const { state, selection } = plan;
  const shards = shardsOf(state);
  const ttl = ttlShift(plan, clockOf(options, archive).nowMs());
  const job: RestoreJob = { plan: state, selection, ttl, output: 'json', shards };
  const ranges = rangesFor(archive, state, PartitionSet.parse(selection.partitions ?? 'all'), workers);
  // lines are on their way at once: what is to be refused is known before
  if (options.strict || options.onInexact) await sayInexact(archive, pool, job, options);
  let totals = noRange(shards);
  let doneRanges = 0;
  // ranges end in any order; lines come out in theirs
  const lines = new InOrder(write);
  await pool.merge(job, ranges, {
    onChunk: (chunk, index) => lines.chunk(chunk, index),
    onRange: async (index, result) => {
      totals = addRanges(totals, result);
      await lines.end(index);
      const { written: records } = totals;
      options.onProgress?.({ phase: 'merge', records, doneRanges: ++doneRanges, ranges: ranges.length });
    },
  });
  return {
    ...report(plan, totals),
    digest: ContentDigest.from(totals.stateDigest).total(),
    verification: { ...checkSource(state, selection, totals), target: 'not checked' },
    durationMs: performance.now() - started,
    verifyMs: 0,
  };
};

/** Two records that get the same new name would be one: that is known also without reading back. @throws verification-failed */
const assertAllThere = (store: Store, selection: Selection, { written }: RangeResult): void => {
  // the store of a restore that renames has no pages
  const there = isRenaming(selection) ? store.rowsBesidePages : written;
  if (there !== written)
    throw new PitrError('verification-failed', {
      what: `${written - there} of ${written} records have the new name of another one`,
      hint: 'rename to what the restored records do not use, or restore less',
    });
};

const wantedOf = (archive: Archive, plan: RestorePlan): Wanted => ({
  archive: archive.id,
  timeline: plan.timeline,
  ts: plan.target.ts,
  selection: plan.selection,
  ttl: plan.ttl,
});

/**
 * Compares the archive's state at the source's clock frames with what the source stated there.
 * @throws verification-failed
 */
export const checkSource = (
  state: StatePlan,
  selection: Selection,
  totals: RangeResult,
): Omit<Verification, 'target'> => {
  if ('missing' in state.source) return { source: 'not checked', why: state.source.missing };
  const mine = ContentDigest.from(totals.clockDigest);
  const theirs = ContentDigest.from(state.source.digests);
  // a restore of some partitions read some shards in part, which proves nothing about them
  const read = PartitionSet.parse(selection.partitions ?? 'all').toMask();
  const partly = new Set(Array.from({ length: PARTITIONS }, (_, p) => (read[p] ? -1 : mine.shardOf(p))));
  if (partly.size > mine.shards) return { source: 'not checked', why: 'no shard was read as a whole' };
  const wrong = mine.difference(theirs).filter((shard) => !partly.has(shard));
  if (wrong.length > 0)
    throw new PitrError('verification-failed', {
      what: `the archive's state differs from what the source stated in shards ${wrong.join(', ')}`,
    });
  const { snapshot, clockTs } = state.source;
  return {
    source: 'equal',
    sourceTs: Math.min(...clockTs.filter((ts) => ts >= 0)),
    ...(snapshot === undefined
      ? {}
      : { why: `through snapshot ${snapshot}, which was compared when it was made` }),
  };
};

const report = (plan: RestorePlan, totals: RangeResult) => {
  const { written: records, versions, expired, deleted, truncated, withoutKey, inexact } = totals;
  const { objects, bytes } = plan.state;
  const { target, timeline } = plan;
  const counts = { records, versions, expired, deleted, truncated, withoutKey, inexact };
  return { target, timeline, ...counts, objects, bytes };
};
