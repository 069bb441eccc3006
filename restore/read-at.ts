import { EngineRecord } from '../engine/engine-record.ts';
import { sortKeyOf } from '../engine/partition.ts';
import { entriesOfChunk } from '../engine/record-file.ts';
import { type RecordKey, resolveKey } from '../engine/record-key.ts';
import { stateKey } from '../engine/state-record.ts';
import type { PlannedRun, StatePlan } from '../snapshot/state-plan.ts';
import { planState } from '../snapshot/state-plan.ts';
import type { ArchiveView } from '../snapshot/view.ts';
import type { SegmentRef } from '../wal/segment.ts';
import { runRange } from './range-job.ts';

/**
 * One record as it was at `ts`, straight from the archive: the filters of the segments leave a few blocks to read. `ts` must be
 * restorable. Undefined: it did not exist then.
 */
export const readAt = async (
  view: ArchiveView,
  key: RecordKey,
  ts: number,
): Promise<EngineRecord | undefined> => {
  const id = resolveKey(key);
  const sortKey = sortKeyOf(id.digest);
  const plan = await planState(view, ts);
  const mayHold = async (ref: SegmentRef): Promise<boolean> => {
    if (id.partition < ref.partitions.start || id.partition >= ref.partitions.end) return false;
    const reader = await view.archive.reader(ref);
    return (await reader.candidates(id.namespace, sortKey)).length > 0;
  };
  const asked = await Promise.all(
    plan.runs.map(async (run): Promise<PlannedRun> => {
      const may = await Promise.all(run.segments.map(mayHold));
      return { ...run, segments: run.segments.filter((_, i) => may[i]) };
    }),
  );
  const runs = asked.filter((run) => run.segments.length > 0);
  const narrowed: StatePlan = { ...plan, runs, source: { missing: 'a single record is read' } };
  const wanted = stateKey(id.namespace, sortKey);
  let found: EngineRecord | undefined;
  await runRange(
    view.archive,
    {
      plan: narrowed,
      selection: { namespaces: [id.namespace], digests: [id.digest.toString('hex')] },
      ttl: { mode: 'absolute', seconds: 0 },
      output: 'store',
      shards: 1,
    },
    { start: id.partition, end: id.partition + 1 },
    async (chunk) => {
      for (const record of entriesOfChunk(chunk))
        if (record.key.equals(wanted)) found = EngineRecord.ofStore(record.key, Buffer.from(record.value));
    },
  );
  return found;
};
