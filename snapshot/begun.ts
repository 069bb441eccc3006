import { createHash, randomBytes } from 'node:crypto';
import { PitrError } from '../engine/errors.ts';
import { PARTITIONS, type PartitionRange } from '../engine/partition.ts';
import type { Archive } from '../wal/archive.ts';
import { type LeaseWatch, listLeases } from '../wal/lease.ts';
import type { Begun, SnapshotIndex } from './manifest.ts';
import { noteName } from './progress-note.ts';
import { changeIndex, readIndex } from './snapshot-index.ts';
import { readSnapshot } from './snapshots.ts';
import type { StatePlan } from './state-plan.ts';

/** Stored bytes that one range reads: what a kill can cost, and what one worker does at a time. */
const RANGE_BYTES = 8 * 1024 * 1024;
const RANGES_MAX = 512;

/** `20261121-100000-3fa9`: when it ends (UTC), and something random. */
export const newSnapshotId = (endTs: number): string => {
  const at = new Date(endTs).toISOString().replace(/[-:]/g, '').replace('T', '-').slice(0, 15);
  return `${at}-${randomBytes(2).toString('hex')}`;
};

/** The folder of a snapshot's own segments. */
export const snapshotFolder = (id: string): string => `snapshots-${id}`;

/**
 * What the segments of a snapshot follow from, as sha256: the same state, the same events, and the same statement of the
 * source. Objects are not in it: compaction may replace them between two attempts.
 */
export const planHash = ({ timeline, ts, source, truncations, definitions }: StatePlan): string => {
  const events = [...truncations, ...definitions].map((e) => JSON.stringify(e)).sort();
  return createHash('sha256')
    .update(JSON.stringify([timeline, ts, source, events]))
    .digest('hex');
};

/** Cuts all partitions into ranges of about equal work. */
export const rangesOf = (bytes: number, rangeBytes = RANGE_BYTES): PartitionRange[] => {
  const count = Math.min(RANGES_MAX, Math.max(1, Math.ceil(bytes / rangeBytes)));
  const step = Math.ceil(PARTITIONS / count);
  const ranges: PartitionRange[] = [];
  for (let start = 0; start < PARTITIONS; start += step)
    ranges.push({ start, end: Math.min(PARTITIONS, start + step) });
  return ranges;
};

export const listBegun = async (archive: Archive): Promise<readonly Begun[]> =>
  (await readIndex(archive))?.begun ?? [];

/**
 * Enters a snapshot as begun, or finds the same one that an earlier attempt began: same kind, timeline and plan.
 * @throws snapshot-exists when the label is taken: better said before the work than after it
 */
export const beginSnapshot = async (
  archive: Archive,
  wanted: Omit<Begun, 'id' | 'createdMs' | 'state'>,
): Promise<Begun> => {
  await sweepBegun(archive);
  let begun: Begun | undefined;
  await changeIndex(archive, (index) => {
    const { label } = wanted;
    if (label !== null && index.snapshots.some((s) => s.label === label))
      throw new PitrError('snapshot-exists', { id: label });
    const isSame = (b: Begun): boolean =>
      b.state === 'working' &&
      b.kind === wanted.kind &&
      b.timeline === wanted.timeline &&
      b.plan === wanted.plan;
    const found = index.begun.find(isSame);
    // also when it is found: who is about to give it up must see that somebody has taken it up
    const mine: Begun = found
      ? { ...found, attempts: (found.attempts ?? 1) + 1 }
      : { ...wanted, id: newSnapshotId(wanted.endTs), createdMs: archive.clock.nowMs(), state: 'working' };
    begun = mine;
    return {
      ...index,
      begun: found ? index.begun.map((b) => (b === found ? mine : b)) : [...index.begun, mine],
    };
  });
  return begun as Begun;
};

/** Gives up what was begun: nothing of it is taken over, and the next sweep deletes it. */
export const abandonSnapshot = async (archive: Archive, id: string): Promise<void> => {
  await changeIndex(archive, (index) => withoutWork(index, (b) => b.id === id));
  await sweepBegun(archive);
};

const withoutWork = (index: SnapshotIndex, isOver: (begun: Begun) => boolean): SnapshotIndex => ({
  ...index,
  begun: index.begun.map((b) => (b.state === 'working' && isOver(b) ? { ...b, state: 'abandoned' } : b)),
});

/** Leases under which snapshots are begun and taken up. */
export const MAKERS: ReadonlySet<string> = new Set(['snapshot', 'base copy']);

/**
 * Gives up a snapshot on which nobody works any more. Whoever takes one up writes his lease first and his attempt then: so
 * either his lease is seen here, or his attempt is, and it stays. False: it stays.
 */
export const giveUpBegun = async (archive: Archive, watch: LeaseWatch, begun: Begun): Promise<boolean> => {
  await watch.held();
  if ((await listLeases(archive)).some((lease) => MAKERS.has(lease.purpose))) return false;
  let isGivenUp = false;
  await changeIndex(archive, (index) => {
    isGivenUp = index.begun.some((b) => isSameAttempt(b, begun));
    return isGivenUp ? withoutWork(index, (b) => isSameAttempt(b, begun)) : index;
  });
  return isGivenUp;
};

const isSameAttempt = (a: Begun, b: Begun): boolean =>
  a.id === b.id && a.state === 'working' && a.attempts === b.attempts;

/**
 * Deletes what attempts left that are over: of abandoned ones everything, of published ones what the manifest does not name; what is
 * retired has its own time (N3). The entry goes last, so a sweep that is killed is done again by the next one. What cannot be
 * deleted keeps its entry. `mine`: what this process has worked on.
 */
export const sweepBegun = async (archive: Archive, mine?: Begun): Promise<void> => {
  // one index for all questions: a snapshot that is deleted meanwhile must not look like one that never was
  const index = await readIndex(archive);
  const all = index?.begun ?? [];
  const over = all.filter((b) => b.state !== 'working');
  // somebody else may have ended it and swept already, while this process still wrote
  if (mine && !all.some((b) => b.id === mine.id)) over.push(mine);
  if (over.length === 0) return;
  const retired = index?.retired?.flatMap((r) => r.names) ?? [];
  const swept = new Set<string>();
  for (const begun of over) {
    const entry = index?.snapshots.find((s) => s.id === begun.id);
    const manifest = entry && (await readSnapshot(archive, entry));
    const named = new Set([...retired, ...(manifest?.segments.map((s) => s.name) ?? [])]);
    if (entry) named.add(entry.name);
    const left = [
      ...(await archive.store.list(`segments/${begun.timeline}/${snapshotFolder(begun.id)}/`)),
      ...(await archive.store.list(`manifests/${begun.timeline}/${begun.id}/`)),
    ];
    const names = left.map((o) => o.name).filter((name) => !named.has(name));
    names.push(...begun.ranges.map((range) => noteName(begun, range)));
    if ((await archive.store.delete(names)).length === 0) swept.add(begun.id);
  }
  await changeIndex(archive, (now) => ({ ...now, begun: now.begun.filter((b) => !swept.has(b.id)) }));
};
