import { callDoor, isDoorClosed } from '../engine/door.ts';
import { isPitrError, PitrError } from '../engine/errors.ts';
import { PartitionSet } from '../engine/partition.ts';
import type { Archiver } from '../wal/archiver.ts';
import { Engine } from '../wal/engine.ts';
import { ownedPartitions, type Timeline } from '../wal/timeline.ts';
import { createBase } from './create.ts';
import type { SnapshotEntry } from './manifest.ts';
import { listSnapshots } from './snapshots.ts';

/**
 * Takes a base copy when the archive cannot know the stream's state from its log: after a gap, and where a history begins
 * without a past (a restore with filters). Of one of several engines it holds the partitions of that one, and the others go
 * on from what the archive has of them. Returns undefined when none is needed.
 */
export const anchorIfNeeded = async (archiver: Archiver): Promise<SnapshotEntry | undefined> =>
  // asked every few seconds: where none can be needed the archive is not looked at
  withPast.has(archiver) && archiver.head.gaps.length === 0 ? undefined : anchorAlone(archiver);

/** Those whose history has a past from its beginning, which never changes: only a gap makes them need a copy. */
const withPast = new WeakSet<Archiver>();

const anchorAlone = (archiver: Archiver): Promise<SnapshotEntry | undefined> =>
  // alone: while the base copy reads the store no engine may open it in this process, and two copies are one too many
  archiver.exclusively(async (own) => {
    const { archive, identity, head } = archiver;
    const timeline = await archive.timeline(identity.timeline);
    if (!timeline.detached) withPast.add(archiver);
    const mine = ownedBy(timeline, identity.stream);
    const bases = (await listSnapshots(archive, timeline.id)).filter(
      (s) => s.kind === 'base' && mine.subtract(PartitionSet.parse(s.partitions ?? 'all')).size === 0,
    );
    const newestBase = bases.at(-1)?.endTs ?? -1;
    const needed = (timeline.detached && bases.length === 0) || head.gaps.some((g) => g.untilTs > newestBase);
    if (!needed || mine.size === 0) return undefined;
    const sealed = await sealNow(archiver.dir);
    await own.archivePending();
    return createBase(archive, archiver.dir, sealed, async (lsn) => {
      // what this agent has archived stays true whoever has the stream later; what it has only in its log may never become history
      if (archiver.head.frontier.lsn >= lsn) return;
      await sealNow(archiver.dir);
      await own.archivePending();
      if (archiver.head.frontier.lsn < lsn)
        throw new PitrError('internal', { what: `a base copy at LSN ${lsn} that no seal covers` });
    });
  });

const ownedBy = (timeline: Timeline, stream: string): PartitionSet =>
  ownedPartitions({ ...timeline, ownership: timeline.ownership.filter((o) => o.stream === stream) });

/** Seals an engine's log, through its door or, when nobody has it open, by opening it; its store is current afterwards. */
export const sealNow = async (dir: string): Promise<{ lsn: number; ts: number }> => {
  try {
    return (await callDoor(dir, 'seal', { apply: true }, { timeoutMs: 60_000 })) as {
      lsn: number;
      ts: number;
    };
  } catch (error) {
    // one that is closing lets go of the lock soon, for which opening waits
    if (!isDoorClosed(error) && !isPitrError(error, 'engine-closed')) throw error;
  }
  const engine = await Engine.open({ dir, sealMs: 0, door: false });
  try {
    return await engine.sealApplied();
  } finally {
    await engine.close();
  }
};
