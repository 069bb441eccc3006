import * as fs from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import type { Clock } from '../engine/clock.ts';
import { ContentDigest, type ShardDigest } from '../engine/content-digest.ts';
import { acquireDirectoryLock, type DirectoryLock, writerLockPath } from '../engine/directory-lock.ts';
import { PitrError } from '../engine/errors.ts';
import { nodeFiles } from '../engine/files.ts';
import {
  IDENTITY_FILE,
  newIdentity,
  type TtlShift,
  writeFileDurably,
  writeIdentity,
} from '../engine/identity.ts';
import { PARTITIONS, PartitionSet } from '../engine/partition.ts';
import { recordsOfChunk } from '../engine/record-file.ts';
import { STORE_DIR, Store, type StoreChange } from '../engine/store.ts';
import { planState, type StatePlan } from '../snapshot/state-plan.ts';
import { ArchiveView } from '../snapshot/view.ts';
import { Archive } from '../wal/archive.ts';
import { absoluteUrl } from '../wal/engine.ts';
import { withLease } from '../wal/lease.ts';
import { LOG_DIR } from '../wal/local-log.ts';
import { InOrder } from './in-order.ts';
import type { RangeResult, RestoreJob } from './range-job.ts';
import { rangesFor, runRanges } from './range-pool.ts';
import { isPartial, type Selection } from './selection.ts';
import { type ResolvedTarget, resolveTarget } from './target.ts';

/** What a restore does to void times (S10). */
export type TtlMode = 'remaining' | 'absolute' | 'never';

export interface RestoreOptions {
  /** Archive URL or an open archive. */
  readonly archive: string | Archive;
  /** `latest`, ISO time, epoch ms, `-10m`, `lsn:STREAM/N`, `mark:NAME`. */
  readonly target: string;
  readonly timeline?: string;
  readonly selection?: Selection;
  readonly ttl?: TtlMode;
  /** Worker threads; 0 = none. Default 2. */
  readonly workers?: number;
  /** Read the target back and compare digests. Default true. */
  readonly verify?: boolean;
  readonly clock?: Clock;
  readonly onProgress?: (progress: RestoreProgress) => void;
}

export interface RestoreProgress {
  readonly phase: 'merge' | 'verify';
  readonly records: number;
  readonly doneRanges: number;
  readonly ranges: number;
}

/** What a restore would do: what `--dry-run` shows. */
export interface RestorePlan {
  readonly target: ResolvedTarget;
  readonly timeline: string;
  readonly state: StatePlan;
  readonly selection: Selection;
  readonly ttl: TtlMode;
  readonly partial: boolean;
  /** Seconds that this is expected to take, from the versions to merge; a rough figure. */
  readonly estimateSeconds: number;
}

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
  readonly records: number;
  readonly versions: number;
  readonly expired: number;
  readonly deleted: number;
  readonly truncated: number;
  /** Records of a renamed set without stored key: they keep the digest of their old name. */
  readonly withoutKey: number;
  readonly objects: number;
  readonly bytes: number;
  readonly digest: string;
  readonly verification: Verification;
  readonly durationMs: number;
  readonly verifyMs: number;
}

/** Rough merge speed for estimates, versions per second and worker. */
const VERSIONS_PER_SECOND = 300_000;
const RESTORING_FILE = 'restoring.json';
/** The lock file, and what SQLite keeps beside it. */
const LOCK_NAME = basename(writerLockPath('.'));

const archiveOf = async ({ archive, clock }: RestoreOptions): Promise<Archive> =>
  typeof archive === 'string' ? Archive.open(archive, clock ? { clock } : {}) : archive;

/** Resolves the target and plans; reads, changes nothing. @throws target-*, mark-unknown, stream-unknown, timeline-unknown */
export const planRestore = async (
  options: RestoreOptions,
): Promise<{ archive: Archive; view: ArchiveView; plan: RestorePlan }> => {
  const archive = await archiveOf(options);
  const view = await ArchiveView.read(archive, options.timeline);
  const target = await resolveTarget(view, options.target, (options.clock ?? archive.clock).nowMs());
  const state = await planState(view, target.ts);
  const selection = options.selection ?? {};
  const estimateSeconds = state.versions / (VERSIONS_PER_SECOND * Math.max(1, options.workers ?? 2));
  const plan: RestorePlan = {
    target,
    timeline: state.timeline,
    state,
    selection,
    ttl: options.ttl ?? 'remaining',
    partial: isPartial(selection),
    estimateSeconds,
  };
  return { archive, view, plan };
};

/**
 * Restores into a new engine directory. The directory becomes an engine only in the last step; what an interrupted restore
 * of the same target left is thrown away and made again, anything else there is refused (S8).
 * @throws target-*, target-not-empty, verification-failed, object-corrupt …
 */
export const restoreEngine = (
  dir: string,
  stream: string | undefined,
  options: RestoreOptions,
): Promise<RestoreReport> => leased(options, (held) => restoreIntoEngine(dir, stream, held));

const restoreIntoEngine = async (
  dir: string,
  stream: string | undefined,
  options: RestoreOptions,
): Promise<RestoreReport> => {
  const started = performance.now();
  const { archive, plan, job, nowMs } = await planJob(options, 'store');
  const { shards } = job;
  const path = resolve(dir);
  const lock = await takeTarget(path, archive, plan);
  const store = Store.open(path, { bulk: true });
  try {
    const { results, written } = await merge(archive, job, options, async (chunk) => {
      const changes: StoreChange[] = [...recordsOfChunk(chunk)];
      store.applySync(changes, undefined);
    });
    const merged = sum(
      results.map((r) => r.digest),
      shards,
    );
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
    await store.flushed();
    const verifyStarted = performance.now();
    const verification = checkSource(plan.state, plan.selection, results, shards);
    const checked = options.verify === false ? undefined : store.contentDigest(shards);
    if (checked) {
      const wrong = checked.difference(merged);
      if (wrong.length > 0)
        throw new PitrError('verification-failed', {
          what: `the target read back differs in shards ${wrong.join(', ')}`,
        });
      options.onProgress?.({ phase: 'verify', records: written, doneRanges: 1, ranges: 1 });
    }
    const verifyMs = performance.now() - verifyStarted;
    const identity = newIdentity(
      {
        ...(stream === undefined ? {} : { stream }),
        shards,
        partitions,
        archive: { url: absoluteUrl(archive.url), id: archive.id },
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
      nowMs,
    );
    await writeIdentity(path, identity);
    await fs.rm(join(path, RESTORING_FILE), { force: true });
    return {
      ...report(plan, results, written),
      forkedTimeline: identity.timeline,
      digest: merged.total(),
      verification: { ...verification, target: checked ? 'equal' : 'not checked' },
      durationMs: performance.now() - started,
      verifyMs,
    };
  } finally {
    await store.close();
    lock.release();
  }
};

/** Restores as JSON lines, in partition order. `write` may wait; nothing is read back. */
export const restoreJsonLines = (
  write: (text: Buffer) => Promise<void>,
  options: RestoreOptions,
): Promise<RestoreReport> => leased(options, (held) => restoreAsLines(write, held));

/** What the archive's catalog names stays until the restore has ended, from before the catalog is read. @throws lease-lost */
const leased = async <T>(
  options: RestoreOptions,
  work: (options: RestoreOptions) => Promise<T>,
): Promise<T> => {
  const archive = await archiveOf(options);
  return withLease(archive, 'restore', () => work({ ...options, archive }));
};

const restoreAsLines = async (
  write: (text: Buffer) => Promise<void>,
  options: RestoreOptions,
): Promise<RestoreReport> => {
  const started = performance.now();
  const { archive, plan, job } = await planJob(options, 'json');
  const { shards } = job;
  // ranges end in any order; lines come out in theirs
  const lines = new InOrder(write);
  const { results, written } = await merge(
    archive,
    job,
    options,
    (chunk, index) => lines.chunk(chunk, index),
    (index) => lines.end(index),
  );
  const state = sum(
    results.map((r) => r.stateDigest),
    shards,
  );
  return {
    ...report(plan, results, written),
    digest: state.total(),
    verification: { ...checkSource(plan.state, plan.selection, results, shards), target: 'not checked' },
    durationMs: performance.now() - started,
    verifyMs: 0,
  };
};

const merge = async (
  archive: Archive,
  job: RestoreJob,
  options: RestoreOptions,
  onChunk: (chunk: Buffer, index: number) => Promise<void>,
  onRange?: (index: number) => Promise<void>,
): Promise<{ results: RangeResult[]; written: number }> => {
  const workers = options.workers ?? 2;
  const ranges = rangesFor(job, workers);
  let doneRanges = 0;
  let records = 0;
  const results = await runRanges(archive, job, ranges, {
    workers,
    onChunk,
    onRange: async (index, result) => {
      records += result.written;
      await onRange?.(index);
      options.onProgress?.({ phase: 'merge', records, doneRanges: ++doneRanges, ranges: ranges.length });
    },
  });
  return { results, written: results.reduce((n, r) => n + r.written, 0) };
};

const sum = (lists: readonly (readonly ShardDigest[])[], shards: number): ContentDigest => {
  const total = new ContentDigest(shards);
  for (const list of lists) total.add(ContentDigest.from(list));
  return total;
};

/** The plan as what every worker needs to know. */
const planJob = async (options: RestoreOptions, output: RestoreJob['output']) => {
  const { archive, plan } = await planRestore(options);
  const nowMs = (options.clock ?? archive.clock).nowMs();
  const job: RestoreJob = {
    plan: plan.state,
    selection: plan.selection,
    ttl: ttlShift(plan, nowMs),
    output,
    shards: shardsOf(plan.state),
  };
  return { archive, plan, job, nowMs };
};

const shardsOf = (state: StatePlan): number => ('missing' in state.source ? 16 : state.source.digests.length);

const ttlShift = (plan: RestorePlan, nowMs: number): TtlShift => {
  if (plan.ttl !== 'remaining') return { mode: plan.ttl, seconds: 0 };
  return { mode: 'shift', seconds: Math.floor(nowMs / 1000) - Math.floor(plan.target.ts / 1000) };
};

/**
 * Compares the archive's state at the source's clock frames with what the source stated there.
 * @throws verification-failed
 */
const checkSource = (
  state: StatePlan,
  selection: Selection,
  results: readonly RangeResult[],
  shards: number,
): Omit<Verification, 'target'> => {
  if ('missing' in state.source) return { source: 'not checked', why: state.source.missing };
  const mine = sum(
    results.map((r) => r.clockDigest),
    shards,
  );
  const theirs = ContentDigest.from(state.source.digests);
  // a restore of some partitions read some shards in part, which proves nothing about them
  const read = PartitionSet.parse(selection.partitions ?? 'all').toMask();
  const partly = new Set(Array.from({ length: PARTITIONS }, (_, p) => (read[p] ? -1 : mine.shardOf(p))));
  if (partly.size > shards) return { source: 'not checked', why: 'no shard was read as a whole' };
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

const report = (plan: RestorePlan, results: readonly RangeResult[], written: number) => {
  const total = (field: 'versions' | 'expired' | 'deleted' | 'truncated' | 'withoutKey'): number =>
    results.reduce((n, r) => n + r[field], 0);
  return {
    target: plan.target,
    timeline: plan.timeline,
    records: written,
    versions: total('versions'),
    expired: total('expired'),
    deleted: total('deleted'),
    truncated: total('truncated'),
    withoutKey: total('withoutKey'),
    objects: plan.state.objects,
    bytes: plan.state.bytes,
  };
};

/**
 * Takes the target's lock: absent or empty, or what an interrupted restore of this very target left, which is thrown away. Looks
 * before it makes anything, and again under the lock: somebody else may have finished the same restore meanwhile.
 */
const takeTarget = async (dir: string, archive: Archive, plan: RestorePlan): Promise<DirectoryLock> => {
  const begun = JSON.stringify({
    archive: archive.id,
    timeline: plan.timeline,
    ts: plan.target.ts,
    selection: plan.selection,
    ttl: plan.ttl,
  });
  await leftIn(dir, begun);
  await fs.stat(dir).catch(() => nodeFiles.makeDir(dir));
  const lock = await acquireDirectoryLock(writerLockPath(dir), { waitMs: 200 });
  if (!lock) throw new PitrError('engine-busy', { dir });
  try {
    const temporary = await leftIn(dir, begun);
    // first what makes it an engine: a part of one must never look like the whole
    await fs.rm(join(dir, IDENTITY_FILE), { force: true });
    await nodeFiles.syncDir(dir);
    await fs.rm(join(dir, STORE_DIR), { recursive: true, force: true });
    for (const name of temporary) await fs.rm(join(dir, name), { force: true });
    await writeFileDurably(dir, RESTORING_FILE, begun);
    return lock;
  } catch (error) {
    lock.release();
    throw error;
  }
};

/** Temporary files of ours in the target. @throws target-not-empty when there is anything but what `begun` names */
const leftIn = async (dir: string, begun: string): Promise<string[]> => {
  const found: string[] = await fs.readdir(dir).catch((cause) => {
    if (cause.code === 'ENOENT') return [];
    throw new PitrError('io', { op: 'open', path: dir, why: cause.code }, { cause });
  });
  // what a kill left of writing one of our own two files
  const temporary = found.filter(
    (n) => n.startsWith(`.${RESTORING_FILE}.`) || n.startsWith(`.${IDENTITY_FILE}.`),
  );
  const names = found.filter((n) => !temporary.includes(n) && !n.startsWith(LOCK_NAME));
  if (names.length === 0) return temporary;
  const left = await fs.readFile(join(dir, RESTORING_FILE), 'utf8').catch(() => undefined);
  // with a log it is an engine that somebody has opened since, although its marker stayed
  if (left !== begun || names.includes(LOG_DIR)) throw new PitrError('target-not-empty', { dir });
  return temporary;
};
