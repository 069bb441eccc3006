import { EngineRecord } from '../engine/engine-record.ts';
import { sortKeyOf } from '../engine/partition.ts';
import { entriesOfChunk } from '../engine/record-file.ts';
import { type RecordKey, resolveKey } from '../engine/record-key.ts';
import { stateKey } from '../engine/state-record.ts';
import type { PlannedRun, StatePlan } from '../snapshot/state-plan.ts';
import { planState } from '../snapshot/state-plan.ts';
import type { ArchiveView } from '../snapshot/view.ts';
import type { SegmentRef } from '../wal/segment.ts';
import type { InexactData } from './inexact-line.ts';
import { type RangeResult, type RestoreJob, runRange } from './range-job.ts';

/**
 * One record as it was at `ts`, straight from the archive: the filters of the segments leave a few blocks to read. `ts` must be
 * restorable. Undefined: it did not exist then.
 */
export const readAt = async (
  view: ArchiveView,
  key: RecordKey,
  ts: number,
): Promise<EngineRecord | undefined> => (await readWithDoubts(view, key, ts)).record;

/** The same, and why it is not certain that this is what the source had (S7); undefined: it is. */
export const readWithDoubts = async (
  view: ArchiveView,
  key: RecordKey,
  ts: number,
): Promise<{ record: EngineRecord | undefined; inexact: InexactData | undefined }> => {
  const id = resolveKey(key);
  const sortKey = sortKeyOf(id.digest);
  const plan = await planState(view, ts, { exactness: true });
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
  const read = (output: RestoreJob['output'], take: (chunk: Buffer) => void): Promise<RangeResult> =>
    runRange(
      view.archive,
      {
        plan: narrowed,
        selection: { namespaces: [id.namespace], digests: [id.digest.toString('hex')] },
        ttl: { mode: 'absolute', seconds: 0 },
        output,
        shards: 1,
      },
      { start: id.partition, end: id.partition + 1 },
      async (chunk) => take(chunk),
    );
  let record: EngineRecord | undefined;
  const result = await read('store', (chunk) => {
    for (const found of entriesOfChunk(chunk))
      if (found.key.equals(wanted)) record = EngineRecord.ofStore(found.key, Buffer.from(found.value));
  });
  let inexact: InexactData | undefined;
  if (result.inexact.records > 0)
    await read('inexact', (chunk) => {
      inexact = JSON.parse(chunk.toString('utf8'));
    });
  return { record, inexact };
};
