import { randomBytes } from 'node:crypto';
import { PitrError } from '../engine/errors.ts';
import type { Archive } from '../wal/archive.ts';
import { decodeDocument, encodeDocument } from '../wal/document.ts';
import { listLeases } from '../wal/lease.ts';
import {
  hasOwnRows,
  type Snapshot,
  type SnapshotEntry,
  type SnapshotIndex,
  snapshotIndexSchema,
  snapshotSchema,
} from './manifest.ts';
import { type RestorableRange, restorable } from './ranges.ts';

const INDEX_OBJECT = 'snapshots';

/** Undefined before the first snapshot. */
export const readIndex = async (archive: Archive): Promise<SnapshotIndex | undefined> =>
  (await archive.readDocument<SnapshotIndex>('snapshots', INDEX_OBJECT, snapshotIndexSchema))?.value;

export const changeIndex = async (
  archive: Archive,
  change: (index: SnapshotIndex | undefined) => SnapshotIndex,
): Promise<void> => {
  await archive.updateDocument<SnapshotIndex>('snapshots', INDEX_OBJECT, change, snapshotIndexSchema);
};

/** Snapshots that exist, oldest end first; of one timeline, or of all. */
export const listSnapshots = async (archive: Archive, timeline?: string): Promise<SnapshotEntry[]> => {
  const index = await readIndex(archive);
  return (index?.snapshots ?? [])
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
  const snapshot = decodeDocument<Snapshot>(
    'snapshot',
    await archive.store.read(entry.name),
    entry.name,
    snapshotSchema,
  );
  if (snapshot.archive !== archive.id)
    throw new PitrError('archive-mismatch', {
      what: entry.name,
      actual: snapshot.archive,
      expected: archive.id,
    });
  return snapshot;
};

/**
 * Publishes a snapshot: first the manifest, then, as the one step that makes it exist, its line in the index. One with segments of
 * its own must have been begun, and nobody may have given it up; earlier ones of its kind that are still begun are given up with
 * that step. When another process has published the very same, that one is returned.
 * @throws snapshot-exists when the label is taken; cas-conflict when it was given up meanwhile
 */
export const publishSnapshot = async (archive: Archive, snapshot: Snapshot): Promise<SnapshotEntry> => {
  const { id, label, kind, timeline, parent, startTs, endTs, createdMs, records, partitions } = snapshot;
  const own = hasOwnRows(snapshot);
  // an attempt that is killed before the next step leaves its manifest, and the next attempt has the same id
  const name = `manifests/${timeline}/${id}${own ? `/${randomBytes(6).toString('hex')}` : ''}`;
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
  let published = entry;
  await changeIndex(archive, (index) => {
    const snapshots = index?.snapshots ?? [];
    const same = snapshots.find((s) => s.id === id);
    if (index && same) {
      published = same;
      return index;
    }
    const begun = index?.begun ?? [];
    const at = begun.findIndex((b) => b.id === id);
    if (own && begun[at]?.state !== 'working')
      throw new PitrError('cas-conflict', { name: `snapshot ${id}` });
    if (label !== null && snapshots.some((s) => s.label === label))
      throw new PitrError('snapshot-exists', { id: label });
    if (parent !== null && !snapshots.some((s) => s.id === parent))
      throw new PitrError('snapshot-unknown', { id: parent });
    return {
      archive: archive.id,
      snapshots: [...snapshots, entry],
      begun: begun.map((b, i) => {
        if (i === at) return { ...b, state: 'published' };
        const isEarlier = i < at && b.kind === kind && b.timeline === timeline && b.state === 'working';
        return isEarlier ? { ...b, state: 'abandoned' } : b;
      }),
    };
  });
  return published;
};

/**
 * Deletes a snapshot: its line first, then manifest and own segments.
 * @throws snapshot-in-use when another snapshot depends on it, when instants would stop being restorable, or while somebody works by
 * a catalog that may name its segments
 */
export const deleteSnapshot = async (archive: Archive, idOrLabel: string): Promise<SnapshotEntry> => {
  const entry = await findSnapshot(archive, idOrLabel);
  const snapshot = await readSnapshot(archive, entry);
  const all = await archive.timelines();
  const heads = new Map(
    await Promise.all(all.timelines.map(async (t) => [t.id, await archive.heads(t)] as const)),
  );
  const shown = entry.label ?? entry.id;
  // by the clock of this machine, unlike an archiver: nobody waits here, and a dead lease must not keep a snapshot for ever
  const nowMs = archive.clock.nowMs();
  const reader = (await listLeases(archive)).find((l) => nowMs - l.renewedMs <= l.ttlMs);
  if (reader && snapshot.segments.length > 0)
    throw new PitrError('snapshot-in-use', { id: shown, by: `a running ${reader.purpose}` });
  await changeIndex(archive, (index) => {
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
    return { archive: archive.id, snapshots: rest, begun: index?.begun ?? [] };
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
