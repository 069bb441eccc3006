import type { Archive } from '../wal/archive.ts';
import { type SnapshotIndex, snapshotIndexSchema } from './manifest.ts';

const INDEX_OBJECT = 'snapshots';

/** Undefined before the first snapshot. */
export const readIndex = async (archive: Archive): Promise<SnapshotIndex | undefined> =>
  (await archive.readDocument<SnapshotIndex>('snapshots', INDEX_OBJECT, snapshotIndexSchema))?.value;

/** Returns what the index then is. */
export const changeIndex = (
  archive: Archive,
  change: (index: SnapshotIndex) => SnapshotIndex,
): Promise<SnapshotIndex> =>
  archive.updateDocument<SnapshotIndex>(
    'snapshots',
    INDEX_OBJECT,
    (index) => change(index ?? { archive: archive.id, snapshots: [], begun: [] }),
    snapshotIndexSchema,
  );
