import { callDoor, isDoorClosed } from '../engine/door.ts';
import { isPitrError } from '../engine/errors.ts';
import { PartitionSet } from '../engine/partition.ts';
import type { Archiver } from '../wal/archiver.ts';
import { Engine } from '../wal/engine.ts';
import { createBase } from './create.ts';
import type { SnapshotEntry } from './manifest.ts';
import { listSnapshots } from './snapshots.ts';

/**
 * Takes a base copy when the archive cannot know the stream's state from its log: after a gap, and where a history begins
 * without a past (a restore with filters). Only for an engine that owns its timeline alone: a base copy holds one engine's
 * records. Returns undefined when none is needed.
 */
export const anchorIfNeeded = (archiver: Archiver): Promise<SnapshotEntry | undefined> =>
  // alone: while the base copy reads the store no engine may open it in this process, and two copies are one too many
  archiver.exclusively(async (own) => {
    const { archive, identity, head } = archiver;
    const timeline = await archive.timeline(identity.timeline);
    const bases = (await listSnapshots(archive, timeline.id)).filter((s) => s.kind === 'base');
    const newestBase = bases.at(-1)?.endTs ?? -1;
    const needed = (timeline.detached && bases.length === 0) || head.gaps.some((g) => g.untilTs > newestBase);
    const alone = timeline.streams.length === 1 && PartitionSet.parse(identity.partitions).size > 0;
    if (!needed || !alone) return undefined;
    const sealed = await sealNow(archiver.dir);
    await own.archivePending();
    return createBase(archive, archiver.dir, sealed);
  });

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
