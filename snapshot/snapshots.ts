import { randomBytes } from 'node:crypto';
import { PitrError } from '../engine/errors.ts';
import type { Archive } from '../wal/archive.ts';
import { RETIRE_MS } from '../wal/catalog.ts';
import { decodeDocument, encodeDocument } from '../wal/document.ts';
import { LeaseWatch, listLeases } from '../wal/lease.ts';
import {
  hasOwnRows,
  type Snapshot,
  type SnapshotEntry,
  type SnapshotIndex,
  type StoredSnapshot,
  snapshotOf,
  snapshotSchema,
  storedSnapshot,
} from './manifest.ts';
import { type RestorableRange, restorable } from './ranges.ts';
import { deleteRetired } from './retired.ts';
import { changeIndex, readIndex } from './snapshot-index.ts';

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
  const stored = decodeDocument<StoredSnapshot>(
    'snapshot',
    await archive.store.read(entry.name),
    entry.name,
    snapshotSchema,
  );
  if (stored.archive !== archive.id)
    throw new PitrError('archive-mismatch', {
      what: entry.name,
      actual: stored.archive,
      expected: archive.id,
    });
  return snapshotOf(stored);
};

/**
 * Publishes a snapshot: first the manifest, then, as the one step that makes it exist, its line in the index. One with segments of
 * its own must have been begun, and nobody may have given it up; earlier ones of its kind that are still begun are given up with
 * that step. When another process has published the very same, that one is returned.
 * @throws snapshot-exists when the label is taken; cas-conflict when it was given up meanwhile
 */
export const publishSnapshot = async (archive: Archive, snapshot: Snapshot): Promise<SnapshotEntry> => {
  for (;;) {
    // one that was begun is protected by that
    const sweeps = hasOwnRows(snapshot) ? undefined : sweepsOf(await readIndex(archive));
    const published = await publishOnce(archive, snapshot, sweeps);
    if (published) return published;
  }
};

const sweepsOf = (index: SnapshotIndex | undefined): number => index?.sweeps ?? 0;

/** Undefined: manifests were swept since there had been `sweeps` sweeps, and that of this one may have been among them. */
const publishOnce = async (
  archive: Archive,
  snapshot: Snapshot,
  sweeps: number | undefined,
): Promise<SnapshotEntry | undefined> => {
  const { id, label, kind, timeline, parent, startTs, endTs, createdMs, records, partitions } = snapshot;
  const own = hasOwnRows(snapshot);
  // an attempt that is killed before the next step leaves its manifest, and the next attempt has the same id
  const name = `manifests/${timeline}/${id}/${randomBytes(6).toString('hex')}`;
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
  await archive.store.create(name, encodeDocument('snapshot', storedSnapshot(snapshot)));
  let published: SnapshotEntry | undefined;
  await changeIndex(archive, (index) => {
    const { snapshots, begun } = index;
    published = snapshots.find((s) => s.id === id);
    if (published) return index;
    const at = begun.findIndex((b) => b.id === id);
    if (own && begun[at]?.state !== 'working')
      throw new PitrError('cas-conflict', { name: `snapshot ${id}` });
    if (label !== null && snapshots.some((s) => s.label === label))
      throw new PitrError('snapshot-exists', { id: label });
    if (parent !== null && !snapshots.some((s) => s.id === parent))
      throw new PitrError('snapshot-unknown', { id: parent });
    if (sweeps !== undefined && sweepsOf(index) !== sweeps) return index;
    published = entry;
    return {
      ...index,
      snapshots: [...snapshots, entry],
      begun: begun.map((b, i) => {
        if (i === at) return { ...b, state: 'published' };
        const isEarlier =
          i < at &&
          b.kind === kind &&
          b.timeline === timeline &&
          b.stream === begun[at]?.stream &&
          b.state === 'working';
        return isEarlier ? { ...b, state: 'abandoned' } : b;
      }),
    };
  });
  return published;
};

/** What {@link deleteSnapshot} did: the snapshot is not there any more, its objects are for a while. */
export interface DeletedSnapshot extends SnapshotEntry {
  readonly frees: {
    readonly objects: number;
    readonly bytes: number;
    /** Not before this instant, and not before those have ended who read it. Epoch ms. */
    readonly afterMs: number;
    /** Who may read it now: `restore`, `verify` … */
    readonly readers: readonly string[];
  };
}

/**
 * Deletes a snapshot: its line now; manifest and own segments when nobody can read them any more, by whoever comes then (an
 * agent, the next that is taken or deleted).
 * @throws snapshot-in-use when another snapshot depends on it, or when instants would stop being restorable
 */
export const deleteSnapshot = async (archive: Archive, idOrLabel: string): Promise<DeletedSnapshot> => {
  await deleteRetired(archive, new LeaseWatch(archive, archive.clock));
  const entry = await findSnapshot(archive, idOrLabel);
  const { segments } = await readSnapshot(archive, entry);
  const manifestBytes = (await archive.store.size(entry.name)) ?? 0;
  const all = await archive.timelines();
  const heads = new Map(
    await Promise.all(all.timelines.map(async (t) => [t.id, await archive.heads(t)] as const)),
  );
  const shown = entry.label ?? entry.id;
  const sinceMs = archive.clock.nowMs();
  const names = [...segments.map((s) => s.name), entry.name];
  await changeIndex(archive, (index) => {
    const { snapshots } = index;
    const child = snapshots.find((s) => s.parent === entry.id);
    if (child)
      throw new PitrError('snapshot-in-use', { id: shown, by: `snapshot ${child.label ?? child.id}` });
    // an earlier try of this swap, or somebody else at the same moment
    if (!snapshots.some((s) => s.id === entry.id)) return index;
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
    const retired = { id: entry.id, timeline: entry.timeline, names, sinceMs, leases: null };
    return { ...index, snapshots: rest, retired: [...(index.retired ?? []), retired] };
  });
  const nowMs = archive.clock.nowMs();
  const readers = (await listLeases(archive)).filter((l) => nowMs - l.renewedMs <= l.ttlMs);
  return {
    ...entry,
    frees: {
      objects: names.length,
      bytes: segments.reduce((n, s) => n + s.bytes, manifestBytes),
      afterMs: sinceMs + RETIRE_MS,
      readers: readers.map((l) => l.purpose),
    },
  };
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
