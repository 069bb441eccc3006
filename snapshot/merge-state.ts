import { availableParallelism } from 'node:os';
import { ContentDigest, type ShardDigest } from '../engine/content-digest.ts';
import { PitrError } from '../engine/errors.ts';
import type { Archive } from '../wal/archive.ts';
import type { SegmentRef } from '../wal/segment.ts';
import { abandonSnapshot } from './begun.ts';
import type { Begun } from './manifest.ts';
import { mergeRanges } from './merge-pool.ts';
import { type MergedRange, readNote, writeNote } from './progress-note.ts';
import type { StatePlan } from './state-plan.ts';

/** Below this many versions a thread takes longer to start than the work. */
const WORKERS_FROM_VERSIONS = 200_000;

export interface MergeStateOptions {
  /** Worker threads; default one a processor, none for a small state. */
  readonly workers?: number;
  readonly onProgress?: (versions: number, total: number) => void;
}

/** The segments of a synthetic snapshot. */
export interface MergedState {
  readonly segments: SegmentRef[];
  readonly digests: readonly ShardDigest[];
  readonly records: number;
}

/**
 * Merges the planned state into segments, range by range; ranges of which an earlier attempt at the same snapshot has noted that
 * they are done are taken over. Compared with what the source stated before it is returned (N5).
 * @throws verification-failed, after which nothing of it is left
 */
export const mergeState = async (
  archive: Archive,
  plan: StatePlan,
  begun: Begun,
  options: MergeStateOptions = {},
): Promise<MergedState> => {
  const shards = 'missing' in plan.source ? 16 : plan.source.digests.length;
  const merged = new Map<number, MergedRange>();
  let versions = 0;
  const done = (start: number, range: MergedRange): void => {
    merged.set(start, range);
    versions += range.versions;
    options.onProgress?.(versions, plan.versions);
  };
  for (const range of begun.ranges) {
    const noted = await readNote(archive, begun, range);
    if (noted) done(range.start, noted);
  }
  const few = plan.versions < WORKERS_FROM_VERSIONS;
  await mergeRanges(
    archive,
    { id: begun.id, plan, shards },
    begun.ranges.filter((range) => !merged.has(range.start)),
    options.workers ?? (few ? 0 : availableParallelism()),
    async (range, result) => {
      await writeNote(archive, begun, range, result);
      done(range.start, result);
    },
  );
  const results = begun.ranges.map((range) => merged.get(range.start) as MergedRange);
  const sum = (field: 'digest' | 'clockDigest'): ContentDigest => {
    const total = new ContentDigest(shards);
    for (const result of results) total.add(ContentDigest.from(result[field]));
    return total;
  };
  if (!('missing' in plan.source)) {
    const wrong = sum('clockDigest').difference(ContentDigest.from(plan.source.digests));
    if (wrong.length > 0) {
      await abandonSnapshot(archive, begun.id);
      throw new PitrError('verification-failed', {
        what: `the archive's state differs from the source's digest in shards ${wrong.join(', ')}`,
      });
    }
  }
  return {
    segments: inOneRun(results),
    digests: sum('digest').toShards(),
    records: results.reduce((n, r) => n + r.records, 0),
  };
};

/** Segments by (namespace, partition), which is the order of a run. */
const inOneRun = (results: readonly MergedRange[]): SegmentRef[] => {
  const byNamespace = new Map<string, SegmentRef[]>();
  for (const { parts } of results)
    for (const { namespace, segments } of parts)
      byNamespace.set(namespace, [...(byNamespace.get(namespace) ?? []), ...segments]);
  return [...byNamespace]
    .sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
    .flatMap(([, segments]) => segments);
};
