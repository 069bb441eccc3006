import type { PartitionRange } from '../engine/partition.ts';
import { type Archive, segmentName } from '../wal/archive.ts';
import { Merge } from '../wal/merge.ts';
import type { RunCursor } from '../wal/run-cursor.ts';
import { RunWriter } from '../wal/run-writer.ts';
import { joinSpans } from '../wal/segment.ts';
import { StateAt } from '../wal/state-at.ts';
import { snapshotFolder } from './begun.ts';
import type { MergedRange } from './progress-note.ts';
import type { StatePlan } from './state-plan.ts';

/** What a synthetic snapshot is made of: plain data, the same for every range. */
export interface MergeJob {
  /** Id of the snapshot. */
  readonly id: string;
  readonly plan: StatePlan;
  readonly shards: number;
}

/**
 * Merges the planned state of a range of partitions into segments of its own: the latest version of each record, no deletes
 * (the bottom is included) but those of which the window has not ended before the instant. A segment holds one namespace, so that those of several ranges can be put into one sorted run.
 */
export const mergeRange = async (
  archive: Archive,
  { id, plan, shards }: MergeJob,
  range: PartitionRange,
): Promise<MergedRange> => {
  const readers = await Promise.all(
    plan.runs.map((run) =>
      Promise.all(
        run.segments
          .filter((s) => s.partitions.start < range.end && s.partitions.end > range.start)
          .map((s) => archive.reader(s)),
      ),
    ),
  );
  const merge = new Merge(readers, range);
  const streams = joinSpans(readers.flat().flatMap((r) => r.properties.header.streams));
  const writerOf = (): RunWriter =>
    new RunWriter(
      {
        store: archive.store,
        archive: archive.id,
        timeline: plan.timeline,
        level: -1,
        generation: 0,
        streams,
        namespaces: merge.namespaces,
        nameOf: () => segmentName(plan.timeline, snapshotFolder(id), 0, range.start, range.end, 0),
      },
      merge.sources,
      [],
    );
  const parts: { namespace: string; segments: Awaited<ReturnType<RunWriter['finish']>> }[] = [];
  let writer: { readonly namespace: number; readonly out: RunWriter } | undefined;
  const full: { readonly namespace: number; readonly out: RunWriter }[] = [];
  const finish = async ({ namespace, out }: { namespace: number; out: RunWriter }): Promise<void> => {
    parts.push({ namespace: merge.namespaces[namespace], segments: await out.finish() });
  };
  const append = (cursor: RunCursor, voidTime: number): boolean => {
    if (writer?.namespace !== cursor.namespace) {
      if (writer) full.push(writer);
      writer = { namespace: cursor.namespace, out: writerOf() };
    }
    return writer.out.append(cursor, voidTime) || full.length > 0;
  };
  const state: StateAt = new StateAt({
    merge,
    limits: plan.runs.map((r) => r.limits),
    ts: plan.ts,
    truncations: plan.truncations,
    shards,
    keepExpired: true,
    sink: append,
    stillOpen: append,
    drain: async () => {
      for (const ended of full.splice(0)) await finish(ended);
      await writer?.out.flush();
    },
    ...('missing' in plan.source ? {} : { clockTs: Float64Array.from(plan.source.clockTs) }),
  });
  await state.run();
  if (writer) await finish(writer);
  return {
    parts,
    digest: state.digest.toShards(),
    clockDigest: state.clockDigest.toShards(),
    records: state.records,
    versions: state.versions,
  };
};
