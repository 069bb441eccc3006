import type { Archive } from '../wal/archive.ts';
import { RETIRE_MS } from '../wal/catalog.ts';
import type { Deletion } from '../wal/held-head.ts';
import type { LeaseWatch } from '../wal/lease.ts';
import type { RetiredSnapshot, SnapshotIndex } from './manifest.ts';
import { changeIndex, readIndex } from './snapshot-index.ts';

/** An id is retired once: it is never given again while its objects are there. */
const withRetired = (index: SnapshotIndex, retired: readonly RetiredSnapshot[]): SnapshotIndex => ({
  ...index,
  retired,
});

/**
 * Deletes the objects of snapshots that were deleted, as an archiver does with what its merges replaced (A6): the leases that are
 * held when somebody first looks after the margin are noted, and the objects go when none of these is held any more. A lease that
 * is taken later belongs to an index that is read later. Whoever comes does it, and several may at once: who has read an
 * index in which a snapshot is retired knows that no swap can bring it back.
 */
export const deleteRetired = async (
  archive: Archive,
  watch: LeaseWatch,
  retireMs = RETIRE_MS,
): Promise<Deletion> => {
  const beforeMs = archive.clock.nowMs() - retireMs;
  const due = ((await readIndex(archive))?.retired ?? []).filter((r) => r.sinceMs <= beforeMs);
  if (due.length === 0) return { deleted: [], failed: [] };
  // after the index: only what was retired before may be judged by these
  const held = await watch.held();
  const ids = new Set(due.map((r) => r.id));
  const noted = await changeIndex(archive, (index) =>
    (index.retired ?? []).some((r) => ids.has(r.id) && r.leases === null)
      ? withRetired(
          index,
          (index.retired ?? []).map((r) =>
            ids.has(r.id) && r.leases === null ? { ...r, leases: [...held] } : r,
          ),
        )
      : index,
  );
  const free = (noted.retired ?? []).filter(
    (r) => ids.has(r.id) && r.leases?.every((lease) => !held.has(lease)),
  );
  if (free.length === 0) return { deleted: [], failed: [] };
  const names = free.flatMap((r) => r.names);
  const failed = await archive.store.delete(names);
  const left = new Set(failed.map((f) => f.name));
  const gone = new Set(free.map((r) => r.id));
  // forgotten only after the deletion, which may be repeated; what could not be deleted stays
  await changeIndex(archive, (index) =>
    withRetired(
      index,
      (index.retired ?? []).flatMap((r) => {
        if (!gone.has(r.id)) return [r];
        const kept = r.names.filter((name) => left.has(name));
        return kept.length > 0 ? [{ ...r, names: kept }] : [];
      }),
    ),
  );
  return { deleted: names.filter((name) => !left.has(name)), failed };
};
