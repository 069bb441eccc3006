import { PitrError } from '../engine/errors.ts';
import type { Archive } from '../wal/archive.ts';
import { decodeDocument, encodeDocument } from '../wal/document.ts';
import type { Snapshot, SnapshotEntry, SnapshotIndex } from './manifest.ts';
import { type RestorableRange, restorable } from './ranges.ts';

const INDEX_OBJECT = 'snapshots';

/** Snapshots that exist, oldest end first; of one timeline, or of all. */
export const listSnapshots = async (archive: Archive, timeline?: string): Promise<SnapshotEntry[]> => {
  const index = await archive.readDocument<SnapshotIndex>('snapshots', INDEX_OBJECT);
  return (index?.value.snapshots ?? [])
    .filter((s) => timeline === undefined || s.timeline === timeline)
    .sort((a, b) => a.endTs - b.endTs || a.createdMs - b.createdMs);
};

/** By id, by the start of an id that is unique, or by label. @throws snapshot-unknown */
export const findSnapshot = async (archive: Archive, idOrLabel: string): Promise<SnapshotEntry> => {
  const all = await listSnapshots(archive);
  const exact = all.find((s) => s.id === idOrLabel || s.label === idOrLabel);
  const starting = all.filter((s) => s.id.startsWith(idOrLabel));
  const found = exact ?? (starting.length === 1 ? starting[0] : undefined);
  if (!found) throw new PitrError('snapshot-unknown', { id: idOrLabel });
  return found;
};

export const readSnapshot = async (archive: Archive, entry: SnapshotEntry): Promise<Snapshot> => {
  const snapshot = decodeDocument<Snapshot>('snapshot', await archive.store.read(entry.name), entry.name);
  if (snapshot.archive !== archive.id)
    throw new PitrError('archive-mismatch', {
      what: entry.name,
      actual: snapshot.archive,
      expected: archive.id,
    });
  return snapshot;
};

/**
 * Publishes a snapshot: first the manifest, then, as the one step that makes it exist, its line in the index.
 * @throws snapshot-exists when the label is taken
 */
export const publishSnapshot = async (archive: Archive, snapshot: Snapshot): Promise<SnapshotEntry> => {
  const { id, label, kind, timeline, parent, startTs, endTs, createdMs, records, partitions } = snapshot;
  const name = `manifests/${timeline}/${id}`;
  const entry: SnapshotEntry = {
    id,
    label,
    kind,
    timeline,
    parent,
    startTs,
    endTs,
    createdMs,
    records,
    ...(partitions === undefined ? {} : { partitions }),
    name,
  };
  await archive.store.create(name, encodeDocument('snapshot', snapshot));
  await archive.updateDocument<SnapshotIndex>('snapshots', INDEX_OBJECT, (index) => {
    const snapshots = index?.snapshots ?? [];
    if (label !== null && snapshots.some((s) => s.label === label))
      throw new PitrError('snapshot-exists', { id: label });
    if (parent !== null && !snapshots.some((s) => s.id === parent))
      throw new PitrError('snapshot-unknown', { id: parent });
    return { archive: archive.id, snapshots: [...snapshots, entry] };
  });
  return entry;
};

/**
 * Deletes a snapshot: its line first, then manifest and own segments.
 * @throws snapshot-in-use when another snapshot depends on it, or when instants would stop being restorable
 */
export const deleteSnapshot = async (archive: Archive, idOrLabel: string): Promise<SnapshotEntry> => {
  const entry = await findSnapshot(archive, idOrLabel);
  const snapshot = await readSnapshot(archive, entry);
  const all = await archive.timelines();
  const heads = new Map(
    await Promise.all(all.timelines.map(async (t) => [t.id, await archive.heads(t)] as const)),
  );
  const shown = entry.label ?? entry.id;
  await archive.updateDocument<SnapshotIndex>('snapshots', INDEX_OBJECT, (index) => {
    const snapshots = index?.snapshots ?? [];
    const child = snapshots.find((s) => s.parent === entry.id);
    if (child)
      throw new PitrError('snapshot-in-use', { id: shown, by: `snapshot ${child.label ?? child.id}` });
    const rest = snapshots.filter((s) => s.id !== entry.id);
    // a fork stands on what its parent can restore, so every timeline is asked
    for (const { id } of all.timelines) {
      const lost = firstLost(
        restorable(all, id, heads, snapshots).ranges,
        restorable(all, id, heads, rest).ranges,
      );
      if (lost !== undefined)
        throw new PitrError('snapshot-in-use', {
          id: shown,
          by: `what timeline ${id} can restore from ${new Date(lost).toISOString()} on`,
        });
    }
    return { archive: archive.id, snapshots: rest };
  });
  await archive.store.delete([...snapshot.segments.map((s) => s.name), entry.name]);
  return entry;
};

/** The first instant that `before` covers and `after` does not. */
const firstLost = (
  before: readonly RestorableRange[],
  after: readonly RestorableRange[],
): number | undefined => {
  for (const range of before) {
    let at = range.fromTs;
    for (const r of after) if (r.fromTs <= at && at <= r.toTs) at = r.toTs + 1;
    if (at <= range.toTs) return at;
  }
  return undefined;
};
