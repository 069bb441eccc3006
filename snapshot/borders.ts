import type { Archive } from '../wal/archive.ts';
import { isSelfContained } from './manifest.ts';
import { listSnapshots } from './snapshots.ts';

/**
 * Ends of the full copies of a history, ms, ascending. A restore begins at the nearest one before its target and reads the log
 * from there: compaction keeps what is before a copy apart from what is after it, so that this stays little.
 */
export const fullCopyEnds = async (archive: Archive, timeline: string): Promise<number[]> =>
  (await listSnapshots(archive, timeline)).filter(isSelfContained).map((s) => s.endTs);
