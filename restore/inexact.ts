import { PitrError } from '../engine/errors.ts';
import { PartitionSet } from '../engine/partition.ts';
import type { Archive } from '../wal/archive.ts';
import { InOrder } from './in-order.ts';
import type { RestoreOptions } from './plan.ts';
import type { InexactTotals, RestoreJob } from './range-job.ts';
import { type RangePool, rangesFor } from './range-pool.ts';
import { addRanges, noRange } from './range-totals.ts';

/**
 * Tells which records are inexact, to who wants to know, and refuses them when the restore is strict. `known`: the counts, when a merge
 * has given them already; without it, and where a list is wanted, what decides is merged for them alone.
 * @throws inexact
 */
export const sayInexact = async (
  archive: Archive,
  pool: RangePool,
  job: RestoreJob,
  options: Pick<RestoreOptions, 'strict' | 'onInexact' | 'workers'>,
  known?: InexactTotals,
): Promise<void> => {
  let totals = job.plan.exactness ? known : NONE;
  if (!totals || (totals.records > 0 && options.onInexact))
    totals = await listInexact(archive, pool, job, options);
  const { records, missed, windows } = totals;
  if (!options.strict || records === 0) return;
  throw new PitrError('inexact', { records, missed, windows, target: new Date(job.plan.ts).toISOString() });
};

const NONE: InexactTotals = { records: 0, missed: 0, windows: 0 };

const listInexact = async (
  archive: Archive,
  pool: RangePool,
  { plan, selection, ttl, shards }: RestoreJob,
  { onInexact = async () => undefined, workers = 2 }: Pick<RestoreOptions, 'onInexact' | 'workers'>,
): Promise<InexactTotals> => {
  const source = { missing: 'only what is inexact is read' };
  const job: RestoreJob = { plan: { ...plan, source }, selection, ttl, shards, output: 'inexact' };
  const ranges = rangesFor(archive, plan, PartitionSet.parse(selection.partitions ?? 'all'), workers);
  const lines = new InOrder(onInexact);
  let totals = noRange(shards);
  await pool.merge(job, ranges, {
    onChunk: (chunk, index) => lines.chunk(chunk, index),
    onRange: async (index, result) => {
      totals = addRanges(totals, result);
      await lines.end(index);
    },
  });
  return totals.inexact;
};
